"""One static HTML page about a run: a training, an evaluation, a label store, or the whole demo.

Everything is read from what the run left on the disk; the maps of the few images that are shown
are predicted again with the models it names. What is not there is left out of the page.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from distill import atomic
from distill.colour import COLUMNS, ERROR_TOP, colourise
from distill.datasets.images import read_pil
from distill.evaluation import benchmarks
from distill.evaluation.metrics import METRICS
from distill.evaluation.protocols import measured_pixels, pre_cropped
from distill.evaluation.rows import as_picture
from distill.evaluation.scoring import align
from distill.labels.store import LabelStore
from distill.models.foreign import load_predictor
from distill.report.figures import COLOURS, bars, curves, data_uri, sheet
from distill.tracking import read_rows
from distill.types import Space

_FIRST = ("teacher", "student")  # then the others by name
_NO_CURVE = ("lr/", "seconds", "wait_s", "step")
_NAMES = ("AbsRel", "SqRel", "RMSE", "RMSElog", "log10", "SILog", "δ1", "δ2", "δ3")
_TITLES = dict(zip(METRICS, _NAMES, strict=True))
_LARGER_IS_BETTER = ("delta", "accuracy", "bf1")  # how such metrics begin; of others less is better
_COMPARED = ("abs_rel", "delta1", "accuracy", "bf1")  # those of them that were measured


def write_report(run: Path) -> Path:
    """Write `report.html`, and `picture.png` where models were evaluated, into `run`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds nothing to report.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"{run}: no such folder")
    trainings, stores = _members(run, "metrics.jsonl"), _members(run, "store.json")
    evaluations = _members(run / "evaluation", "rows.jsonl") or _members(run, "rows.jsonl")
    if not (trainings or evaluations or stores):
        raise ValueError(
            f"{run}: no metrics.jsonl, rows.jsonl or store.json here or one folder below; "
            "give the --out folder of a run"
        )
    scores = {name: _json(folder / "summary.json") for name, folder in evaluations.items()}
    examples, missing = _examples(evaluations, scores)
    if examples:
        middle = examples[1:-1] or examples  # neither the best nor the worst
        atomic.write_bytes(run / "picture.png", sheet([entry["maps"] for entry in middle]))
    titles = _titles(scores)
    comparable = len(scores) > 1 and len({s["benchmark"] for s in scores.values()}) == 1
    compared = [m for m in _COMPARED if m in titles] if comparable else []
    page = _template().render(
        title=run.resolve().name,
        claim=_claim(scores),
        notes=[*_json(run / "summary.json").get("notes", ()), *missing],
        scores=scores,
        titles=titles,
        rising=[metric for metric in titles if metric.startswith(_LARGER_IS_BETTER)],
        comparable=comparable,
        bars=[bars(titles[m], {n: s["means"][m] for n, s in scores.items()}) for m in compared],
        examples=examples,
        error_top=ERROR_TOP,
        curves=_curves(trainings),
        legend=dict(zip(trainings, COLOURS, strict=False)),
        changes={name: found for name, folder in trainings.items() if (found := _change(folder))},
        samples={name: _samples(folder) for name, folder in trainings.items()},
        stores={name: _labels(folder) for name, folder in stores.items()},
        ran={name: _record(folder) for name, folder in _members(run, "run.json").items()},
    )
    atomic.write_text(run / "report.html", page)
    return run / "report.html"


def _members(run: Path, holds: str) -> dict[str, Path]:
    """The run, if it holds the file, and the folders in it that do; the teacher first."""
    found = {path.parent.name: path.parent for path in sorted(run.glob(f"*/{holds}"))}
    own = {run.resolve().name: run} if (run / holds).is_file() else {}
    return own | {name: found[name] for name in _FIRST if name in found} | found


def _titles(scores: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """What every model was measured by, in the order of the first one's means."""
    means = [score["means"] for score in scores.values()]
    shared = [metric for metric in means[0] if all(metric in m for m in means)] if means else []
    return {metric: _TITLES.get(metric) or metric.replace("_", " ") for metric in shared}


def _claim(scores: Mapping[str, dict[str, Any]]) -> dict[str, float] | None:
    """What pseudo-labels gained, in percent of AbsRel, where both students were measured."""
    if not {"student", "student_synthetic_only"} <= scores.keys():
        return None
    ours = scores["student"]["means"]["abs_rel"]
    plain = scores["student_synthetic_only"]["means"]["abs_rel"]
    return {"ours": ours, "plain": plain, "gain": 100 * (1 - ours / plain)}


def _examples(
    evaluations: Mapping[str, Path], scores: Mapping[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Five images from the student's best to its worst, with every model's maps."""
    if not scores:
        return [], []
    main = "student" if "student" in scores else next(iter(scores))
    benchmark = benchmarks.find(scores[main]["benchmark"])
    scores = {name: s for name, s in scores.items() if s["benchmark"] == benchmark.name}
    try:
        dataset = benchmark.open(Path(scores[main]["data"]))
        predictors = {
            name: load_predictor(score["model"], space=Space(score["space"]))
            for name, score in scores.items()
        }
    except (OSError, ValueError) as error:
        return [], [f"No panels: {error}"]
    protocol = benchmark.protocol_for(len(dataset))
    if protocol.measures != "depth":
        return [], [f"No panels: {protocol.id} measures {protocol.measures}, not a map."]
    rows: dict[str, list[Any]] = {
        name: list(read_rows(evaluations[name] / "rows.jsonl")) for name in scores
    }
    ranked = sorted((row["abs_rel"], i) for i, row in enumerate(rows[main]) if "abs_rel" in row)
    shown = [ranked[round(q * (len(ranked) - 1))][1] for q in (0, 0.25, 0.5, 0.75, 1)]
    examples = []
    for index in dict.fromkeys(shown):
        sample = pre_cropped(dataset[index], protocol)
        image, target = as_picture(sample), sample.target
        assert target is not None  # it was evaluated
        assert sample.valid is not None
        measured = measured_pixels(target, sample.valid, protocol)
        truth = target.double().where(measured, np.nan).numpy()
        low, high = np.nanquantile(1 / truth, (0.02, 0.98)).tolist()
        maps = {"image": np.asarray(image), "truth": colourise(1 / truth, low=low, high=high)}
        errors = {}
        for name, predictor in predictors.items():
            (prediction,) = predictor.predict([image])
            depth = align(prediction, target, measured, protocol).depth.numpy()
            title = "teacher label" if name == "teacher" else name.replace("_", " ")
            maps[title] = colourise(1 / depth, low=low, high=high)
            relative = np.abs(depth - truth) / truth
            wrong = colourise(relative, low=0.0, high=ERROR_TOP, colours="magma")
            errors[title] = (data_uri(wrong), rows[name][index].get("abs_rel"))
        uris = {title: data_uri(picture) for title, picture in maps.items()}
        examples.append({"key": sample.key, "uris": uris, "errors": errors, "maps": maps})
    return examples, []


def _curves(trainings: Mapping[str, Path]) -> list[str]:
    """A figure for every quantity that a run logged."""
    series: dict[str, dict[str, list[Any]]] = {}
    for run, folder in trainings.items():
        for row in read_rows(folder / "metrics.jsonl"):
            for name in (name for name in row if not name.startswith(_NO_CURVE)):
                lines = series.setdefault(name, {known: [] for known in trainings})
                lines[run].append((row["step"], row[name]))
    return [curves(name, lines) for name, lines in series.items()]


def _change(folder: Path) -> dict[str, Any] | None:
    """What a run made of what it started from: its fixed pictures and its scores, first and last.

    None for a run that did not look before its first update, or whose pictures have no targets.
    """
    files = sorted((folder / "samples").glob("*.png"))
    if len(files) < 2 or files[0].stem != f"step-{0:09d}":
        return None
    first, last = (np.asarray(read_pil(path)) for path in (files[0], files[-1]))
    side, uneven = divmod(first.shape[1], len(COLUMNS))
    if uneven or first.shape[0] % side or first.shape != last.shape:
        return None
    parts = {
        **dict(zip(("image", "truth", "before", "error before"), _columns(first), strict=True)),
        **dict(zip(("after", "error after"), _columns(last)[2:], strict=True)),
    }
    order = ("image", "truth", "before", "after", "error before", "error after")
    rows = [row for row in read_rows(folder / "metrics.jsonl") if any(map(_is_score, row))]
    scores = {
        name.removeprefix("val/"): (rows[0][name], rows[-1][name])
        for name in (rows[0] if rows else ())
        if _is_score(name) and name in rows[-1]
    }
    pictures = [
        {name: data_uri(parts[name][top : top + side]) for name in order}
        for top in range(0, first.shape[0], side)
    ]
    return {"pictures": pictures, "scores": scores, "step": int(files[-1].stem.split("-")[1])}


def _columns(panel: Any) -> list[Any]:
    return np.split(panel, len(COLUMNS), axis=1)


def _is_score(name: str) -> bool:
    return name.startswith("val/")


def _samples(folder: Path) -> dict[str, str]:
    """A run's fixed pictures at its beginning, middle and end."""
    files = sorted((folder / "samples").glob("*.png"))
    chosen = [files[i] for i in sorted({0, len(files) // 2, len(files) - 1})] if files else []
    return {path.stem: data_uri(np.asarray(read_pil(path)), height=560) for path in chosen}


def _labels(folder: Path) -> dict[str, Any]:
    """A store's record, and labels from the least to the most confident."""
    store = LabelStore(folder, allow_incomplete=True)
    keys, sure = store.keys(), store.index["confidence"].to_pylist()
    order = sorted(range(len(keys)), key=lambda i: sure[i] or 0.0)
    places = [order[round(q * (len(order) - 1))] for q in (0, 0.33, 0.67, 1)] if order else []
    photos, shown = _photos(folder), []
    for key in (keys[i] for i in dict.fromkeys(places)):
        label = store.read(key).prediction
        values = label.values.numpy() * (1 if label.space.is_inverse else -1)
        path = photos / key.partition("/")[2]
        photo = data_uri(np.asarray(read_pil(path))) if path.is_file() else None
        shown.append((key, photo, data_uri(colourise(values)), label.confidence))
    kept = ("strategy", "codec", "error_bound")
    teachers = store.meta.teachers
    told = {
        "teacher": store.meta.teacher_names,
        "teacher_sha256": ", ".join(teacher.sha256 for teacher in teachers),
        "licence": ", ".join(teacher.licence or "not known" for teacher in teachers),
    } | {name: getattr(store.meta, name) for name in kept}
    stats = store.stats()
    counts = {name: stats[name] for name in ("labels", "quarantined", "bytes_per_label")}
    return {"shown": shown, "told": told | {"space": store.meta.space.value} | counts}


def _photos(folder: Path) -> Path:
    """Where the labelled photographs lie, by the record of the job."""
    images = _json(folder / "run.json").get("starts", [{}])[-1].get("job", {}).get("images", {})
    arguments = [*images.get("args", ()), images.get("root"), "/"]
    return next(Path(place) for place in arguments if isinstance(place, str))


def _record(folder: Path) -> dict[str, Any]:
    """What ran last, and how long all of it took."""
    starts, summary = _json(folder / "run.json")["starts"], _json(folder / "summary.json")
    start, job = starts[-1], starts[-1].get("job", {})
    told = {name: start.get(name) for name in ("recipe", "time", "commit", "machine", "python")}
    told |= {name: job.get(name) for name in ("seed", "steps", "batch_size")}
    told |= {name: summary.get(name) for name in ("seconds", "images_per_s")} | {
        "starts": len(starts),
        "versions": ", ".join(f"{n} {version}" for n, version in start.get("versions", {}).items()),
    }
    return {"told": told, "everything": json.dumps(start, indent=2)}


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.filters["words"] = lambda name: name.replace("_", " ")
    environment.filters["number"] = lambda x: f"{x:.4g}" if isinstance(x, float) else x
    return environment.get_template("page.html.jinja")
