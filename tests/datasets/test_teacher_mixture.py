"""The five sets of Depth Anything V2's teacher, as distributed, in one batch of its recipe."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from test_blended_mvs import miniature as write_blended_mvs
from test_hypersim import miniature as write_hypersim
from test_irs import HOME, line, seen, write_frame
from test_irs import miniature as write_irs
from test_tartanair import miniature as write_tartanair
from test_virtual_kitti2 import miniature as write_virtual_kitti2
from training import supervised

from distill.types import Space
from recipes import teacher


def write_five(root: Path) -> set[str]:
    """A miniature of each set, one image more in IRS's other list; the keys."""
    (root / "irs").mkdir()
    keys = {
        *write_hypersim(root / "hypersim"),
        *write_virtual_kitti2(root / "virtual_kitti2"),
        *write_tartanair(root / "tartanair"),
        *write_irs(root / "irs"),
        *write_blended_mvs(root / "blended_mvs"),
    }
    write_frame(root / "irs", HOME, 8, seen("ball"), nothing=0)
    assert (root / "irs/lists/irs_test.list").read_text() == f"{line(HOME, 8)}\n"
    return keys | {f"irs/{HOME}/l_00008.png"}


def test_an_epoch_has_each_image_once_and_all_of_them_teach(tmp_path):
    keys = write_five(tmp_path)
    batch: Any = next(teacher.vitg_five(tmp_path).batches(batch_size=len(keys), seed=0))
    assert sorted(batch["key"]) == sorted(keys)
    sets = Counter(key.split("/")[0] for key in batch["key"])
    assert sets == {"hypersim": 2, "virtual_kitti2": 2, "tartanair": 2, "irs": 3, "blended_mvs": 3}
    for key, space in zip(batch["key"], batch["space"], strict=True):
        up_to_scale = key.startswith("blended_mvs/")
        assert space is (Space.SCALE_INVARIANT_DEPTH if up_to_scale else Space.METRIC_DEPTH)
    for name in ("image", "target", "valid", "far"):
        batch[name] = batch[name][..., :512:4, :512:4]  # what this student can take, and fast
    objective = supervised(dropout=0.0)
    assert objective.counts(batch)["samples"] == len(keys)
    before = objective(batch)["loss"]
    before.backward()
    for parameter in objective.student.parameter_groups()["encoder"]:
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0
    scales = [0.01 if key.startswith("blended_mvs/") else 1.0 for key in batch["key"]]
    batch["target"] = batch["target"] * torch.tensor(scales)[:, None, None]
    torch.testing.assert_close(objective(batch)["loss"], before)
