"""Images behind a web server that fails for a while, or for good, and on a mount that is gone."""

from functools import partial

import pytest
from range_server import serving
from streaming import write_shards
from tiny_teacher import TinyTeacher, contents, job, write_photos

from distill.datasets import remote
from distill.datasets.photographs import open_photographs
from distill.labels.store import LabelStore


@pytest.fixture
def address(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "_PAUSE", 0.01)
    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards", 12)
    with serving(tmp_path / "shards") as (address, trouble):
        yield f"{address}/x-{{000000..000001}}.tar", trouble


class Failing:
    """`images`, in front of whose n-th read the server begins to fail so many requests."""

    def __init__(self, images, trouble, *, at, requests):
        self._images, self._trouble, self.name = images, trouble, images.name
        self._at, self._requests, self.reads = at, requests, 0

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        return self._images[index]

    def key(self, index):
        return self._images.key(index)

    def encoded(self, index):
        self.reads += 1
        if self.reads == self._at:
            self._trouble.requests = self._requests
        return self._images.encoded(index)


def run(address, trouble, out, *, at=0, requests=0, **how):
    images = Failing(open_photographs(address), trouble, at=at, requests=requests)
    job(out, images=lambda: images, max_quarantined=0.0).run(out, **how)


@pytest.mark.parametrize("at", [1, 6, 12])
def test_a_server_that_fails_for_a_while_changes_nothing(address, tmp_path, at):
    place, trouble = address
    run(place, trouble, tmp_path / "whole")
    run(place, trouble, tmp_path / "store", at=at, requests=4)  # one image alone may meet them all
    assert trouble.requests < 0
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")
    assert len(LabelStore(tmp_path / "store")) == 12


def test_a_server_that_stays_away_stops_the_job(address, tmp_path):
    """Nothing is set aside, what was committed stays, and the job goes on when it is back."""
    place, trouble = address
    run(place, trouble, tmp_path / "whole")
    out = tmp_path / "store"
    with pytest.raises(OSError, match=r"503.* 5 times in a row.*--resume") as caught:
        run(place, trouble, out, at=11, requests=10**9)
    assert place[:17] in str(caught.value)
    assert not (out / "quarantine.jsonl").exists()
    left = LabelStore(out, allow_incomplete=True)
    assert left.quarantined() == {}
    assert 0 < len(left.missing()) < 3
    trouble.requests = 0
    run(place, trouble, out, resume=True)
    assert contents(out) == contents(tmp_path / "whole")


class Unmounting(TinyTeacher):
    """After its third batch the photos' folder is not there any more."""

    def __init__(self, *args, folder, **kwargs):
        super().__init__(*args, **kwargs)
        self.folder, self.batches = folder, 0

    def predict_network(self, pixels):
        self.batches += 1
        if self.batches == 3:
            self.folder.rename(self.folder.with_name("elsewhere"))
        return super().predict_network(pixels)


def test_a_mount_that_is_gone_stops_the_job(tmp_path):
    """Each image would be missing then, and all would be set aside, up to the budget."""
    photos, out = write_photos(tmp_path / "photos"), tmp_path / "store"
    job(photos, max_quarantined=1.0).run(tmp_path / "whole")
    with pytest.raises(OSError, match=r"photos.*the job stops before .*--resume"):
        job(photos, max_quarantined=1.0, load=partial(Unmounting, folder=photos)).run(out)
    assert LabelStore(out, allow_incomplete=True).quarantined() == {}
    photos.with_name("elsewhere").rename(photos)
    job(photos, max_quarantined=1.0).run(out, resume=True)
    assert contents(out) == contents(tmp_path / "whole")
