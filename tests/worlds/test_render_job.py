"""`RenderJob`: the same bytes whoever renders, killed or not; refusals; SIGTERM."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.datasets.hypersim import Hypersim
from distill.datasets.image_folder import ImageFolder
from distill.datasets.rgb_depth_folder import RgbDepthFolder
from distill.datasets.virtual_kitti2 import VirtualKitti2
from distill.job import Interrupted
from distill.worlds import indoor
from distill.worlds.job import RenderJob
from distill.worlds.render import Renderer
from distill.worlds.units import Unit
from distill.worlds.views import choose

JOB = RenderJob(
    seed=4,
    size=18,
    samples=1,
    indoor_scenes=2,
    indoor_frames=2,
    street_scenes=2,
    street_frames=1,
    street_variations=2,
    photos=5,
    photos_per_scene=2,
    evaluation=3,
    evaluation_per_scene=2,
    workers=1,
)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("worlds")
    JOB.run(out)
    return out


def digests(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def start(out: Path, *, workers: int) -> subprocess.Popen[bytes]:
    """The same job in a process of its own."""
    fields = ", ".join(f"{k}={v!r}" for k, v in vars(replace(JOB, workers=workers)).items())
    code = (
        "from pathlib import Path; from distill.worlds.job import RenderJob\n"
        f"RenderJob({fields}).run(Path({str(out)!r}))"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)


def test_counts(rendered: Path):
    assert len(list((rendered / "photos/unlabelled").rglob("*.jpg"))) == 5
    for kind, suffix in (("rgb", "jpg"), ("depth", "png")):
        assert len(list((rendered / "photos/evaluation" / kind).glob(f"*.{suffix}"))) == 3
    assert not list((rendered / "photos/unlabelled").rglob("*.png"))
    assert len(list((rendered / "street").glob("Scene*/*/frames/rgb/Camera_?/*.jpg"))) == 8
    assert not list(rendered.rglob(".*.tmp-*"))


def test_the_readers_of_the_real_sets_read_them(rendered: Path):
    rooms, streets = Hypersim(rendered / "indoor"), VirtualKitti2(rendered / "street")
    exact = Hypersim(rendered / "indoor", projection="per_scene")
    held_out = RgbDepthFolder(rendered / "photos" / "evaluation", name="photos")
    assert (len(rooms), len(streets), len(held_out)) == (4, 4, 3)
    assert len(ImageFolder(rendered / "photos" / "unlabelled")) == 5
    for dataset in (rooms, streets, held_out):
        sample = dataset[0]
        assert sample.valid is not None
        assert sample.valid.float().mean() > 0.2
    a, b = rooms[1].target, exact[1].target
    assert a is not None
    assert b is not None
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5)


def test_the_reader_finds_the_depth_that_was_rendered(rendered: Path):
    rng = np.random.default_rng([JOB.seed, 1, 0])
    scene = indoor.compose(rng, size=JOB.size, views=5 * JOB.indoor_frames)
    renderer = Renderer(scene)
    camera = choose(renderer, scene.cameras, JOB.indoor_frames, nearest=0.35)[0]
    depth, hit = renderer.depth(camera)
    sample = Hypersim(rendered / "indoor")[0]
    assert sample.target is not None
    assert sample.K is not None
    np.testing.assert_array_equal(sample.target.isfinite().numpy(), hit)
    np.testing.assert_allclose(sample.target.numpy()[hit], depth[hit], rtol=6e-4)
    np.testing.assert_allclose(sample.K[0, 0], camera.focal, rtol=1e-6)


def test_bytes_do_not_depend_on_how_many_runs_share_the_worlds(rendered: Path, tmp_path: Path):
    replace(JOB, worlds=("indoor", "street")).run(tmp_path)
    assert not any((tmp_path / "photos" / "unlabelled").iterdir())
    replace(JOB, worlds=("photos",)).run(tmp_path)
    assert digests(tmp_path) == digests(rendered)


def test_bytes_do_not_depend_on_the_processes(rendered: Path, tmp_path: Path):
    replace(JOB, workers=2).run(tmp_path)
    assert digests(tmp_path) == digests(rendered)


def test_a_unit_does_not_depend_on_the_others(rendered: Path, tmp_path: Path):
    Unit(replace(JOB, photos=900, indoor_scenes=3).parameters, "unlabelled", 1).run(tmp_path)
    alone = digests(tmp_path)
    assert alone
    assert alone.items() <= digests(rendered).items()


def test_killed_at_any_moment_and_resumed(rendered: Path, tmp_path: Path):
    for wanted in (1, 4, 7):
        process = start(tmp_path, workers=2)
        while process.poll() is None and len(list(tmp_path.rglob("*.jpg"))) < wanted:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert digests(tmp_path) != digests(rendered)
    JOB.run(tmp_path, resume=True)
    assert digests(tmp_path) == digests(rendered)


def test_complete_worlds_are_kept(rendered: Path):
    before = {path: path.stat().st_mtime_ns for path in rendered.rglob("*.png")}
    JOB.run(rendered)
    assert {path: path.stat().st_mtime_ns for path in rendered.rglob("*.png")} == before


def test_other_parameters_are_refused(rendered: Path):
    with pytest.raises(ValueError, match=r"other parameters \(seed 4 -> 5\)"):
        replace(JOB, seed=5).run(rendered)
    replace(JOB, workers=2).run(rendered)


def test_sigterm_keeps_what_is_finished(tmp_path: Path):
    timer = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -TERM {os.getpid()}"])
    with pytest.raises(Interrupted, match="run again"):
        replace(JOB, photos=4000).run(tmp_path)
    timer.wait()
    assert not list(tmp_path.rglob(".*.tmp-*"))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_failing_scene_stops_the_job(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "evaluation").write_text("a file where a folder must be")
    with pytest.raises((NotADirectoryError, FileExistsError)):
        replace(JOB, indoor_scenes=0, street_scenes=0, photos=0).run(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", 8), ("samples", 0), ("workers", 0), ("photos", -1), ("street_variations", 11)],
)
def test_senseless_fields_are_named(field: str, value: int):
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        replace(JOB, **{field: value})
