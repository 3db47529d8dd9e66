"""The lineage of a model that is being trained, and the card that tells it to whoever finds it."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from distill import atomic, lineage
from distill.datasets.licences import of_dataset
from distill.lineage import Lineage
from distill.models.foreign import weights_sha256
from distill.types import Dataset


def of_training(name: str, objective: nn.Module, datasets: Iterable[Dataset]) -> Lineage:
    """What the student of `objective` is made from: weights it starts from or looks at, and data.

    A module tells whose weights it holds by an attribute `weights_from`, as those of
    `distill.models` do; what a module of your own does not tell is not known here.
    """
    weights = (getattr(module, "weights_from", None) for module in objective.modules())
    sources = dict.fromkeys(str(source) for source in weights if source is not None)
    parts = (*map(of_weights, sources), *map(of_dataset, datasets))
    return Lineage(kind="model", name=name, made_from=parts)


def check(made: Lineage, *, commercial: bool, accept: str) -> None:
    """`lineage.require_commercial` where it is asked for; `accept` has commas between names.

    Raises:
        ValueError: a part may not be used commercially, or `accept` names none; or it is given
            where nothing is asked for.
    """
    names = [name.strip() for name in accept.split(",") if name.strip()]
    if commercial:
        lineage.require_commercial(made, accept=names)
    elif names:
        raise ValueError(f"accept={accept!r} says nothing without commercial=True")


def write(folder: Path, made: Lineage) -> None:
    """Write `lineage.json` and the model card README.md into a model's folder."""
    text = json.dumps(made.as_json(), indent=2) + "\n"
    atomic.write_text(folder / lineage.FILE, text)
    atomic.write_text(folder / "README.md", card(made))


def card(made: Lineage) -> str:
    """The model card: front matter as the hub reads it, and the lineage for people.

    `license` is "other" unless the model has been given one: which terms a distilled model may
    have is for its owner to say.
    """
    parts = [chain[-1] for chain in made.chains()][1:]
    data = [part.name for part in parts if part.kind == "data set"]
    front: dict[str, Any] = {
        "license": made.licence or "other",
        "library_name": "transformers",
        "pipeline_tag": "depth-estimation",
        "base_model": [part.name for part in made.made_from if _on_hub(part)],
        "datasets": list(dict.fromkeys(data)),
    }
    head = yaml.safe_dump({name: value for name, value in front.items() if value}, sort_keys=False)
    own = made.licence or "not stated; whoever publishes this model sets `license` above"
    return (
        f"---\n{head}---\n\n# {made.name}\n\nA depth model, trained with distill. Licence: {own}."
        "\n\n## Lineage\n\nWhat this model was made from, each with the licence it states and the "
        "SHA-256 of its weights (of a label store: of its `store.json`). The same is in "
        f"`{lineage.FILE}`.\n\n{_listed(made)}"
    )


def of_weights(source: str) -> Lineage:
    """A model that is used here, by folder, hub id or file; an official `.pth` is one file."""
    if Path(source).is_file():
        with Path(source).open("rb") as file:
            return lineage.of_model(source, sha256=hashlib.file_digest(file, "sha256").hexdigest())
    return lineage.of_model(source, sha256=weights_sha256(source))


def _listed(made: Lineage, depth: int = 0) -> str:
    lines = ""
    for part in made.made_from:
        derived = "as of its parts" if part.made_from else "no licence known"
        digest = f", sha256 `{part.sha256}`" if part.sha256 else ""
        name = part.name.replace("`", "'")
        lines += f"{'  ' * depth}- {part.kind} `{name}`: {part.licence or derived}{digest}\n"
        lines += _listed(part, depth + 1)
    return lines


def _on_hub(part: Lineage) -> bool:
    """Whether it is a model whose name is a hub id and no folder here."""
    is_id = re.fullmatch(r"[\w.-]+/[\w.-]+", part.name) is not None
    return part.kind == "model" and is_id and not Path(part.name).exists()
