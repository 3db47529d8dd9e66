"""Files below a folder: in order, without hidden ones, never in a circle, and known again."""

from pathlib import Path

from distill.datasets.folders import files_below, unchanged


def touched(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_files_in_order_without_hidden_ones_and_circles(tmp_path: Path):
    touched(tmp_path, "b/2.npy", "b/1.npy", "a.npy", ".hidden/x.npy", "__MACOSX/x.npy", "b/.x.npy")
    (tmp_path / "b/up").symlink_to(tmp_path)
    assert list(files_below(tmp_path)) == ["a.npy", "b/1.npy", "b/2.npy"]
    assert list(files_below(tmp_path, suffixes=("1.npy",))) == ["b/1.npy"]
    (tmp_path / "b/up").unlink()
    assert list(files_below(tmp_path / "b", of=tmp_path)) == ["b/1.npy", "b/2.npy"]
    assert list(files_below(tmp_path, of=tmp_path)) == ["a.npy", "b/1.npy", "b/2.npy"]


def test_a_folder_is_unchanged_until_a_file_comes_or_goes(tmp_path: Path):
    touched(tmp_path, "a.npy", "b/c/d.npy")
    times: dict[str, str] = {}
    assert len(list(files_below(tmp_path, times=times))) == 2
    assert set(times) == {"", "b/", "b/c/"}
    assert unchanged(tmp_path, times)
    touched(tmp_path, "b/c/e.npy")
    assert not unchanged(tmp_path, times)
    list(files_below(tmp_path, times=times))
    (tmp_path / "b").rename(tmp_path / "z")
    assert not unchanged(tmp_path, times), "gone"
