"""Imports point to a lower floor; parts of floor 1 are blind to each other. Read with `ast`."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("distill", "pseudo_labels", "recipes", "benchmarks")
WORDS = (
    *("types", "shuffle", "masked", "geometry", "alignment", "atomic", "job", "launch"),
    *("licences", "lineage", "limits", "parts", "host_memory"),
)
PARTS = (
    *("datasets", "models", "losses", "transforms", "perturb", "labels"),
    *("loading", "mixture", "colour", "worlds", "optim", "checkpoint", "tracking", "watch"),
    "sharding",
)
FLOORS = {
    **dict.fromkeys((f"distill.{name}" for name in WORDS), 0),
    **dict.fromkeys((f"distill.{name}" for name in PARTS), 1),
    "distill.objectives": 2,
    "distill.evaluation": 2,
    "distill.engine": 2,
    "distill.ancestry": 2,
    "distill.quarantine": 2,
    "distill.showing": 2,
    "distill.stopped": 2,
    "distill.starting": 3,
    "distill.train": 4,
    "distill.export": 3,
    "distill.report": 3,
    "distill.inspection": 3,
    "distill.predict": 3,
    "distill.plan": 3,
    "distill.recipe": 3,
    "distill.explaining": 4,
    "distill.arguments": 3,
    "pseudo_labels": 3,
    "distill.cli": 5,
    "distill.label_verbs": 4,
    "distill.__main__": 6,
    "recipes": 5,
    "benchmarks": 6,
}
OPEN_TO_ALL = {
    "distill.datasets.images",
    "distill.models.blocks",
    "distill.labels.store",
    "distill.loading",
    "distill.mixture",
}


def part_of(module: str) -> str:
    """The longest entry of `FLOORS` that `module` lies in."""
    parts = [part for part in FLOORS if module == part or module.startswith(f"{part}.")]
    assert parts, f"{module} stands on no floor: add it to FLOORS"
    return max(parts, key=len)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                is_module = (ROOT / Path(*module.split("."))).with_suffix(".py").is_file()
                is_package = (ROOT / Path(*module.split("."))).is_dir()
                yield module if is_module or is_package else node.module


def violations(module: str, target: str) -> str | None:
    mine, theirs = part_of(module), part_of(target)
    if mine == theirs:
        return None
    if FLOORS[mine] == FLOORS[theirs] == 1 and target in OPEN_TO_ALL:
        return None
    if FLOORS[theirs] < FLOORS[mine] or FLOORS[mine] == FLOORS[theirs] == 0:
        return None
    return f"{module} (floor {FLOORS[mine]}) imports {target} (floor {FLOORS[theirs]})"


def modules() -> list[tuple[str, Path]]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [
        (".".join(path.relative_to(ROOT).with_suffix("").parts), path)
        for path in paths
        if path.name != "__init__.py"
    ]


def test_imports_point_down():
    wrong = [
        broken
        for module, path in modules()
        for target in imports(path)
        if target.split(".")[0] in PACKAGES and target not in PACKAGES
        if (broken := violations(module, target))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("distill.types", "distill.losses.silog"),
        ("distill.losses.silog", "distill.models.depth_anything"),
        ("distill.train", "recipes.student"),
        ("distill.objectives.supervised", "distill.evaluation.metrics"),
    ],
)
def test_the_rule_can_fail(module: str, target: str):
    assert violations(module, target)


def test_packages_hold_one_docstring():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            body = ast.parse(path.read_text()).body
            assert len(body) == 1, path
            assert isinstance(body[0], ast.Expr), path
