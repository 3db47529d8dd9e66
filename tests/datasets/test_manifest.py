"""A listing is kept, taken again, and made anew where it no longer holds."""

import hashlib
import itertools
import logging
import os
import pickle
import time
from pathlib import Path

import pyarrow as pa
import pytest

from distill.datasets import manifest
from distill.datasets.image_folder import ImageFolder
from distill.datasets.manifest import Entry, Manifest, kept_or_listed


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(manifest, "WORTH", 5)
    monkeypatch.setattr(manifest, "_ROWS", 8)
    return tmp_path / "cache" / "distill" / "manifests"


class Source:
    """Counts how often it is listed; `tide` is what decides whether a listing holds."""

    def __init__(self, rows: int = 20) -> None:
        self.rows, self.listed, self.tide = rows, 0, "low"

    def entries(self, state: dict[str, str]):
        self.listed += 1
        for n in range(self.rows):
            yield Entry(n // 10, f"ä{n:03d}.jpg", 512 * n, n)
        state["tide"] = self.tide

    def open(self, name: str = "sea", *, slow: bool = False) -> Manifest:
        return kept_or_listed(
            name,
            fresh=lambda state: state["tide"] == self.tide,
            entries=self.entries,
            containers=("a.tar", "b.tar"),
            slow=slow,
        )


def rows(found: Manifest) -> list[Entry]:
    return [found[n] for n in range(len(found))]


def test_rows_come_back_as_they_were_listed_kept_or_not(cache: Path):
    source = Source()
    first, again = source.open(), source.open()
    assert source.listed == 1
    assert rows(first) == rows(again) == list(source.entries({}))
    assert first.path(-1) == "ä019.jpg"
    assert again[19].container == 1
    assert again.containers == ("a.tar", "b.tar")
    for index in (20, -21):
        with pytest.raises(IndexError):
            again[index]
        with pytest.raises(IndexError):
            again.path(index)
    assert len(list(cache.iterdir())) == 2, "nothing temporary is left"


def test_a_short_listing_is_not_kept_unless_it_is_slow(cache: Path):
    source = Source(rows=4)
    assert rows(source.open()) == rows(source.open())
    assert source.listed == 2
    assert not cache.exists()
    source.open(slow=True)
    source.open(slow=True)
    assert source.listed == 3


def test_nothing_at_all():
    assert len(Source(rows=0).open()) == len(Source(rows=0).open(slow=True)) == 0


def test_what_has_changed_is_listed_again():
    source = Source()
    source.open()
    source.tide, source.rows = "high", 21
    assert len(source.open()) == 21
    assert len(source.open()) == 21
    assert source.listed == 2


def test_another_source_or_other_containers_have_listings_of_their_own():
    source = Source()
    source.open()
    source.open("lake")
    assert source.listed == 2
    kept_or_listed(
        "sea", fresh=lambda _: True, entries=source.entries, containers=("c.tar", "b.tar")
    )
    assert source.listed == 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda said, rows: rows.write_bytes(b"nothing"),
        lambda said, rows: rows.write_bytes(rows.read_bytes()[:900]),
        lambda said, rows: rows.unlink(),
        lambda said, rows: said.write_text("{"),
        lambda said, rows: said.write_text('{"source": "sea", "containers": 3}'),
        lambda said, rows: said.write_text("[]"),
        lambda said, rows: said.write_bytes(b"\xff"),
        lambda said, rows: said.write_text(said.read_text().replace('"rows": 20', '"rows": 21')),
        lambda said, rows: _other_columns(rows),
    ],
)
def test_a_damaged_listing_is_never_trusted(cache: Path, caplog, spoil):
    source = Source()
    before = rows(source.open())
    [said], [listing] = cache.glob("*.json"), cache.glob("*.arrow")
    spoil(said, listing)
    with caplog.at_level(logging.WARNING):
        assert rows(source.open()) == before
    assert source.listed == 2
    assert "is listed again" in caplog.text
    assert rows(source.open()) == before
    assert source.listed == 2


def _other_columns(path: Path) -> None:
    table = pa.table({"path": ["a"] * 20})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def test_where_nothing_can_be_kept_it_is_said_and_works(cache: Path, caplog):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where a folder should be")
    source = Source()
    with caplog.at_level(logging.WARNING):
        found = source.open()
    assert "its listing cannot be kept" in caplog.text
    assert rows(found) == list(source.entries({}))


def test_an_error_of_the_source_is_not_taken_for_one_of_the_cache(cache: Path, caplog):
    def entries(_: dict[str, str]):
        yield from (Entry(0, f"{n:03d}.jpg", 0, 0) for n in range(20))
        raise OSError("the sea is gone")

    with caplog.at_level(logging.WARNING), pytest.raises(OSError, match="the sea is gone"):
        kept_or_listed("sea", fresh=lambda _: True, entries=entries, containers=("a",))
    assert not caplog.text
    assert not list(cache.iterdir())


def test_processes_that_list_at_once_do_not_disturb_each_other(cache: Path):
    source, other = Source(), Source()
    entries = source.entries

    def meanwhile(state: dict[str, str]):
        yield from itertools.islice(entries({}), 15)
        other.open()
        yield from itertools.islice(entries(state), 15, None)

    source.entries = meanwhile  # type: ignore[method-assign]
    assert rows(source.open()) == list(entries({}))
    assert len(list(cache.iterdir())) == 2


def test_rows_are_never_exchanged_under_who_uses_them(cache: Path):
    source = Source()
    before = pickle.dumps(source.open())
    source.open()  # the same rows, whoever lists them
    assert rows(pickle.loads(before)) == list(source.entries({}))
    source.tide, source.rows = "high", 21
    source.open()
    with pytest.raises(FileNotFoundError, match="another listing has replaced this one"):
        pickle.loads(before)[3]
    assert len(list(cache.iterdir())) == 2, "the old one is gone"


def test_what_a_killed_process_left_is_removed_after_a_while(cache: Path):
    place = hashlib.sha256(f"{manifest.VERSION} sea".encode()).hexdigest()[:32]
    for name, age in (("old", 8), ("new", 1)):
        left = cache / f".{place}.{name}"
        left.mkdir(parents=True)
        (left / "rows").touch()
        then = time.time() - age * 86_400
        os.utime(left, times=(then, then))
    Source().open()
    assert {path.name for path in cache.iterdir() if path.is_dir()} == {f".{place}.new"}


def test_a_kept_listing_is_small_to_pickle():
    found = Source(rows=5000).open()
    assert len(pickle.dumps(found)) < 1000
    assert rows(pickle.loads(pickle.dumps(found))) == rows(found)


def photos(root: Path, count: int) -> Path:
    for n in range(count):
        (root / f"{n % 3}").mkdir(parents=True, exist_ok=True)
        (root / f"{n % 3}" / f"{n:04d}.jpg").touch()
    return root


def test_a_folder_of_images_is_listed_once_until_something_comes_or_goes(tmp_path, monkeypatch):
    root = photos(tmp_path / "photos", 12)
    ImageFolder(root)
    walked = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: walked.append(path) or scandir(path))
    again = ImageFolder(root)
    assert not walked
    assert [again.key(n) for n in range(2)] == ["photos/0/0000.jpg", "photos/0/0003.jpg"]
    (root / "1" / "new.png").touch()
    assert len(ImageFolder(root)) == 13
    assert walked
    (root / "2" / "0002.jpg").unlink()
    assert len(ImageFolder(root)) == 12
    (root / "new").mkdir()
    (root / "new" / "a.webp").touch()
    assert len(ImageFolder(root)) == 13
    assert ImageFolder(root).encoded(0) == b""


def test_a_folder_that_grows_while_it_is_listed_is_listed_again(tmp_path, monkeypatch):
    root = photos(tmp_path / "photos", 12)
    scandir = os.scandir

    def late(path):
        entries = scandir(path)
        if str(path) == str(root / "2"):
            os.utime(root / "0", ns=(1, 1))  # as a file that comes now would do
        return entries

    monkeypatch.setattr(os, "scandir", late)
    ImageFolder(root)
    monkeypatch.setattr(os, "scandir", scandir)
    (root / "0" / "more.jpg").touch()
    assert len(ImageFolder(root)) == 13
