"""What the `distill` program understands: each verb's arguments, and an example in its help."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distill.datasets.remote import is_remote
from distill.types import Space

Functions = Mapping[str, Callable[[argparse.Namespace], None]]


def parser(description: str | None, functions: Functions) -> argparse.ArgumentParser:
    """The program's parser; `functions` are called by verb, `data inspect` being one."""
    made = argparse.ArgumentParser(prog="distill", description=description)
    verbs = made.add_subparsers(required=True, metavar="VERB")
    _add_recipe_verbs(verbs, functions)
    _add_data_verbs(verbs, functions)
    _add_convert(verbs, functions)
    _add_model_verbs(verbs, functions)
    _add_label_verbs(verbs, functions)
    _add_result_verbs(verbs, functions)
    return made


def place(text: str) -> Path | str:
    """A URL as it is, anything else as a path."""
    return text if is_remote(text) else Path(text)


def space(name: str) -> Space:
    """The `Space` of that name or value.

    Raises:
        argparse.ArgumentTypeError: there is none.
    """
    for one in Space:
        if name in (one.name, one.value):
            return one
    names = ", ".join(one.name for one in Space)
    raise argparse.ArgumentTypeError(f"{name!r} is none of {names}")


def _verb(verbs: Any, functions: Functions, name: str, example: str) -> argparse.ArgumentParser:
    function = functions[name]
    said = {"help": function.__doc__, "description": function.__doc__}
    added = verbs.add_parser(name.split()[-1], **said, epilog=f"Example: distill {name} {example}")
    added.set_defaults(verb=function)
    return added


def _add_recipe_verbs(verbs: Any, functions: Functions) -> None:
    example = "recipes.student:vits --data photos --out runs/student"
    added = _verb(verbs, functions, "run", example)
    _add_recipe(added)
    added.add_argument("--out", type=Path, required=True, help="the folder the run writes")
    added.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    _add_recipe(_verb(verbs, functions, "show", "recipes.student:vits"))
    _verb(verbs, functions, "list", "")
    added = _verb(verbs, functions, "doctor", "recipes.student:vits --data photos")
    _add_recipe(added)
    added.add_argument("--batch", type=int, help="images at once (the recipe's own, or what fits)")
    _add_plan(verbs, functions)


def _add_plan(verbs: Any, functions: Functions) -> None:
    example = "recipes.student:vits --hardware h200 --gpus 8"
    added = _verb(verbs, functions, "plan", example)
    _add_recipe(added)
    added.add_argument("--hardware", metavar="NAME", help="of a table; an unknown NAME lists it")
    added.add_argument("--gpus", type=int, help="devices (those of --launch, or 1)")
    added.add_argument(
        "--launch", type=Path, metavar="FILE", help="Accelerate's file, as in recipes/clusters"
    )
    added.add_argument("--images", type=int, help="of the data set, instead of counting them")
    added.add_argument(
        "--size", type=image_size, metavar="WxH", help="of an image without --data (640x480)"
    )
    added.add_argument("--price", type=float, metavar="USD", help="of a device for an hour")
    added.add_argument(
        "--probe", type=float, metavar="SECONDS", help="run the job itself here for so long, first"
    )
    added.add_argument("--audit", type=Path, metavar="RUN", help="compare with a finished run")
    _add_json(added)

    example = "recipes.teacher:vitg --ranks 64 --launch recipes/clusters/teacher_vitg_4x8.yaml"
    added = _verb(verbs, functions, "rehearse", example)
    _add_recipe(added)
    added.add_argument("--ranks", type=int, help="processes (those of --launch, or 1)")
    added.add_argument("--launch", type=Path, metavar="FILE", help="FSDP or not, as it says")
    _add_json(added)


def image_size(text: str) -> tuple[int, int]:
    """Width and height of `640x480`.

    Raises:
        argparse.ArgumentTypeError: it is no such thing.
    """
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT in pixels, as 640x480")
    return int(width), int(height)


def _add_recipe(added: argparse.ArgumentParser) -> None:
    added.add_argument("recipe", metavar="MODULE:FUNCTION")
    _add_inputs(added)


def _add_inputs(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "--data", type=place, metavar="PATH|URL", help="what the recipe reads: a folder, a URL"
    )
    added.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the recipe or a scalar field of its job",
    )


def _add_data_verbs(verbs: Any, functions: Functions) -> None:
    about = "Look at data before anything learns from it."
    data = verbs.add_parser("data", help=about, description=about)
    actions = data.add_subparsers(required=True, metavar="inspect|check|count|list")

    added = _verb(actions, functions, "data inspect", "photos --out sheet.png")
    added.add_argument("path", type=place, metavar="PATH|URL")
    sheet = Path("sheet.png")
    added.add_argument("--out", type=Path, default=sheet, help="the contact sheet (sheet.png)")
    added.add_argument("--samples", type=int, default=50, help="read at most so many (50)")
    added.add_argument("--allow-8bit", action="store_true", help="do not refuse 8-bit depth")
    _add_json(added)

    example = "recipes.teacher:vitl --data data"
    added = _verb(actions, functions, "data check", example)
    _add_recipe(added)
    added.add_argument("--samples", type=int, default=100, help="read of each set (100)")
    added.add_argument(
        "--complete", action="store_true", help="another number of images than published: an error"
    )
    _add_json(added)

    added = _verb(actions, functions, "data count", "data/hypersim")
    added.add_argument("what", metavar="PATH|URL|MODULE:FUNCTION")
    _add_inputs(added)
    _add_json(added)

    added = _verb(actions, functions, "data list", "photos --out photos.parquet --sha256")
    added.add_argument("path", type=place, metavar="PATH|URL")
    added.add_argument("--out", type=Path, required=True, help="the Parquet file to write")
    added.add_argument("--sha256", action="store_true", help="read every image and hash it")


def _add_json(added: argparse.ArgumentParser) -> None:
    added.add_argument("--json", action="store_true", help="print JSON")


def _add_convert(verbs: Any, functions: Functions) -> None:
    example = "depth_anything_v2_vits.pth models/v2-small --as depth-anything-v2"
    added = _verb(verbs, functions, "convert", example)
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


def _add_model_verbs(verbs: Any, functions: Functions) -> None:
    example = "--model runs/student/model a.jpg --out maps"
    added = _verb(verbs, functions, "predict", example)
    _add_model(added)
    added.add_argument("inputs", type=Path, nargs="+", metavar="IMAGE|FOLDER")
    added.add_argument("--out", type=Path, required=True, help="the folder that receives the maps")
    added.add_argument("--npy", action="store_true", help="also write float32 arrays")

    example = "--model runs/student/model --benchmark kitti --data kitti --out scores"
    added = _verb(verbs, functions, "evaluate", example)
    _add_model(added)
    added.add_argument(
        "--benchmark",
        required=True,
        metavar="NAME",
        help="images, truth and protocol; an unknown NAME lists them all",
    )
    added.add_argument("--data", type=place, help="the benchmark's folder, unless it has its own")
    added.add_argument(
        "--out", type=Path, required=True, help="the folder that receives the scores"
    )
    added.add_argument("--resume", action="store_true", help="keep the scores that are there")


def _add_label_verbs(verbs: Any, functions: Functions) -> None:
    about = "Verify, count, show and ask a label store."
    labels = verbs.add_parser("labels", help=about, description=about)
    actions = labels.add_subparsers(required=True, metavar="verify|repair|stats|show|query|inspect")

    added = _verb(actions, functions, "labels verify", "runs/labels")
    added.add_argument("store", type=Path)

    added = _verb(actions, functions, "labels repair", "runs/labels")
    added.add_argument("store", type=Path)

    added = _verb(actions, functions, "labels stats", "runs/labels")
    added.add_argument("store", type=Path)

    added = _verb(actions, functions, "labels show", "runs/labels --data photos")
    added.add_argument("store", type=Path)
    added.add_argument("--key", help="this label only")
    added.add_argument(
        "--data", type=place, metavar="PATH|URL", help="what was labelled: each photo by its label"
    )
    out = "the picture to write (default: in the store, sheet.png or after the key)"
    added.add_argument("--out", type=Path, help=out)

    example = "runs/labels --data photos --model runs/student/model"
    added = _verb(actions, functions, "labels inspect", example)
    added.add_argument("store", type=Path)
    added.add_argument(
        "--data", type=place, required=True, metavar="PATH|URL", help="what was labelled"
    )
    good = "a store of labels that are known to be good, some hundreds, for the limits"
    added.add_argument("--trusted", type=Path, metavar="STORE", help=good)
    said = "what was labelled there (default: --data)"
    added.add_argument("--trusted-data", type=place, metavar="PATH|URL", help=said)
    _add_model(added, "another opinion, such as the student's; without it the store's own")

    example = "runs/labels 'confidence > 0.8 and image_width >= 1024'"
    added = _verb(actions, functions, "labels query", example)
    added.add_argument("store", type=Path)
    added.add_argument("where", help="a condition on the columns of the index, in SQL")
    added.add_argument("--out", type=Path, help="write whole rows to this Parquet file instead")


def _add_result_verbs(verbs: Any, functions: Functions) -> None:
    added = _verb(verbs, functions, "report", "runs/student")
    added.add_argument("run", type=Path)


def _add_model(added: argparse.ArgumentParser, optional: str = "") -> None:
    what = "a depth model of transformers: its folder, such as model/ of a run, or hub id"
    said = f"{optional}; {what}" if optional else what
    added.add_argument("--model", required=not optional, metavar="DIR|ID", help=said)
    added.add_argument(
        "--space",
        type=space,
        metavar="NAME",
        help="what its numbers mean, where its kind of model does not tell: "
        + ", ".join(one.name for one in Space),
    )
