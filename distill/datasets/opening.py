"""Several data sets at once, so that one look says what is missing of all of them."""

from collections.abc import Callable, Iterable

from distill.types import Dataset


def open_all(openers: Iterable[Callable[[], Dataset]]) -> list[Dataset]:
    """Each data set in turn; whoever cannot be opened is told together with the others.

    Args:
        openers: `partial(Hypersim, root)` and the like, whose constructors are cheap.

    Raises:
        ValueError: some cannot be opened; a line for each reason. A single reason comes as it is.
        FileNotFoundError: likewise.
    """
    opened: list[Dataset] = []
    failures: list[ValueError | OSError] = []
    for opener in openers:
        try:
            opened.append(opener())
        except (ValueError, OSError) as error:
            failures.append(error)
    lines = dict.fromkeys(f"  {error}" for error in failures)  # one set may be opened twice
    if len(lines) == 1:
        raise failures[0]
    if lines:
        raise ValueError(f"{len(lines)} data sets cannot be opened:\n" + "\n".join(lines))
    return opened
