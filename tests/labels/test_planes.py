"""What a label says beside its values: planes, agreement, the hash of its image."""

import pytest
import torch
from label_stores import meta, ramp

from distill.labels import shards
from distill.labels.codec import JpegXl
from distill.labels.encoded import encode_label
from distill.labels.planes import Planes
from distill.labels.shards import CorruptShard
from distill.labels.store import LabelStore
from distill.types import Prediction, Space


def prediction(confidence=None):
    return Prediction(values=ramp(0), space=Space.AFFINE_DISPARITY, confidence=confidence)


def test_all_that_is_known_of_a_label_comes_back(tmp_path):
    generator = torch.Generator().manual_seed(0)
    sure = torch.rand(15, 27, generator=generator)
    far = torch.rand(15, 27, generator=generator) > 0.7
    classes = torch.randint(0, 256, (15, 27), generator=generator, dtype=torch.uint8)
    told = encode_label(
        "a/b",
        Prediction(values=ramp(0, 15, 27), space=Space.AFFINE_DISPARITY),
        codec=JpegXl(),
        image_size=(30, 54),
        planes=Planes(confidence=sure, far=far, classes=classes),
        agreement={"flip": 0.7, "edges": 0.25},
        image_sha256=bytes(range(32)),
    )
    bare = encode_label("a/c", prediction(0.5), codec=JpegXl(), image_size=(1, 1))
    meta(["a/b", "a/c"]).write(tmp_path)
    shards.write_shard(tmp_path, 0, [told, bare])
    store = LabelStore(tmp_path)
    assert store.verify() == 2
    first, second = store.index.to_pylist()
    assert first["image_sha256"] == bytes(range(32))
    assert (first["flip"], first["edges"], first["scale"]) == (pytest.approx(0.7), 0.25, None)
    assert first["far"] == pytest.approx(far.float().mean().item())
    found = store.read("a/b").planes
    assert found.confidence is not None
    assert found.far is not None
    assert found.classes is not None
    assert torch.equal(found.far, far)
    assert torch.equal(found.classes, classes)
    assert (found.confidence[12:14, 20:22] - sure[12:14, 20:22].mean()).abs().max() <= 0.0334
    assert found.confidence[14, 26] == pytest.approx(sure[14, 26].item(), abs=0.0334)
    assert (second["planes"], second["far"], second["flip"]) == ([], None, None)
    assert store.read("a/c").planes == Planes()


def test_each_plane_is_checked(tmp_path):
    planes = Planes(far=ramp(0) > 0.5)
    label = encode_label("a/b", prediction(), codec=JpegXl(), image_size=(1, 1), planes=planes)
    meta(["a/b"]).write(tmp_path)
    shards.write_shard(tmp_path, 0, [label])
    (plane,) = LabelStore(tmp_path).index.to_pylist()[0]["planes"]
    path = tmp_path / "labels-00000.tar"
    torn = bytearray(path.read_bytes())
    torn[plane["offset"] + 9] ^= 1
    path.write_bytes(bytes(torn))
    with pytest.raises(CorruptShard, match="a/b: checksum differs"):
        LabelStore(tmp_path).read("a/b")


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"agreement": {"luck": 0.5}}, r"a/b: agreement 'luck' is none of flip, scale"),
        ({"agreement": {"flip": 1.5}}, "a/b: flip 1.5 lies outside"),
        ({"planes": Planes(confidence=ramp(1))}, r"a/b: confidence from 0 to 2 lies outside"),
    ],
)
def test_what_is_told_is_checked(told, reason):
    with pytest.raises(ValueError, match=reason):
        encode_label("a/b", prediction(), codec=JpegXl(), image_size=(1, 1), **told)
