"""`DriveJob`: streets driven along, in KITTI raw's layout, for learning from motion and stereo."""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from distill import atomic
from distill.job import exclusive
from distill.worlds import film, street
from distill.worlds import write_kitti_raw as kitti
from distill.worlds.job import claim, render_all
from distill.worlds.render import Frame, Renderer
from distill.worlds.scene import Camera

_STREAM = 5  # of random numbers; those before belong to the other worlds
_FOV_X = 81.4  # degrees, as KITTI's rectified colour cameras
_BEAMS = (512, 64)  # of the lidar in front of the car: columns, rings
SPLIT = "drives"


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Everything the files depend on; the fields are those of `DriveJob`."""

    seed: int
    height: int
    width: int
    samples: int
    drives: int
    frames: int
    step: float
    version: int = 1  # of the drives' content; a change of it changes every picture


@dataclass(frozen=True)
class Drive:
    """One street, driven along once."""

    parameters: Parameters
    index: int

    @property
    def frames(self) -> int:
        """How many pictures it makes."""
        return 2 * self.parameters.frames

    @property
    def date(self) -> str:
        """A calibration holds for a date, so each drive has its own, from 1 January 2000 on."""
        return str(np.datetime64("2000-01-01") + self.index).replace("-", "_")

    @property
    def name(self) -> str:
        """As split files name it."""
        return f"{self.date}/{self.date}_drive_0001_sync"

    @property
    def part(self) -> str:
        """Every fifth drive is for validation."""
        return "val" if self.index % 5 == 4 else "train"

    def run(self, out: Path) -> None:
        """Render and write: the truth first, so that a date that is there is complete."""
        moments = self._drive()
        truth = out / "data_depth_annotated" / self.part / self.name.split("/")[1]
        with atomic.replacing_folder(truth) as folder:
            kitti.write_truth(folder, moments)
        with atomic.replacing_folder(out / self.date) as folder:
            kitti.write_drive(folder, self.date, moments)

    def _drive(self) -> list[kitti.Moment]:
        """Everything in one light: frames differ by what moved, not by their exposure."""
        p = self.parameters
        rng = np.random.default_rng([p.seed, _STREAM, self.index])
        road = street.compose(rng, size=p.height, frames=p.frames, steady=p.step)
        scene = street.lit(road, street.VARIATIONS["clone"])
        renderer, factor, moments = Renderer(scene), 0.0, []
        views = [replace(camera, width=p.width, fov_x=_FOV_X) for camera in scene.cameras]
        for left, right in zip(views[::2], views[1::2], strict=True):
            seeds = rng.integers(2**31, size=2).tolist()
            pair = [
                renderer.render(camera, samples=p.samples, seed=seed)
                for camera, seed in zip((left, right), seeds, strict=True)
            ]
            factor = factor or film.exposure(pair[0].radiance)
            shown = [film.displayed(frame.radiance * factor) for frame in pair]
            moments.append(
                kitti.Moment(
                    left=pair[0],
                    right=pair[1],
                    pictures=(shown[0], shown[1]),
                    lidar=_swept(renderer, left),
                )
            )
        return moments


@dataclass(frozen=True, kw_only=True)
class DriveJob:
    """Render drives: rectified stereo pairs of a moving car, with lidar, poses and dense truth.

    `out` is read by `datasets.KittiRaw(out, split="drives")`: every frame that has neighbours.

    Attributes:
        height: of a picture, pixels.
        width: of a picture, pixels; KITTI's are 3.3 times as wide as high.
        samples: paths per pixel, whose noise is then smoothed; depth is exact at any number.
        drives: streets; every fifth is for validation.
        frames: of each drive, for each of two cameras.
        step: metres between two frames; KITTI's cars do about one.
        workers: processes; None is one a core. The files do not depend on it.

    Raises:
        ValueError: a field is out of its range.
    """

    seed: int = 0
    height: int = 96
    width: int = 320
    samples: int = 8
    drives: int = 20
    frames: int = 12
    step: float = 0.8
    workers: int | None = None

    def __post_init__(self) -> None:
        least = {"seed": 0, "height": 16, "width": 16, "samples": 1, "drives": 1, "frames": 3}
        for name, bound in (least | {"workers": 1}).items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise ValueError(f"DriveJob: {name} is {value}; it must be >= {bound}")
        if not 0 < self.step <= 20:
            raise ValueError(f"DriveJob: step is {self.step} m; it must lie between 0 and 20")

    @property
    def parameters(self) -> Parameters:
        """What the files depend on."""
        values = asdict(self)
        del values["workers"]
        return Parameters(**values)

    def run(self, out: Path, *, resume: bool = False) -> None:
        """Render what `out` lacks. What is there is kept, with or without `resume`.

        Raises:
            ValueError: `out` holds drives of other parameters, or another process writes to it.
            Interrupted: SIGTERM came; finished drives are kept.
            ImportError: Mitsuba is not installed.
        """
        del resume
        with exclusive(out):
            claim(out, asdict(self.parameters))
            atomic.sweep(out)
            drives = [Drive(self.parameters, index) for index in range(self.drives)]
            for part in ("train", "val"):
                atomic.sweep(out / "data_depth_annotated" / part)
                chosen = [drive for drive in drives if drive.part == part]
                _write_split(out / "splits" / SPLIT / f"{part}_files.txt", chosen)
            todo = [drive for drive in drives if not (out / drive.date).is_dir()]
            done = sum(drive.frames for drive in drives if drive not in todo)
            workers = self.workers or os.cpu_count() or 1
            render_all(todo, out, done=done, workers=workers, name="drives")


def _swept(renderer: Renderer, left: Camera) -> Frame:
    columns, rings = _BEAMS
    camera = kitti.lidar_camera(left, width=columns, height=rings)
    depth, hit = renderer.depth(camera)
    return Frame(camera=camera, radiance=np.zeros((*hit.shape, 3)), depth=depth, hit=hit)


def _write_split(path: Path, drives: list[Drive]) -> None:
    """Both cameras of every frame that has one before and one behind it."""
    lines = [
        f"{drive.name} {frame} {side}\n"
        for drive in drives
        for frame in range(1, drive.parameters.frames - 1)
        for side in "lr"
    ]
    atomic.write_text(path, "".join(lines))
