"""Tar shards: WebDataset's and others', near and far, read without unpacking."""

import gzip
import io
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from contracts import check_dataset
from PIL import Image
from range_server import serving
from scenes import ball, pinhole, room
from webdataset.compat import WebDataset

from distill.datasets import remote, tar_members, tar_shards
from distill.datasets.tar_shards import TarShards

H, W = 24, 40
SCENES = (room(H, W, pinhole(H, W)), ball(H, W, pinhole(H, W)))


def jpeg(number: int = 0) -> bytes:
    pixels = (SCENES[number].image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=98, subsampling=0)
    return data.getvalue()


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def keys(shards: TarShards) -> list[str]:
    return [shards.key(n) for n in range(len(shards))]


def test_the_contract(tmp_path: Path):
    write_tar(tmp_path / "b.tar", [("x/2.jpg", jpeg(1)), ("x/2.json", b"{}"), ("x/1.jpg", jpeg())])
    write_tar(tmp_path / "a.b.tar", [("./9.jpg", jpeg(1))])
    scenes = {
        "photos/a.b.tar/9.jpg": SCENES[1],
        "photos/b.tar/x/1.jpg": SCENES[0],
        "photos/b.tar/x/2.jpg": SCENES[1],
    }
    check_dataset(lambda: TarShards(tmp_path), scenes, space=None, image_tolerance=0.02)
    assert keys(TarShards(tmp_path)) == sorted(scenes)


def test_the_bytes_are_the_members_own(tmp_path: Path):
    write_tar(tmp_path / "a.tar", [("1.jpg", jpeg()), ("2.png", b"no image"), ("3.jpg", b"")])
    shards = TarShards(tmp_path / "a.tar", name="web")
    assert [shards.encoded(n) for n in range(3)] == [jpeg(), b"no image", b""]
    for index, key in ((1, "web/a.tar/2.png"), (2, "web/a.tar/3.jpg")):
        with pytest.raises(ValueError, match=rf"^{key}: damaged"):
            shards[index]
    with pytest.raises(IndexError):
        shards.encoded(3)


def test_webdataset_sees_the_same_samples(tmp_path: Path):
    members = [
        ("a/0001.jpg", jpeg()),
        ("a/0001.json", b"{}"),
        ("a/0001.seg.png", b"mask"),
        ("a/0001.depth.png", b"depth"),
        ("b/0001.PNG", b"first"),
        ("b/0001.txt", b"a caption"),
        ("b/0002.webp", b"second"),
        ("b/0002.jpeg", b"third"),
    ]
    path = write_tar(tmp_path / "shard-000000.tar", members)
    shards = TarShards(path)
    assert keys(shards) == [
        "photos/shard-000000.tar/a/0001.jpg",
        "photos/shard-000000.tar/b/0001.PNG",
        "photos/shard-000000.tar/b/0002.jpeg",
    ]
    theirs = list(WebDataset(str(path), shardshuffle=False))
    assert [sample["__key__"] for sample in theirs] == ["a/0001", "b/0001", "b/0002"]
    images = [sample.get("jpg") or sample.get("png") or sample.get("jpeg") for sample in theirs]
    assert images == [shards.encoded(n) for n in range(3)]


def test_maps_are_never_photographs(tmp_path: Path):
    names = ["a.rgb.jpg", "a.depth.png", "b.seg.png", "b.Mask.PNG", "c/depth.png", "d.1.5.jpg"]
    path = write_tar(tmp_path / "a.tar", [(name, b"x") for name in names])
    found = [key.removeprefix("photos/a.tar/") for key in keys(TarShards(path))]
    assert found == ["a.rgb.jpg", "c/depth.png", "d.1.5.jpg"]


def test_keys_are_clean(tmp_path: Path):
    path = write_tar(tmp_path / "a.tar", [("/abs//./a.jpg", jpeg()), ("b/../c.json", b"{}")])
    with pytest.raises(ValueError, match=r"a\.tar: the name 'b/\.\./c\.json' leads out of it"):
        TarShards(path)
    write_tar(path, [("/abs//./a.jpg", jpeg())])
    assert keys(TarShards(path)) == ["photos/a.tar/abs/a.jpg"]
    assert TarShards(path).encoded(0) == jpeg()
    write_tar(path, [("a.jpg", b"1"), ("a.JPG", b"2")])
    with pytest.raises(ValueError, match=r"a\.tar: a\.jpg and a\.JPG are one image"):
        TarShards(path)
    with tarfile.open(path, "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("é.jpg"))
    with pytest.raises(ValueError, match=r"a\.tar: the name '.udce9\.jpg' is not UTF-8"):
        TarShards(path)


def test_names_with_dots_of_their_own_are_images_each(tmp_path: Path):
    names = ["v1.5_0001.jpg", "v1.5_0002.jpg", "n01440764_18.JPEG", "._hidden.jpg", "notes.txt"]
    names += ["__MACOSX/a.jpg", "long/" * 30 + "name.jpg"]
    path = write_tar(tmp_path / "a.tar", [(name, b"x") for name in names])
    found = [key.removeprefix("photos/a.tar/") for key in keys(TarShards(path))]
    assert found == sorted([*names[:3], names[-1]])


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_links(tmp_path: Path, form: int):
    long = "ä" * 150 + "/b.jpg"
    path = write_tar(tmp_path / "a.tar", [(long, jpeg())], format=form)
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("c.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        folder = tarfile.TarInfo("d.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        again = tarfile.TarInfo("0.jpg")  # another name of the first, as tar stores hard links
        again.type, again.linkname = tarfile.LNKTYPE, long
        tar.addfile(again)
    shards = TarShards(path)
    assert keys(shards) == ["photos/a.tar/0.jpg", f"photos/a.tar/{long}"]
    assert shards.encoded(0) == shards.encoded(1) == jpeg()
    with tarfile.open(path, "a") as tar:
        again.name, again.linkname = "1.jpg", "gone.jpg"
        tar.addfile(again)
    with pytest.raises(ValueError, match=r"a\.tar: 1\.jpg links to gone\.jpg, which is not before"):
        TarShards(path)


def test_members_that_are_compressed_by_themselves(tmp_path: Path, monkeypatch):
    packed = gzip.compress(jpeg())
    members = [("1.JPEG", packed), ("2.JPEG", packed[:-20]), ("3.JPEG", b"\x1f\x8bnothing")]
    shards = TarShards(write_tar(tmp_path / "n00000001.tar", members))
    assert shards.encoded(0) == jpeg()
    for index, words in ((1, "cut off or larger"), (2, "compressed and damaged")):
        with pytest.raises(ValueError, match=rf"/{index + 1}\.JPEG: compressed.*{words[-12:]}"):
            shards[index]
    monkeypatch.setattr(tar_shards, "_UNPACKED", 100)
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        shards.encoded(0)


def test_patterns(tmp_path: Path):
    for number in range(12):
        write_tar(tmp_path / f"shard-{number:06d}.tar", [("a.jpg", b"x")])
    counted = TarShards(str(tmp_path / "shard-{000002..000010}.tar"))
    assert len(counted) == 9
    assert len(TarShards(str(tmp_path / "shard-00000?.tar"))) == 10
    for odd in ("a [b]", "c*d", "e{1..2}", "F.TAR"):  # is what it is called, first of all
        place = write_tar(tmp_path / odd / "x.TAR", [("a.jpg", b"x")])
        write_tar(tmp_path / odd / "._x.tar", [("b.jpg", b"x")])
        assert keys(TarShards(place)) == keys(TarShards(place.parent)) == ["photos/x.TAR/a.jpg"]
    assert len(TarShards([tmp_path / "shard-000000.tar", tmp_path / "shard-000001.tar"])) == 2
    with pytest.raises(FileNotFoundError, match=r"shard-000012\.tar"):
        TarShards(str(tmp_path / "shard-{000010..000012}.tar"))
    with pytest.raises(FileNotFoundError, match=r"none-\*\.tar: no file"):
        TarShards(str(tmp_path / "none-*.tar"))
    with pytest.raises(ValueError, match=r"\{2\.\.1\} counts down"):
        TarShards(str(tmp_path / "shard-{2..1}.tar"))


def test_shards_of_one_name_are_told_apart_by_their_folders(tmp_path: Path):
    for folder in ("train", "val"):
        write_tar(tmp_path / folder / "patch0.tar", [("a.jpg", b"x")])
    shards = TarShards(tmp_path)
    assert keys(shards) == ["photos/train/patch0.tar/a.jpg", "photos/val/patch0.tar/a.jpg"]


def test_damage_names_the_shard(tmp_path: Path):
    whole = write_tar(tmp_path / "a.tar", [("1.jpg", jpeg()), ("2.jpg", jpeg())]).read_bytes()
    path = tmp_path / "b.tar"
    cut, second = 512 + len(jpeg()) // 2, 512 + -(-len(jpeg()) // 512) * 512
    for data, words in (
        (whole[:cut], "unexpected end of data"),
        (whole[:second], f"cut off at byte {second}, the end mark is missing"),
        (whole[: second + 99], f"damaged at byte {second}"),
        (whole[:second] + b"?" + whole[second + 1 :], f"damaged at byte {second}"),
        (whole + whole, "several archives in one"),
        (b"", "empty"),
        (b"nothing" * 100, "header"),
        (gzip.compress(whole), "is compressed; gunzip it"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf"b\.tar: .*{words}"):
            TarShards(path)
    write_tar(path, [("1.jpg", b"x"), ("2.jpg", b"x"), ("1.jpg", b"y")])
    with pytest.raises(ValueError, match=r"b\.tar: 1\.jpg is there twice"):
        TarShards(path)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        holes = tarfile.TarInfo("1.jpg")
        holes.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "9"}
        tar.addfile(holes)
    with pytest.raises(ValueError, match=r"b\.tar: 1\.jpg is sparse; pack it without --sparse"):
        TarShards(path)
    write_tar(path, [("notes.txt", b"x")])
    with pytest.raises(ValueError, match="photos: no image in 1 shards"):
        TarShards(path)


def test_a_shard_that_was_cut_after_it_was_listed(tmp_path: Path):
    path = write_tar(tmp_path / "a.tar", [("1.jpg", jpeg())])
    shards = TarShards(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(OSError, match=r"a\.tar: ends at 600, before \d+; it is cut"):
        shards[0]


# --- far away ---


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PAUSE", 0.01)


def test_over_http_an_image_is_one_read_of_its_bytes(tmp_path: Path):
    rng = np.random.default_rng(0)
    members = [(f"{n:03d}.jpg", rng.bytes(300_000)) for n in range(4)] + [("z.jpg", jpeg())]
    write_tar(tmp_path / "a.tar", members)
    with serving(tmp_path) as (address, trouble):
        shards = TarShards(f"{address}/a.tar")
        assert keys(shards) == [f"photos/a.tar/{name}" for name, _ in members]
        assert trouble.bytes_sent < 0.6 * (tmp_path / "a.tar").stat().st_size, "headers only"
        for index in (3, 0, 4, 2):
            before = trouble.bytes_sent
            assert shards.encoded(index) == members[index][1]
            assert trouble.bytes_sent - before == len(members[index][1])
        before = trouble.bytes_sent
        assert keys(TarShards(f"{address}/a.tar")) == keys(shards)
        assert trouble.bytes_sent == before, "the listing is kept"


def test_over_http_a_query_is_no_pattern_and_no_part_of_keys(tmp_path: Path):
    write_tar(tmp_path / "sa_000020.tar", [("1.jpg", jpeg())])
    with serving(tmp_path) as (address, _):
        shards = TarShards([f"{address}/sa_000020.tar?oh=[A]&oe=1"])
        assert keys(shards) == ["photos/sa_000020.tar/1.jpg"]
        assert shards.encoded(0) == jpeg()


def test_a_listing_that_was_interrupted_goes_on(tmp_path: Path, hurry, monkeypatch):
    for number in range(3):
        write_tar(tmp_path / f"{number}.tar", [(f"{number}.jpg", jpeg())])
    last = (tmp_path / "2.tar").rename(tmp_path / "later")
    listed = []
    photographs = tar_members.photographs
    monkeypatch.setattr(
        tar_members,
        "photographs",
        lambda file, place: listed.append(place) or photographs(file, place),
    )
    with serving(tmp_path) as (address, _):
        with pytest.raises(FileNotFoundError):
            TarShards(f"{address}/{{0..2}}.tar")
        assert sorted(listed) == [f"{address}/0.tar", f"{address}/1.tar"]
        last.rename(tmp_path / "2.tar")
        shards = TarShards(f"{address}/{{0..2}}.tar")
        assert listed[2:] == [f"{address}/2.tar"]
        assert keys(shards) == [f"photos/{n}.tar/{n}.jpg" for n in range(3)]
        write_tar(tmp_path / "1.tar", [("1.jpg", jpeg()), ("4.jpg", jpeg(1))])
        again = TarShards(f"{address}/{{0..2}}.tar")
        assert listed[3:] == [f"{address}/1.tar"]
        assert again.encoded(2) == jpeg(1)


def test_over_http_workers_read_for_themselves(tmp_path: Path):
    write_tar(tmp_path / "a.tar", [(f"{n}.jpg", jpeg(n % 2)) for n in range(6)])
    with serving(tmp_path) as (address, _):
        shards = TarShards(f"{address}/a.tar")
        alone = [shards[n].image for n in range(6)]  # the parent's connections are open
        loader = torch.utils.data.DataLoader(shards, batch_size=None, num_workers=2)  # type: ignore[arg-type]  # a Protocol, not their class
        for sample, image in zip(loader, alone, strict=True):
            assert torch.equal(sample.image, image)
        assert torch.equal(pickle.loads(pickle.dumps(shards))[3].image, alone[3])


def test_a_network_that_fails_for_a_while_is_waited_for(tmp_path: Path, hurry, caplog):
    write_tar(tmp_path / "a.tar", [("1.jpg", jpeg())])
    with serving(tmp_path) as (address, trouble):
        trouble.requests = 2
        shards = TarShards(f"{address}/a.tar")
        trouble.requests = 3
        assert shards.encoded(0) == jpeg()
        assert "again in" in caplog.text
        trouble.requests = 100
        with pytest.raises(OSError, match=r"a\.tar: .*503.*, 5 times in a row"):
            shards.encoded(0)
        trouble.requests = 0
        with pytest.raises(FileNotFoundError):
            TarShards(f"{address}/b.tar")


def test_a_server_without_ranges_is_told(tmp_path: Path):
    write_tar(tmp_path / "a.tar", [("1.jpg", jpeg()), ("2.jpg", jpeg())])
    with serving(tmp_path) as (address, trouble):
        shards = TarShards(f"{address}/a.tar")
        trouble.ranges = False
        with pytest.raises(OSError, match=r"must know byte ranges"):
            shards.encoded(1)


def test_a_shard_that_was_replaced_is_listed_again(tmp_path: Path):
    write_tar(tmp_path / "a.tar", [("1.jpg", jpeg())])
    with serving(tmp_path) as (address, _):
        assert len(TarShards(f"{address}/a.tar")) == 1
        write_tar(tmp_path / "a.tar", [("1.jpg", jpeg()), ("2.jpg", jpeg())])
        assert len(TarShards(f"{address}/a.tar")) == 2


@pytest.mark.parametrize("tag", ["ETag", "Last-Modified", "last_modified", "blob_id"])
def test_what_tells_that_a_far_file_of_the_same_size_changed(monkeypatch, tag):
    about = {"size": 9, "name": "a.tar", tag: "one"}
    monkeypatch.setattr(remote, "patiently", lambda place, work: about)
    before = remote.version("https://x/a.tar")
    about[tag] = "two"
    assert remote.version("https://x/a.tar") != before


def test_object_stores(tmp_path: Path):
    """memory:// stands for s3:// and the others that fsspec knows."""
    store = fsspec.filesystem("memory")
    for number in range(2):
        data = write_tar(tmp_path / "a.tar", [(f"{number}.jpg", jpeg(number))]).read_bytes()
        store.pipe(f"/bucket/shards/{number:02d}.tar", data)
    for place in ("{00..01}.tar", "*.tar", ""):
        shards = TarShards(f"memory://bucket/shards/{place}")
        assert keys(shards) == ["photos/00.tar/0.jpg", "photos/01.tar/1.jpg"]
        assert shards.encoded(1) == jpeg(1)
