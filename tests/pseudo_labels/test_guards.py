"""What stops a label job, counted over all its processes and earlier runs."""

from functools import partial

import pytest
from tiny_teacher import TinyTeacher, contents, job, spoiled_photos, write_photos

from distill.job import GuardStop
from distill.labels.shards import discard_shard
from distill.labels.store import LabelStore
from pseudo_labels.claims import Claims
from pseudo_labels.quarantine import Quarantine
from pseudo_labels.strategies.plain import plain


def test_quarantine_has_a_budget(tmp_path):
    root, out = spoiled_photos(tmp_path / "photos"), tmp_path / "store"
    with pytest.raises(
        GuardStop, match=r"3 of 26 .* more than .*0\.1 of all, .*IMG_020.* at most 4"
    ):
        job(root, max_quarantined=0.1).run(out)
    assert len((out / "quarantine.jsonl").read_text().splitlines()) == 3
    assert LabelStore(out, allow_incomplete=True).missing()


class Neighbour(TinyTeacher):
    """Finds, while it is asked, that another process of the job has set images aside."""

    def __init__(self, *args, out, aside, **kwargs):
        super().__init__(*args, **kwargs)
        self.out, self.aside = out, aside

    def predict_network(self, pixels):
        if self.aside:
            reasons, self.aside = {f"other/{n}": "cut off" for n in range(self.aside)}, 0
            with Claims(self.out) as claims:
                Quarantine(self.out, claims).add(reasons, check=lambda known: None)
        return super().predict_network(pixels)


def test_the_budget_is_shared_with_other_processes(tmp_path):
    """4 images here and 3 there are more than 6, and quarantine.jsonl tells of both."""
    root, out = spoiled_photos(tmp_path / "photos"), tmp_path / "store"
    neighbour = partial(Neighbour, out=out, aside=3)
    with pytest.raises(GuardStop, match=r"7 of 26 .* more than max_quarantined=0\.25 of all"):
        job(root, max_quarantined=0.25, load=neighbour, strategy=plain).run(out)
    assert sum("other/" in line for line in _quarantine(out)) == 3
    assert len(_quarantine(out)) == 7


def test_nothing_is_committed_behind_the_stop_of_another_process(photos, tmp_path):
    out = tmp_path / "store"
    neighbour = partial(Neighbour, out=out, aside=14)
    with pytest.raises(GuardStop, match=r"14 of 26 .* the last of them other/9: cut off"):
        job(photos, load=neighbour, strategy=plain).run(out)
    assert LabelStore(out, allow_incomplete=True).missing() == list(range(7))
    job(photos).run(out, resume=True)  # whatever it was, it is not there any more
    assert _quarantine(out) == []


def _quarantine(out):
    path = out / "quarantine.jsonl"
    return path.read_text().splitlines() if path.exists() else []


class Sky(TinyTeacher):
    """Maps of pictures that are at least this high for their width are zero at 7 of 10 pixels."""

    def __init__(self, *args, ratio, **kwargs):
        super().__init__(*args, **kwargs)
        self.ratio = ratio

    def predict_network(self, pixels):
        values = super().predict_network(pixels)
        if pixels.shape[-2] < self.ratio * pixels.shape[-1]:
            return values
        return (values - values.flatten(1).quantile(0.7, dim=1)[:, None, None]).clamp(min=0)


DEAD = {"strategy": plain, "load": partial(Sky, ratio=0.0)}


def test_photographs_that_are_mostly_sky_keep_their_labels(photos, tmp_path):
    """A third of them, so that far less than half of all pixels is zero."""
    job(photos, strategy=plain, load=partial(Sky, ratio=1.1)).run(tmp_path / "store")
    store = LabelStore(tmp_path / "store")
    maps = [store.read(key).prediction.values for key in sorted(store.keys())]
    assert len(maps) == 26
    assert sum(bool((values == 0).float().mean() > 0.69) for values in maps) == 8


def test_a_teacher_that_says_mostly_zero_stops_the_job(photos, tmp_path):
    out = tmp_path / "store"
    said = r"70\.\d% of the pixels that tiny predicted for 26 images .* max_zeros=0\.5"
    with pytest.raises(GuardStop, match=said):
        job(photos, **DEAD).run(out)
    assert LabelStore(out, allow_incomplete=True).missing() == [6]  # nothing behind the stop
    job(photos, **DEAD, max_zeros=0.8).run(out, resume=True)
    job(photos, **DEAD, max_zeros=1.0).run(tmp_path / "at once")
    assert contents(out) == contents(tmp_path / "at once")
    with pytest.raises(GuardStop, match="may be dead"):  # also of a store that is finished
        job(photos, **DEAD).run(out, resume=True)


def test_zeros_count_from_a_hundred_images_on(tmp_path):
    root, out = write_photos(tmp_path / "photos", 110), tmp_path / "store"
    with pytest.raises(GuardStop, match="predicted for 100 images"):
        job(root, **DEAD).run(out)
    assert LabelStore(out, allow_incomplete=True).missing() == [24, 25, 26, 27]


def test_zeros_of_earlier_runs_count(photos, tmp_path):
    """Only the last shard is written again, and its maps are whole."""
    out = tmp_path / "store"
    job(photos, **DEAD, max_zeros=1.0).run(out)
    discard_shard(out, 6)
    with pytest.raises(GuardStop, match=r"6\d\.\d% of the pixels .* 26 images"):
        job(photos, strategy=plain).run(out, resume=True)
