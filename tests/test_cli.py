"""Exit codes, errors on one line, an example in every help."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from label_stores import KEYS, write_store
from PIL import Image
from tiny_models import save_depth_anything

from distill import arguments, cli, label_verbs
from distill.job import GuardStop, Interrupted, PartialFailure
from distill.types import Space

JOB = '''
"""Jobs that end in every way."""
import dataclasses
from pathlib import Path

from distill import job


@dataclasses.dataclass(frozen=True, kw_only=True)
class End:
    how: str

    def run(self, out, *, resume=False):
        if self.how in ("done", "partial", "guard", "term"):
            (out / "result").write_text(self.how)
        if self.how == "partial":
            raise job.PartialFailure({"a.jpg": "truncated"})
        if self.how == "guard":
            raise job.GuardStop("loss is nan at step 3")
        if self.how == "term":
            raise job.Interrupted("checkpoint at step 3")
        if self.how == "input":
            raise FileNotFoundError("no folder x; make it")
        if self.how == "extra":
            raise ImportError("needs Mitsuba; pip install 'distill[worlds]'")
        if self.how == "fault":
            raise RuntimeError("CUDA is upset")
        if self.how == "ctrl-c":
            raise KeyboardInterrupt


def end(data: Path, *, how: str) -> End:
    """Ends."""
    return End(how=how)
'''


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("done", 0, ""),
        ("partial", 1, "a.jpg: truncated"),
        ("input", 2, "no folder x; make it"),
        ("extra", 2, "distill[worlds]"),
        ("guard", 3, "loss is nan at step 3"),
        ("ctrl-c", 130, "distill: interrupted"),
        ("term", 143, "checkpoint at step 3"),
    ],
)
def test_exit_codes(tmp_path: Path, capsys, how: str, code: int, message: str):
    (tmp_path / "end.py").write_text(JOB)
    arguments = ["run", f"{tmp_path / 'end.py'}:end", "--data", "d", "--set", f"how={how}"]
    assert cli.main([*arguments, "--out", str(tmp_path / "out")]) == code
    assert message in capsys.readouterr().err
    recorded = (tmp_path / "out" / "run.json").is_file()
    assert recorded == (how in {"done", "partial", "guard", "term"})  # the others did nothing


def test_a_fault_of_the_program_shows_its_traceback_and_has_a_code_of_its_own(
    tmp_path: Path, caplog
):
    (tmp_path / "end.py").write_text(JOB)
    arguments = ["run", f"{tmp_path / 'end.py'}:end", "--data", "d", "--set", "how=fault"]
    assert cli.main([*arguments, "--out", str(tmp_path / "out")]) == 70
    assert "Traceback (most recent call last)" in caplog.text
    assert "RuntimeError: CUDA is upset" in caplog.text


def test_ctrl_c_shows_no_traceback(tmp_path: Path, capsys, caplog):
    (tmp_path / "end.py").write_text(JOB)
    arguments = ["run", f"{tmp_path / 'end.py'}:end", "--data", "d", "--set", "how=ctrl-c"]
    assert cli.main([*arguments, "--out", str(tmp_path / "out")]) == 130
    assert "Traceback" not in capsys.readouterr().err + caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [(["how"], "NAME=VALUE"), (["how=a", "how=b"], "given twice"), (["hwo=a"], "how")],
)
def test_wrong_settings(tmp_path: Path, capsys, settings: list[str], message: str):
    (tmp_path / "end.py").write_text(JOB)
    arguments = ["run", f"{tmp_path / 'end.py'}:end", "--data", "d", "--out", str(tmp_path)]
    assert cli.main([*arguments, "--set", *settings]) == 2
    assert message in capsys.readouterr().err


VERBS = [
    *("run", "show", "list", "convert", "predict", "evaluate", "report"),
    *(
        "labels verify",
        "labels repair",
        "labels stats",
        "labels show",
        "labels query",
        "labels inspect",
    ),
    *("plan", "rehearse", "doctor", "data inspect", "data check", "data count", "data list"),
]


def test_all_verbs_are_tested():
    assert set(VERBS) == set(cli.VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example(capsys, verb: str):
    with pytest.raises(SystemExit, match="0"):
        cli.main([*verb.split(), "--help"])
    assert f"Example: distill {verb}" in " ".join(capsys.readouterr().out.split())


def test_unknown_verb_is_wrong_usage(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["trian"])


def test_the_doctor_prints_what_it_found(monkeypatch, capsys):
    from distill.inspection import doctor

    found = doctor.Diagnosis(
        fetch=1.0,
        read=8.0,
        transform=2.0,
        loader=None,
        workers=2,
        model=50.0,
        batch=4,
        device="cpu",
        cores=2,
    )
    asked = []
    monkeypatch.setattr(
        doctor, "diagnose", lambda job, *, batch: asked.append((job, batch)) or found
    )
    assert cli.main(["doctor", "recipes.teacher:vits", "--data", "d", "--batch", "4"]) == 0
    [(job, batch)] = asked
    assert (job.batch_size, batch) == (64, 4)
    out = capsys.readouterr().out
    assert "limit: the network" in out
    assert "workers=1 feed the network" in out


def test_list_and_show(capsys):
    assert cli.main(["list"]) == 0
    assert "recipes.student:vits" in capsys.readouterr().out
    assert cli.main(["show", "recipes.student:vits"]) == 0
    assert "V2 section 5.1" in capsys.readouterr().out


def test_the_list_has_two_straight_columns(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (width,) = {len(line) - len(line.split(maxsplit=1)[1]) for line in lines}
    assert width == max(len(line.split()[0]) for line in lines) + 2


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_a_help_text(verb: str):
    found: Any = arguments.parser("", cli.VERBS)
    for word in verb.split():
        (verbs,) = found._subparsers._group_actions
        found = verbs.choices[word]
    options = [a for a in found._actions if a.option_strings]
    assert [a.option_strings for a in options if not a.help] == []


def test_predict_is_told_what_the_numbers_mean(tmp_path: Path):
    model = save_depth_anything(tmp_path / "model")
    Image.linear_gradient("L").resize((40, 30)).save(tmp_path / "a.png")
    arguments = ["predict", "--model", str(model), str(tmp_path / "a.png")]
    arguments += ["--out", str(tmp_path / "maps"), "--space", "METRIC_DEPTH"]
    assert cli.main(arguments) == 0
    record = json.loads((tmp_path / "maps" / "a.json").read_text())
    assert (record["space"], record["larger_is_closer"]) == ("metric depth", False)


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_an_unknown_space_is_wrong_usage(verb: str, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main([verb, "--model", "m", "--space", "metres"])
    assert "'metres' is none of METRIC_DEPTH, " in capsys.readouterr().err


def test_a_space_goes_by_name_or_value():
    by_name, by_value = map(arguments.space, ("AFFINE_DEPTH", "affine-invariant depth"))
    assert by_name is by_value is Space.AFFINE_DEPTH


@pytest.mark.parametrize(
    "url", ["s3://bucket/a.tar", "https://x/{00..10}.tar", "memory://a", "hf://d"]
)
def test_urls_are_passed_as_they_are_and_paths_as_paths(url: str):
    parse = arguments.parser("", cli.VERBS).parse_args
    for words in (["run", "r", "--out", "o"], ["show", "r"], ["data", "check", "r"]):
        assert parse([*words, "--data", url]).data == url
        assert parse([*words, "--data", "a/b"]).data == Path("a/b")
    assert (
        parse(["evaluate", *["--model", "m", "--benchmark", "b", "--out", "o", "--data"], url]).data
        == url
    )
    assert parse(["data", "inspect", url]).path == url


def test_a_benchmark_reads_no_url(capsys, tmp_path: Path):
    arguments_ = [
        "--model",
        "m",
        "--benchmark",
        "kitti",
        "--out",
        str(tmp_path),
        "--data",
        "s3://k",
    ]
    assert cli.main(["evaluate", *arguments_]) == 2
    assert "--data s3://k: a benchmark reads a folder" in capsys.readouterr().err


def test_show_takes_data(capsys):
    assert cli.main(["show", "recipes.labels:plain", "--data", "s3://bucket/{0..9}.tar"]) == 0
    assert "s3://bucket/{0..9}.tar" in capsys.readouterr().out


def test_one_label_does_not_replace_the_sheet_nor_another_label(tmp_path: Path, capsys):
    store = str(write_store(tmp_path / "store"))
    assert cli.main(["labels", "show", store]) == 0
    sheet = (tmp_path / "store" / "sheet.png").read_bytes()
    for key in KEYS[:2]:
        assert cli.main(["labels", "show", store, "--key", key]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert len(set(written)) == 3
    assert all(path.parent == tmp_path / "store" and path.is_file() for path in written)
    assert "photos_day.1_IMG_0001.jpg" in written[2].name
    assert (tmp_path / "store" / "sheet.png").read_bytes() == sheet


def test_names_of_pictures_are_safe_short_and_differ():
    keys = ["a/b", "a_b", "ä/b", "../../etc/x", "x" * 5000, "y" + "x" * 5000, "a\n\\:b"]
    names = [label_verbs._picture_name(key) for key in keys]
    assert len(set(names)) == len(keys)
    assert all(re.fullmatch(r"label-[A-Za-z0-9._-]{1,120}\.png", name) for name in names)


def test_every_ending_has_its_own_code():
    assert not issubclass(PartialFailure, (GuardStop, Interrupted, ValueError, OSError))
