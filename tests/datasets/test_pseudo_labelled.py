"""Images joined with a store that the label package wrote, and joins that must be refused."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts import check_dataset
from label_stores import meta, write_store
from PIL import Image
from scenes import Scene, ball, pinhole, room

from distill.datasets.image_folder import ImageFolder
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.labels.codec import Float32, JpegXl
from distill.labels.encoded import encode_label
from distill.labels.planes import Planes
from distill.labels.shards import CorruptShard, write_shard
from distill.types import Prediction, Sample, Space

H, W = 14, 28  # of the labels
SIZE = (2 * H, 2 * W)  # of the images


def write_image(path: Path, truth: Scene, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (truth.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    wide = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    wide.save(path)


def miniature(root: Path, **quarantined: str) -> dict[str, Scene]:
    """Two images and a finished store with the inverse depth of each, valid where there is one."""
    K = pinhole(H, W)
    scenes = {"photos/a/b.png": ball(H, W, K), "photos/c.png": room(H, W, K)}
    labels = []
    for key, truth in scenes.items():
        write_image(root / key, truth)
        values = torch.where(truth.valid, 1 / truth.depth, 0.0).float()
        prediction = Prediction(values=values, space=Space.AFFINE_DISPARITY, confidence=0.5)
        labels.append(
            encode_label(key, prediction, codec=JpegXl(), image_size=SIZE, valid=truth.valid)
        )
    keys = sorted([*scenes, *quarantined])
    meta(keys, shard_size=9).write(root / "store")
    write_shard(root / "store", 0, labels, quarantined=quarantined)
    return scenes


def joined(root: Path, *, partial: bool = False) -> PseudoLabelled:
    return PseudoLabelled(ImageFolder(root / "photos"), root / "store", partial=partial)


def test_the_contract(tmp_path):
    scenes = miniature(tmp_path)
    check_dataset(
        lambda: joined(tmp_path),
        scenes,
        space=Space.AFFINE_DISPARITY,
        depth_tolerance=1e-4,  # of the codec
        image_tolerance=0.02,  # of two resizes
    )
    sample = joined(tmp_path)[0]
    assert sample.pseudo_label
    assert sample.far is None
    assert sample.K is None


@pytest.mark.parametrize(
    ("dark", "bright", "beside"),
    [
        (51, 153, (0.2 - 0.09375 * 0.4, 0.6 + 0.09375 * 0.4)),  # by the kernel with a = -0.75
        (0, 255, (0, 1)),  # overshoots, and is clipped
    ],
)
def test_image_and_label_share_one_grid(dark, bright, beside, tmp_path):
    """An edge between columns 19 and 20 lies between 9 and 10 at half the size."""
    miniature(tmp_path)
    image = np.full((*SIZE, 3), dark, np.uint8)
    image[:, 20:] = bright
    Image.fromarray(image).save(tmp_path / "photos/c.png")
    row = joined(tmp_path)[1].image[0, 5]
    wanted = [dark / 255] * 9 + [*beside] + [bright / 255] * (W - 11)
    torch.testing.assert_close(row, torch.tensor(wanted), atol=0.5 / 255, rtol=0)  # 8 bits


class Decoded:
    """Images that have no bytes of their own, as the frames of a video."""

    def __init__(self, images: ImageFolder) -> None:
        self.name, self.key, self._images = images.name, images.key, images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        return self._images[index]


def test_images_without_bytes_are_resized_likewise(tmp_path):
    miniature(tmp_path)
    images = ImageFolder(tmp_path / "photos")
    by_bytes = joined(tmp_path)
    by_pixels = PseudoLabelled(Decoded(images), tmp_path / "store")
    for n in range(2):
        image = by_pixels[n].image
        torch.testing.assert_close(image, by_bytes[n].image, atol=1 / 255, rtol=0)  # of 8 bits
        assert image.is_contiguous()
    write_image(tmp_path / "photos/c.png", room(H, W, pinhole(H, W)), size=(10, 20))
    with pytest.raises(ValueError, match=r"photos/c\.png: is \(10, 20\) now and was \(28, 56\)"):
        _ = by_pixels[1]


def test_images_without_label_are_counted(tmp_path, caplog):
    scenes = miniature(tmp_path)
    for name in ("b.png", "d.png"):
        write_image(tmp_path / "photos" / name, next(iter(scenes.values())))
    words = r"2 of 4 images have no label .* \(photos/b\.png, \.\.\.\), 0 labels .* no image;"
    with pytest.raises(ValueError, match=words):
        joined(tmp_path)
    with caplog.at_level(logging.WARNING):
        some = joined(tmp_path, partial=True)
    assert [some.key(i) for i in range(len(some))] == list(scenes)
    assert some[1].key == "photos/c.png"
    assert (
        "left out are 2 images without label (photos/b.png, ...) and 0 labels without image"
        in caplog.text
    )


def test_labels_without_image_are_counted(tmp_path):
    miniature(tmp_path)
    (tmp_path / "photos/c.png").unlink()
    with pytest.raises(ValueError, match=r"0 of 1 .*, 1 labels .* image \(photos/c\.png\);"):
        joined(tmp_path)
    assert len(joined(tmp_path, partial=True)) == 1
    (tmp_path / "photos/a/b.png").rename(tmp_path / "photos/z.png")
    with pytest.raises(ValueError, match=r"1 of 1 images .*, 2 labels there have no image"):
        joined(tmp_path, partial=True)


def test_what_the_label_job_put_aside_is_no_mistake(tmp_path):
    miniature(tmp_path, **{"photos/bad.jpg": "damaged"})
    (tmp_path / "photos/bad.jpg").touch()
    assert len(joined(tmp_path)) == 2


def test_an_unfinished_store_is_refused(tmp_path):
    miniature(tmp_path)
    meta(["photos/a/b.png", "photos/c.png", "photos/d.png"], shard_size=2).write(tmp_path / "store")
    with pytest.raises(ValueError, match="1 of 2 shards are missing"):
        joined(tmp_path)
    assert len(joined(tmp_path, partial=True)) == 2
    with pytest.raises(FileNotFoundError, match="is not a label store"):
        PseudoLabelled(ImageFolder(tmp_path / "photos"), tmp_path)


def test_another_image_under_the_same_name_is_refused(tmp_path):
    scenes = miniature(tmp_path)
    write_image(tmp_path / "photos/c.png", scenes["photos/c.png"], size=(10, 20))
    with pytest.raises(ValueError, match=r"photos/c\.png: is \(10, 20\) now and was \(28, 56\)"):
        _ = joined(tmp_path)[1]


def test_a_label_that_went_away_is_named(tmp_path):
    miniature(tmp_path)
    dataset = joined(tmp_path)
    write_store(tmp_path / "store", ["photos/other.png"])
    dataset.store._index = None  # as in a worker, which reads the index again
    with pytest.raises(ValueError, match=r"photos/a/b\.png: no label in .*store any more"):
        _ = dataset[0]


def test_a_damaged_label_is_named(tmp_path):
    miniature(tmp_path)
    tar = tmp_path / "store/labels-00000.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    with pytest.raises(CorruptShard, match=r"photos/a/b\.png: checksum differs"):
        _ = joined(tmp_path)[0]


def test_only_what_a_condition_holds_for(tmp_path, caplog):
    write_store(tmp_path / "store", ["photos/a.png", "photos/b.png", "photos/c.png"])
    for name in "abc":
        write_image(tmp_path / "photos" / f"{name}.png", room(H, W, pinhole(H, W)), (20, 40))
    images = ImageFolder(tmp_path / "photos")
    sure = PseudoLabelled(images, tmp_path / "store", where="confidence > 0.3")
    assert [sure.key(i) for i in range(len(sure))] == ["photos/b.png", "photos/c.png"]
    assert sure[1].key == "photos/c.png"
    left = PseudoLabelled(
        images, tmp_path / "store", where="confidence > 0.3", leave_out={"photos/b.png"}
    )
    assert [left.key(i) for i in range(len(left))] == ["photos/c.png"]
    with pytest.raises(ValueError, match=r"none of 3 labels is left by where='confidence > 2'"):
        PseudoLabelled(images, tmp_path / "store", where="confidence > 2")
    with pytest.raises(ValueError, match="is no condition on labels"):
        PseudoLabelled(images, tmp_path / "store", where="sharp")


def write_with_sky(root: Path, space: Space, far: torch.Tensor) -> PseudoLabelled:
    write_image(root / "photos" / "a.png", room(H, W, pinhole(H, W)), (H, W))
    values = torch.linspace(2, 5, H * W).reshape(H, W)
    sure = torch.full((H, W), 0.8)
    label = encode_label(
        "photos/a.png",
        Prediction(values=values, space=space),
        codec=Float32(),
        image_size=(H, W),
        planes=Planes(confidence=sure, far=far),
    )
    meta(["photos/a.png"], space=space).write(root / "store")
    write_shard(root / "store", 0, [label])
    return PseudoLabelled(ImageFolder(root / "photos"), root / "store")


def test_sky_is_the_farthest_disparity(tmp_path):
    far = torch.zeros(H, W, dtype=torch.bool)
    far[:3] = True
    sample = write_with_sky(tmp_path, Space.AFFINE_DISPARITY, far)[0]
    assert sample.target is not None
    assert sample.valid is not None
    assert sample.confidence is not None
    assert sample.far is None
    assert (sample.target[:3] == 0).all()
    assert (sample.target[3:] > 2).all()
    assert sample.valid.all()
    assert torch.allclose(sample.confidence, torch.tensor(0.8))


def test_sky_has_no_depth(tmp_path):
    far = torch.zeros(H, W, dtype=torch.bool)
    far[:3] = True
    sample = write_with_sky(tmp_path, Space.METRIC_DEPTH, far)[0]
    assert sample.target is not None
    assert sample.valid is not None
    assert sample.far is not None
    assert torch.equal(sample.far, far)
    assert torch.equal(sample.valid, ~far)
    assert torch.equal(sample.target.isnan(), far)
