"""Whatever form photographs come in, its reader is found: the eight sources, as distributed."""

import io
import tarfile
from pathlib import Path

import av
import fsspec
import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from distill.datasets.hugging_face import HuggingFace
from distill.datasets.image_folder import ImageFolder
from distill.datasets.lmdb_images import LmdbImages
from distill.datasets.parquet_images import ParquetImages
from distill.datasets.photographs import open_photographs
from distill.datasets.tar_shards import TarShards
from distill.datasets.video_frames import VideoFrames


def jpeg(number: int = 0) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (40, 30), (9 * number, 80, 200)).save(data, "JPEG")
    return data.getvalue()


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def video(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(45):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * n, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def bdd100k(root: Path) -> dict[str, type]:
    video(root / "bdd100k/videos/train/0000f77c-6257be58.mov")
    return dict.fromkeys(
        (f"bdd100k/videos/train/0000f77c-6257be58.mov/{n * 500_000:012d}" for n in range(3)),
        VideoFrames,
    )


def landmarks(root: Path) -> dict[str, type]:
    for shard, name in (
        ("images_000.tar", "0/0/0/000075ce23ed4f3c.jpg"),
        ("images_001.tar", "1.jpg"),
    ):
        tar(root / shard, {name: jpeg(), "readme.txt": b"x"})
    write(root, {"train.csv": b"id,url,landmark_id"})
    return {
        "images_000.tar/0/0/0/000075ce23ed4f3c.jpg": TarShards,
        "images_001.tar/1.jpg": TarShards,
    }


def imagenet(root: Path) -> dict[str, type]:
    names = ["n00004475_2.JPEG", "n00004475_15.JPEG"]
    tar(root / "n00004475.tar", {name: jpeg() for name in names})
    return {f"n00004475.tar/{name}": TarShards for name in names}


def lsun(root: Path) -> dict[str, type]:
    for folder, key in (("bedroom_train_lmdb", b"0a1b"), ("tower_val_lmdb", b"ff00")):
        (root / folder).mkdir()
        with lmdb.open(str(root / folder)) as database, database.begin(write=True) as all_:
            all_.put(key, jpeg())
    return {"bedroom_train_lmdb/0a1b": LmdbImages, "tower_val_lmdb/ff00": LmdbImages}


def objects365(root: Path) -> dict[str, type]:
    """`patch0.tar.gz` unpacked; packed it is refused below."""
    names = ["train/patch0/objects365_v1_00000013.jpg", "val/images/v2/patch16/objects365_v2_1.jpg"]
    write(root, dict.fromkeys(names, jpeg()) | {"zhiyuan_objv2_train.json": b"{}"})
    return dict.fromkeys(names, ImageFolder)


def open_images(root: Path) -> dict[str, type]:
    names = ["train_0/000002b66c9c498e.jpg", "validation/0001eeaf4aed83f9.jpg"]
    write(root, dict.fromkeys(names, jpeg()))
    return dict.fromkeys(names, ImageFolder)


def places365(root: Path) -> dict[str, type]:
    names = ["data_256/a/airfield/00000001.jpg", "data_256/z/zen_garden/00000002.jpg"]
    write(root, dict.fromkeys(names, jpeg()))
    return dict.fromkeys(names, ImageFolder)


def sa1b(root: Path) -> dict[str, type]:
    members = {f"sa_{n}.{kind}": jpeg() for n in (223750, 223751) for kind in ("jpg", "json")}
    tar(root / "sa_000020.tar", {f"./{name}": data for name, data in members.items()})
    return {f"sa_000020.tar/sa_{n}.jpg": TarShards for n in (223750, 223751)}


@pytest.mark.parametrize(
    "source",
    [bdd100k, landmarks, imagenet, lsun, objects365, open_images, places365, sa1b],
)
def test_the_eight_sources_as_they_are_distributed(tmp_path: Path, source):
    wanted = source(tmp_path)
    found = open_photographs(tmp_path, name=source.__name__)
    keys = [found.key(n) for n in range(len(found))]
    assert keys == sorted(f"{source.__name__}/{name}" for name in wanted)
    assert {type(found)} == set(wanted.values())
    sample = found[0]
    assert sample.target is None
    assert sample.image.shape[1:] in ((30, 40), (48, 64))


def test_forms_that_users_have(tmp_path: Path):
    table = pa.table({"image": [{"bytes": jpeg(), "path": "a.jpg"}] * 3})
    (tmp_path / "parquet").mkdir()
    pq.write_table(table, tmp_path / "parquet" / "train-00000-of-00001.parquet")
    assert isinstance(open_photographs(tmp_path / "parquet"), ParquetImages)
    assert len(open_photographs(str(tmp_path / "parquet" / "*.parquet"))) == 3
    assert len(open_photographs(str(tmp_path / "parquet" / "train-?????-of-00001.parquet"))) == 3
    write(tmp_path / "a [b] {1..2}?", {"c.jpg": jpeg()})
    assert isinstance(open_photographs(tmp_path / "a [b] {1..2}?"), ImageFolder)
    clip = video(tmp_path / "videos" / "a.MP4")
    assert isinstance(open_photographs(clip), VideoFrames)
    tar(tmp_path / "shards" / "x-000000.tar", {"a.jpg": jpeg()})
    assert isinstance(
        open_photographs(str(tmp_path / "shards" / "x-{000000..000000}.tar")), TarShards
    )
    store = fsspec.filesystem("memory")
    store.pipe("/photos/x.tar", (tmp_path / "shards" / "x-000000.tar").read_bytes())
    store.pipe("/photos/x.parquet", next((tmp_path / "parquet").iterdir()).read_bytes())
    assert isinstance(open_photographs("memory://photos/x.tar"), TarShards)
    assert isinstance(open_photographs("memory://photos/*.parquet"), ParquetImages)


def test_a_folder_that_datasets_saved(tmp_path: Path):
    import datasets

    rows = {"image": [{"bytes": jpeg(), "path": None}]}
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict(rows, features).save_to_disk(str(tmp_path / "saved"))
    assert isinstance(open_photographs(tmp_path / "saved"), HuggingFace)


def test_what_is_no_source_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"none: no such file or folder; give one of"):
        open_photographs(tmp_path / "none")
    write(tmp_path / "mixed", {"a.jpg": jpeg(), "b.jpg": jpeg(), "c.tar": b"", "d.txt": b""})
    with pytest.raises(
        ValueError, match=r"several forms \(2 of image, 1 of tar\); give one folder"
    ):
        open_photographs(tmp_path / "mixed")
    for name in ("a.txt", "a.jpg"):
        write(tmp_path, {name: b""})
        with pytest.raises(ValueError, match="is no folder, shard, Parquet file or video"):
            open_photographs(tmp_path / name)
    write(tmp_path / "words", {"a.txt": b""})
    with pytest.raises(ValueError, match="no image in "):
        open_photographs(tmp_path / "words")
    packed = write(tmp_path, {"patch0.tar.gz": b"\x1f\x8b"}) / "patch0.tar.gz"
    write(tmp_path / "patches", {"patch0.tar.gz": b"", "notes.txt": b""})
    for place in (packed, tmp_path / "patches"):
        with pytest.raises(ValueError, match=r"holds patch0\.tar\.gz; unpack it"):
            open_photographs(place)
