"""The `distill` program: one verb per thing to do, one example in each verb's help.

Exit codes: 0 done; 1 finished with inputs that failed (named); 2 wrong usage or input; 3 stopped
by a guard; 70 a fault of the program, with its traceback; 130 after Ctrl-C; 143 after SIGTERM with
a checkpoint written. Under a torchrun that restarts, 1 becomes 0, and 3 ends torchrun.
"""

import argparse
import importlib
import json
import logging
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from distill import job as jobs
from distill import label_verbs, launch
from distill import recipe as recipes
from distill.arguments import parser, place
from distill.explaining import explain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    args = parser(__doc__, VERBS).parse_args(arguments)
    code = 0
    try:
        args.verb(args)
    except jobs.PartialFailure as error:
        code = _fail(str(error), 1)
    except jobs.GuardStop as error:
        code = _fail(f"stopped: {error}", 3)
    except jobs.Interrupted as error:
        code = _fail(str(error), 143)
    except KeyboardInterrupt:
        code = _fail("interrupted", 130)
    except BrokenPipeError:  # the reader of our output went away
        sys.stderr.close()
    except (ValueError, OSError, ImportError) as error:
        code = _fail(f"error: {error}", 2)
    except Exception:
        logging.exception("distill: a fault of the program; please report it with what follows")
        code = os.EX_SOFTWARE
    return launch.heard(code)


def run(args: argparse.Namespace) -> None:
    """Build the recipe's job and run it, on record."""
    launch.die_with_launcher()
    recipe = recipes.load(args.recipe)
    job, inputs = recipes.build(recipe, data=args.data, settings=_settings(args.set))
    with jobs.recorded(args.out, job, recipe=args.recipe, inputs=inputs):
        job.run(args.out, resume=args.resume)


def show(args: argparse.Namespace) -> None:
    """Print every value a recipe decides, with its source."""
    recipe = recipes.load(args.recipe)
    data = Path("DATA") if args.data is None else args.data
    job, inputs = recipes.build(recipe, data=data, settings=_settings(args.set))
    if args.data is None:
        inputs.pop("data", None)
    print(explain(recipe, job, inputs))


def list_recipes(_: argparse.Namespace) -> None:
    """Print every shipped recipe with its first line."""
    package = importlib.import_module("recipes")
    modules = [f"recipes.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    shipped = {
        f"{module}:{recipe.__name__}": (recipe.__doc__ or "").strip().splitlines()[0]
        for module in modules
        for recipe in recipes.recipes_of(importlib.import_module(module))
    }
    width = max(map(len, shipped))
    for name, first in shipped.items():
        print(f"{name:<{width}}  {first}")


def inspect_data(args: argparse.Namespace) -> None:
    """Say what lies at a path: layout, unit, range, doubts, and the line for a recipe."""
    from distill.inspection.findings import as_json
    from distill.inspection.inspect import inspect

    found = inspect(args.path, samples=args.samples, allow_8bit=args.allow_8bit, out=args.out)
    if args.json:
        print(json.dumps(as_json(found), indent=2))
    else:
        print(f"{found.text}\n{'sheet':<10} {args.out}")
    if found.refused:
        raise ValueError(found.refused)


def check_data(args: argparse.Namespace) -> None:
    """Read a part of what a recipe needs, before step 1; nothing is written."""
    from distill.inspection.check import check

    found = check(_job(args, args.recipe), samples=args.samples, complete=args.complete)
    print(json.dumps(found.as_json(), indent=2) if args.json else found.text)
    if found.errors:
        raise ValueError(f"{args.recipe}: {len(found.errors)} errors, as listed above")


def count_data(args: argparse.Namespace) -> None:
    """Count what is on the disk by part and scene, beside what was published."""
    from distill.inspection import count

    what = place(args.what)
    if isinstance(what, Path) and ":" in args.what and not what.exists():
        counted = count.of_job(_job(args, args.what))
    elif args.data is not None or args.set:
        raise ValueError(f"{args.what} is no MODULE:FUNCTION; --data and --set are for recipes")
    else:
        counted = count.of_place(what)
    print(json.dumps(count.as_json(counted), indent=2) if args.json else count.text(counted))


def list_data(args: argparse.Namespace) -> None:
    """Write a table of every image: key, file, offset, size, and its hash if asked for."""
    from distill.inspection.listing import write_listing

    print(f"{args.out}: {write_listing(args.path, args.out, sha256=args.sha256)} images")


def doctor(args: argparse.Namespace) -> None:
    """Measure what a recipe's loader delivers and its network takes; nothing is written."""
    from distill.inspection.doctor import diagnose

    print(diagnose(_job(args, args.recipe), batch=args.batch).text)


def plan(args: argparse.Namespace) -> None:
    """Say what a recipe costs before it runs: FLOPs, memory, time, bytes; with --audit, after."""
    from distill.plan.audit import audit
    from distill.plan.question import Question
    from distill.plan.reckoning import reckon

    unread = args.data is None and args.probe is None and args.audit is None
    data = Path("DATA") if unread else args.data
    recipe = recipes.load(args.recipe)
    job, _ = recipes.build(recipe, data=data, settings=_settings(args.set))
    asked = Question(
        hardware=args.hardware,
        gpus=args.gpus,
        launch=args.launch,
        images=args.images,
        size=args.size,
        price=args.price,
        probe=args.probe,
        reads_data=not unread,
    )
    found = audit(job, asked, args.audit) if args.audit else reckon(job, asked)
    print(json.dumps(found.as_json(), indent=2) if args.json else found.text)


def rehearse(args: argparse.Namespace) -> None:
    """Try whether a training job starts on a cluster, as three of its processes; nothing runs."""
    from distill.plan.rehearsal import rehearse as rehearse_job

    data = Path("DATA") if args.data is None else args.data
    recipe = recipes.load(args.recipe)
    job, _ = recipes.build(recipe, data=data, settings=_settings(args.set))
    reads = args.data is not None
    found = rehearse_job(job, ranks=args.ranks, launch=args.launch, reads_data=reads)
    print(json.dumps(found.as_json(), indent=2) if args.json else found.text)


def convert(args: argparse.Namespace) -> None:
    """Convert weights between the official layout and transformers."""
    from distill.export import convert as convert_weights

    convert_weights(args.source, args.target, kind=args.kind, to=args.to, max_depth=args.max_depth)
    print(args.target)


def predict(args: argparse.Namespace) -> None:
    """Write the depth of each image."""
    from distill.predict import predict as predict_images

    maps = predict_images(args.model, args.inputs, args.out, npy=args.npy, space=args.space)
    for written in maps:
        print(written)


def evaluate(args: argparse.Namespace) -> None:
    """Score a model on a benchmark."""
    from distill.evaluation.evaluate import EvaluateJob

    if isinstance(args.data, str):
        raise ValueError(f"--data {args.data}: a benchmark reads a folder; fetch it first")
    job = EvaluateJob(model=args.model, benchmark=args.benchmark, data=args.data, space=args.space)
    with jobs.recorded(args.out, job):
        job.run(args.out, resume=args.resume)
    if jobs.is_main_process():
        print((args.out / "summary.json").read_text(), end="")


def report(args: argparse.Namespace) -> None:
    """Write one HTML page about a run."""
    from distill.report.page import write_report

    print(write_report(args.run))


def _job(args: argparse.Namespace, name: str) -> jobs.Job:
    job, _ = recipes.build(recipes.load(name), data=args.data, settings=_settings(args.set))
    return job


def _fail(message: str, code: int) -> int:
    print(f"distill: {message}", file=sys.stderr)
    return code


def _settings(pairs: Sequence[str]) -> dict[str, str]:
    """`["a=1", "b=2"]` as a dictionary.

    Raises:
        ValueError: an entry has no `=`, or a name comes twice.
    """
    settings: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"--set {pair}: write NAME=VALUE")
        if name in settings:
            raise ValueError(f"--set {name} is given twice")
        settings[name] = value
    return settings


VERBS: dict[str, Callable[[argparse.Namespace], None]] = {
    "run": run,
    "show": show,
    "list": list_recipes,
    "doctor": doctor,
    "plan": plan,
    "rehearse": rehearse,
    "data inspect": inspect_data,
    "data check": check_data,
    "data count": count_data,
    "data list": list_data,
    "convert": convert,
    "predict": predict,
    "evaluate": evaluate,
    **label_verbs.VERBS,
    "report": report,
}
