"""The `distill` program: one verb per thing to do, one example in each verb's help.

Exit codes: 0 done; 1 finished with inputs that failed (named); 2 wrong usage or input; 3 stopped
by a guard; 70 a fault of the program, with its traceback; 130 after Ctrl-C; 143 after SIGTERM with
a checkpoint written.
"""

import argparse
import hashlib
import importlib
import json
import logging
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distill import job as jobs
from distill import recipe as recipes
from distill.types import Space


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    args = _parser().parse_args(arguments)
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
    return code


def run(args: argparse.Namespace) -> None:
    """Build the recipe's job and run it, on record."""
    recipe = recipes.load(args.recipe)
    job, inputs = recipes.build(recipe, data=args.data, settings=_settings(args.set))
    with jobs.recorded(args.out, job, recipe=args.recipe, inputs=inputs):
        job.run(args.out, resume=args.resume)


def show(args: argparse.Namespace) -> None:
    """Print every value a recipe decides, with its source."""
    recipe = recipes.load(args.recipe)
    job, _ = recipes.build(recipe, data=Path("DATA"), settings=_settings(args.set))
    print(recipes.explain(recipe, job))


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

    job = EvaluateJob(model=args.model, benchmark=args.benchmark, data=args.data, space=args.space)
    with jobs.recorded(args.out, job):
        job.run(args.out, resume=args.resume)
    if jobs.is_main_process():
        print((args.out / "summary.json").read_text(), end="")


def labels(args: argparse.Namespace) -> None:
    """Verify, count or show a label store."""
    from distill.labels import account
    from distill.report import label_sheet

    if args.action == "verify":
        account.verify(args.store)
        print(f"{args.store}: every shard and label matches its checksum")
    elif args.action == "stats":
        print(json.dumps(account.stats(args.store), indent=2))
    else:
        out = args.out or args.store / _picture_name(args.key)
        print(label_sheet.show(args.store, out, key=args.key))


def report(args: argparse.Namespace) -> None:
    """Write one HTML page about a run."""
    from distill.report.page import write_report

    print(write_report(args.run))


def _fail(message: str, code: int) -> int:
    print(f"distill: {message}", file=sys.stderr)
    return code


def _picture_name(key: str | None) -> str:
    """Of the sheet, or of one label: the end of its key, and a digest, as keys differ in more."""
    if key is None:
        return "sheet.png"
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", key)[-100:]
    return f"label-{plain}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.png"


def _place(text: str) -> Path | str:
    """A path; a URL stays as it was typed."""
    return text if "://" in text else Path(text)


def _space(name: str) -> Space:
    """The `Space` of that name or value.

    Raises:
        argparse.ArgumentTypeError: there is none.
    """
    for space in Space:
        if name in (space.name, space.value):
            return space
    names = ", ".join(space.name for space in Space)
    raise argparse.ArgumentTypeError(f"{name!r} is none of {names}")


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="distill", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_recipe_verbs(verbs)
    _add_convert(verbs)
    _add_model_verbs(verbs)
    _add_result_verbs(verbs)
    return parser


def _verb(verbs: Any, function: Callable[..., None], example: str) -> argparse.ArgumentParser:
    """The parser of one verb, which its example names."""
    said = {"help": function.__doc__, "description": function.__doc__}
    added = verbs.add_parser(example.split()[1], **said, epilog=f"Example: {example}")
    added.set_defaults(verb=function)
    return added


def _add_recipe_verbs(verbs: Any) -> None:
    added = _verb(verbs, run, "distill run recipes.student:vits --data photos --out runs/student")
    added.add_argument("recipe", metavar="MODULE:FUNCTION")
    added.add_argument("--data", type=_place, help="the folder or URL the recipe reads")
    added.add_argument("--out", type=Path, required=True, help="the folder the run writes")
    added.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    _add_set(added)

    added = _verb(verbs, show, "distill show recipes.student:vits")
    added.add_argument("recipe", metavar="MODULE:FUNCTION")
    _add_set(added)
    _verb(verbs, list_recipes, "distill list")


def _add_convert(verbs: Any) -> None:
    example = "distill convert depth_anything_v2_vits.pth models/v2-small --as depth-anything-v2"
    added = _verb(verbs, convert, example)
    added.add_argument("source", type=Path, metavar="IN")
    added.add_argument("target", type=Path, metavar="OUT")
    kinds = ["depth-anything-v1", "depth-anything-v2", "dinov2"]
    added.add_argument("--as", dest="kind", choices=kinds, required=True, help="whose weights")
    added.add_argument(
        "--to",
        choices=["transformers", "official"],
        default="transformers",
        help="the layout to write: a folder for transformers (default), or the authors' one file",
    )
    added.add_argument("--max-depth", type=float, help="metres; makes the model a metric one")


def _add_model_verbs(verbs: Any) -> None:
    added = _verb(verbs, predict, "distill predict --model runs/student/model a.jpg --out maps")
    _add_model(added)
    added.add_argument("inputs", type=Path, nargs="+", metavar="IMAGE|FOLDER")
    added.add_argument("--out", type=Path, required=True, help="the folder that receives the maps")
    added.add_argument("--npy", action="store_true", help="also write float32 arrays")

    example = (
        "distill evaluate --model runs/student/model --benchmark kitti --data kitti --out scores"
    )
    added = _verb(verbs, evaluate, example)
    _add_model(added)
    added.add_argument(
        "--benchmark",
        required=True,
        metavar="NAME",
        help="images, truth and protocol; an unknown NAME lists them all",
    )
    added.add_argument("--data", type=Path, help="the benchmark's folder, unless it has its own")
    added.add_argument(
        "--out", type=Path, required=True, help="the folder that receives the scores"
    )
    added.add_argument("--resume", action="store_true", help="keep the scores that are there")


def _add_result_verbs(verbs: Any) -> None:
    added = _verb(verbs, labels, "distill labels verify runs/labels")
    added.add_argument("action", choices=["verify", "stats", "show"])
    added.add_argument("store", type=Path)
    added.add_argument("--key", help="show: this label only")
    added.add_argument(
        "--out",
        type=Path,
        help="show: the picture to write (default: in the store, sheet.png or after the key)",
    )

    added = _verb(verbs, report, "distill report runs/student")
    added.add_argument("run", type=Path)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        required=True,
        metavar="DIR|ID",
        help="a depth model of transformers: its folder, such as model/ of a run, or hub id",
    )
    parser.add_argument(
        "--space",
        type=_space,
        metavar="NAME",
        help="what its numbers mean, where its kind of model does not tell: "
        + ", ".join(space.name for space in Space),
    )


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the recipe or a scalar field of its job",
    )
