"""Recipes by name: loading, parsing settings by annotation, errors that name the remedy."""

import sys
from pathlib import Path
from typing import Annotated

import pytest

from distill import recipe
from distill.job import Job

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
    settings = {"bed": "sofa", "minutes": "5", "deep": "true", "ratio": "none"}
    job, inputs = recipe.build(recipe.load(nap), data=Path("d"), settings=settings)
    assert inputs == {"data": Path("d"), "bed": Path("sofa")}
    assert vars(job) == {
        "where": Path("sofa"),
        "minutes": 5,
        "deep": True,
        "ratio": None,
        "parts": (1, 2),
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"minuts": "5"}, "did you mean 'minutes'"),
        ({"minutes": "soon"}, "minutes=soon: not a valid int"),
        ({"deep": "1"}, "deep=1: not a valid bool"),
        ({"parts": "1"}, "nothing is called 'parts'"),
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


def test_explain_prints_values_and_sources(nap: str):
    function = recipe.load(nap)
    job, _ = recipe.build(function, data=Path("DATA"), settings={"minutes": "7"})
    text = recipe.explain(function, job, {"bed": "soft"})
    assert "A nap after lunch." in text
    assert "minutes = 7   # Dement 1999, table 2" in text
    assert "bed = soft" in text
    assert "pillows = 1" in text
    assert "data = required" in text


def test_annotations_of_any_depth_are_opened():
    hint = Annotated[int | None, "why"]
    assert recipe._parse("none", hint, "x") is None
    assert recipe._parse("3", hint, "x") == 3
