"""Recipes by name: loading, parsing settings by annotation, errors that name the remedy."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import pytest

from distill import recipe
from distill.explaining import explain
from distill.job import Job
from distill.losses.affine_invariant import affine_invariant
from distill.losses.silog import silog

SOURCE = '''
"""A recipe file."""
import dataclasses
from pathlib import Path
from typing import Annotated


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nap:
    """Sleeps."""

    where: Path
    minutes: Annotated[int, "Dement 1999, table 2"] = 20
    deep: bool = False
    ratio: float | None = None
    parts: tuple[int, ...] = (1, 2)
    sleeper: object = None

    def run(self, out, *, resume=False):
        (out / "slept").write_text(str(self.minutes))


def nap(data: Path, *, bed: Path | None = None, pillows: int = 1) -> Nap:
    """A nap after lunch."""
    return Nap(where=bed or data)


def _private() -> Nap: ...
'''


@pytest.fixture
def nap(tmp_path: Path):
    (tmp_path / "sleep.py").write_text(SOURCE)
    return f"{tmp_path / 'sleep.py'}:nap"


def test_settings_fill_parameters_then_the_jobs_scalars(nap: str):
    settings = {"bed": "sofa", "minutes": "5", "deep": "true", "ratio": "none", "parts": "3,4,"}
    job, inputs = recipe.build(recipe.load(nap), data=Path("d"), settings=settings)
    assert inputs == {"data": Path("d"), "bed": Path("sofa")}
    assert vars(job) == {
        "where": Path("sofa"),
        "minutes": 5,
        "deep": True,
        "ratio": None,
        "parts": (3, 4),
        "sleeper": None,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"minuts": "5"}, "did you mean 'minutes'"),
        ({"minutes": "soon"}, "minutes=soon: not a valid int"),
        ({"deep": "1"}, "deep=1: not a valid bool"),
        ({"parts": "1,two"}, r"parts=1,two: not a valid tuple\[int, ...\]"),
        ({"sleeper": "1"}, "nothing is called 'sleeper'"),
        ({"zzz": "1"}, "there are"),
    ],
)
def test_a_wrong_setting_is_named(nap: str, settings: dict[str, str], message: str):
    with pytest.raises(ValueError, match=message):
        recipe.build(recipe.load(nap), data=Path("d"), settings=settings)


def test_a_function_that_makes_no_job_is_named_and_so_is_one_without_annotations(tmp_path: Path):
    (tmp_path / "own.py").write_text("def half(data, rate):\n    return rate + '!'\n")
    with pytest.raises(ValueError, match="'half' returns str, not a job"):
        recipe.build(
            recipe.load(f"{tmp_path / 'own.py'}:half"), data=Path("d"), settings={"rate": "2"}
        )


def test_missing_data_is_named(nap: str):
    with pytest.raises(ValueError, match="--data"):
        recipe.build(recipe.load(nap), data=None, settings={})


def test_a_url_stays_a_string_for_recipes_that_read_urls_and_others_refuse_it(
    tmp_path: Path, nap: str
):
    with pytest.raises(ValueError, match="'nap' reads a folder, not s3://bucket/a"):
        recipe.build(recipe.load(nap), data="s3://bucket/a", settings={})
    (tmp_path / "url.py").write_text(SOURCE.replace("data: Path,", "data: Path | str,"))
    reads_urls = recipe.load(f"{tmp_path / 'url.py'}:nap")
    for given, expected in (("s3://bucket/a", "s3://bucket/a"), ("a/b", Path("a/b"))):
        assert recipe.build(reads_urls, data=given, settings={})[1] == {"data": expected}


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("recipes.student", ValueError, "not MODULE:FUNCTION"),
        ("recipes.nowhere:f", FileNotFoundError, "no module 'recipes.nowhere'"),
        ("no/such/file.py:f", FileNotFoundError, "no recipe file"),
    ],
)
def test_a_wrong_name_is_named(name: str, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        recipe.load(name)


def test_a_module_of_the_working_folder_is_found_and_so_is_what_it_imports_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lazy = SOURCE.replace("    return Nap", "    import bedroom_of_the_test\n    return Nap")
    (tmp_path / "sleep_of_the_test.py").write_text(lazy)
    (tmp_path / "bedroom_of_the_test.py").write_text("")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    function = recipe.load("sleep_of_the_test:nap")
    assert recipe.load("sleep_of_the_test:nap") is function
    assert sys.path == [*before, str(tmp_path)]
    job, _ = recipe.build(function, data=Path("d"), settings={})
    assert isinstance(job, Job)


def test_a_wrong_function_names_the_nearest_and_hides_private_ones(nap: str):
    with pytest.raises(ValueError, match="did you mean 'nap'"):
        recipe.load(nap.replace(":nap", ":nip"))
    with pytest.raises(ValueError, match="no recipe '_private'"):
        recipe.load(nap.replace(":nap", ":_private"))


CHOICES = (
    SOURCE.replace(
        "def nap(data: Path, *, bed",
        """@dataclasses.dataclass(frozen=True)
class Tune:
    volume: Annotated[float, "Brahms 1868", "0: silence"] = 0.5
    key: Literal["E flat", "C"] = "E flat"


@dataclasses.dataclass(frozen=True)
class Evening:
    tune: Tune = Tune()
    lamps: tuple[float, float] = (0.1, 1e-6)


def nap(data: Path, *, evening: Evening = Evening(), bed""",
    )
    .replace("where=bed or data", "where=bed or data, sleeper=evening")
    .replace("import Annotated", "import Annotated, Literal")
)


@pytest.fixture
def evening(tmp_path: Path):
    (tmp_path / "evening.py").write_text(CHOICES)
    return recipe.load(f"{tmp_path / 'evening.py'}:nap")


def test_a_dataclass_stands_for_its_fields(evening: recipe.Recipe):
    settings = {"volume": "0.25", "key": "C", "lamps": "2,3", "minutes": "5"}
    job, inputs = recipe.build(evening, data=Path("d"), settings=settings)
    made = inputs["evening"]
    assert (made.tune.volume, made.tune.key, made.lamps) == (0.25, "C", (2.0, 3.0))
    assert vars(job)["sleeper"] is made
    names = [setting.name for setting in recipe.settings_of(evening)]
    assert names == ["data", "volume", "key", "lamps", "bed", "pillows"]
    assert "evening" not in recipe.build(evening, data=Path("d"), settings={})[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"volum": "1"}, "did you mean 'volume'"),
        ({"key": "D"}, "key=D: not a valid E flat or C"),
        ({"lamps": "2"}, r"lamps=2: not a valid tuple\[float, float\]"),
        ({"evening": "1"}, "nothing is called 'evening'"),
    ],
)
def test_a_wrong_choice_is_named(evening: recipe.Recipe, settings: dict[str, str], message: str):
    with pytest.raises(ValueError, match=message):
        recipe.build(evening, data=Path("d"), settings=settings)


def test_two_settings_of_one_name_are_refused(tmp_path: Path):
    (tmp_path / "two.py").write_text(CHOICES.replace("pillows: int", "volume: int"))
    with pytest.raises(ValueError, match="'nap' has two settings called 'volume'"):
        recipe.settings_of(recipe.load(f"{tmp_path / 'two.py'}:nap"))


def test_explain_prints_values_sources_and_alternatives(evening: recipe.Recipe):
    settings = {"minutes": "7", "volume": "0.25", "bed": "soft"}
    job, inputs = recipe.build(evening, data=Path("DATA"), settings=settings)
    inputs.pop("data")
    lines = explain(evening, job, inputs).splitlines()
    assert lines[0] == "A nap after lunch."
    columns = [line.split() for line in lines]
    assert ["value", "source", "or", "else"] in columns
    assert ["volume", "0.25", "Brahms", "1868", "0:", "silence"] in columns
    assert ["minutes", "7", "Dement", "1999,", "table", "2"] in columns
    for row in (["lamps", "0.1,1e-06"], ["bed", "soft"], ["data", "required"], ["deep", "false"]):
        assert row in columns
    assert [line for line in lines if line.startswith(" ") and line[1] != " "] == [
        *(" tune", " evening", " Nap")
    ]
    sources = ("Brahms", "Dement", "source")
    at = {line.index(word) for line in lines for word in sources if word in line}
    assert len(at) == 1, "the sources stand in one column"
    assert lines[-1] == (
        "  sleeper = Evening(tune=Tune(volume=0.25, key=E flat), lamps=(0.1,1e-06))"
    )


def test_explain_gives_an_alternative_that_is_the_value_as_its_source():
    def asleep(
        snore: Annotated[float, "Brahms: 0.1", "0: silence; half of it: a cat; 1: a bear"] = 0.1,
        side: Annotated[Literal["left", "right", "back"], "doctors", "right: cats"] = "left",
    ) -> Job:
        """Asleep."""
        raise AssertionError("explained from its signature, never called")

    @dataclass(frozen=True)
    class Slept:
        def run(self, out, *, resume=False): ...

    lines = [line.split() for line in explain(asleep, Slept(), {}).splitlines()]
    usual = "Brahms: 0.1 0: silence; half of it: a cat; 1: a bear"
    assert ["snore", "0.1", *usual.split()] in lines
    assert ["side", "left", "doctors", "right:", "cats;", "back"] in lines
    lines = [line.split() for line in explain(asleep, Slept(), {"snore": 0.0}).splitlines()]
    other = "silence; half of it: a cat Brahms: 0.1; 1: a bear"
    assert ["snore", "0", *other.split()] in lines


def test_explain_breaks_long_cells_and_shows_the_numbers_inside_parts():
    """Of a partial call and of a plain function alike, of our own code alone."""

    @dataclass(frozen=True)
    class Trained:
        parts: object

        def run(self, out, *, resume=False): ...

    def short(data: Annotated[Path, "word " * 30, "other " * 30] = Path("d")) -> Trained:
        """Short."""
        raise AssertionError("explained from its signature, never called")

    parts = {"a": partial(affine_invariant, trim=0.1), "b": [silog, len], "c": partial(int, "1")}
    text = explain(short, Trained(parts), {})
    assert max(map(len, text.splitlines())) <= 120
    assert text.count("word") == text.count("other") == 30
    for number in ("trim=0.1", "region=1", "divide_by=kept", "squared=false"):
        assert number in text
    assert "silog(variance_focus=0.5)" in text
    assert "len" in text
    assert "int(1)" in text


def test_annotations_of_any_depth_are_opened():
    hint = Annotated[int | None, "why"]
    assert recipe._parse("none", hint, "x") is None
    assert recipe._parse("3", hint, "x") == 3
