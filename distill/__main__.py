"""`python -m distill` is the `distill` program."""

from distill.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
