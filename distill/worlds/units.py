"""One unit of work: render one scene of one world and commit its files, whole or not at all.

What a unit writes is a pure function of (parameters, world, index): neither the other units nor the
processes matter. Imported by the worker processes, so it stays clear of torch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from distill import atomic
from distill.worlds import film, indoor, photos, street, write_hypersim, write_photos
from distill.worlds import write_virtual_kitti2 as vkitti2
from distill.worlds.render import Frame, Renderer
from distill.worlds.scene import Camera
from distill.worlds.views import choose

World = Literal["indoor", "street", "unlabelled", "evaluation"]

_STREAMS: dict[World, int] = {"indoor": 1, "street": 2, "unlabelled": 3, "evaluation": 4}
_UNITS = (0.01, 0.0254, 0.001, 1.0)  # metres per asset unit that artists work in
_CANDIDATES = 5  # camera candidates for each view that is kept
_NEAREST = 0.35  # metres in front of the camera kept free


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Everything the files depend on; the fields are those of `RenderJob`."""

    seed: int
    size: int
    samples: int
    indoor_scenes: int
    indoor_frames: int
    street_scenes: int
    street_frames: int
    street_variations: int
    photos: int
    photos_per_scene: int
    evaluation: int
    evaluation_per_scene: int
    version: int = 5  # of the scenes' content; a change of it changes every picture

    def units(self) -> list["Unit"]:
        """All the work, the dearest scenes first, so that the cores finish together."""
        scenes: dict[World, int] = {
            "street": self.street_scenes,
            "indoor": self.indoor_scenes,
            "unlabelled": math.ceil(self.photos / self.photos_per_scene),
            "evaluation": math.ceil(self.evaluation / self.evaluation_per_scene),
        }
        return [Unit(self, world, index) for world, n in scenes.items() for index in range(n)]


@dataclass(frozen=True)
class Unit:
    """One scene of one world."""

    parameters: Parameters
    world: World
    index: int

    @property
    def part(self) -> str:
        """The world as users choose it: `photos` are the unlabelled and those for evaluation."""
        return self.world if self.world in {"indoor", "street"} else "photos"

    @property
    def frames(self) -> int:
        """How many pictures it makes."""
        p = self.parameters
        if self.world == "indoor":
            return p.indoor_frames
        if self.world == "street":
            return 2 * p.street_frames * p.street_variations
        total, each = (
            (p.photos, p.photos_per_scene)
            if self.world == "unlabelled"
            else (p.evaluation, p.evaluation_per_scene)
        )
        return min(each, total - self.index * each)

    def paths(self, out: Path) -> list[Path]:
        """What exists when, and only when, the unit is complete."""
        if self.world == "indoor":
            return [out / "indoor" / indoor_name(self.index)]
        if self.world == "street":
            return [out / "street" / f"Scene{self.index + 1:02d}"]
        if self.world == "unlabelled":
            return [out / "photos" / "unlabelled" / f"place_{self.index:04d}"]
        depth = out / "photos" / "evaluation" / "depth"
        return [depth / f"{self._photo(number)}.png" for number in range(self.frames)]

    def run(self, out: Path) -> None:
        """Render and write."""
        rng = np.random.default_rng([self.parameters.seed, _STREAMS[self.world], self.index])
        {
            "indoor": self._indoor,
            "street": self._street,
            "unlabelled": self._unlabelled,
            "evaluation": self._evaluation,
        }[self.world](rng, out)

    def _indoor(self, rng: np.random.Generator, out: Path) -> None:
        p = self.parameters
        scene = indoor.compose(rng, size=p.size, views=_CANDIDATES * p.indoor_frames)
        renderer = Renderer(scene)
        cameras = choose(renderer, scene.cameras, p.indoor_frames, nearest=_NEAREST)
        frames = [_render(rng, renderer, camera, p) for camera in cameras]
        with atomic.replacing_folder(self.paths(out)[0]) as folder:
            write_hypersim.write_scene(folder, frames, metres_per_unit=metres_per_unit(self.index))

    def _street(self, rng: np.random.Generator, out: Path) -> None:
        p = self.parameters
        city = street.compose(rng, size=p.size, frames=p.street_frames)
        names = list(street.VARIATIONS)
        with atomic.replacing_folder(self.paths(out)[0]) as folder:
            for number in range(p.street_variations):
                name = names[(self.index * p.street_variations + number) % len(names)]
                weather = street.VARIATIONS[name]
                scene = street.lit(city, weather)
                renderer = Renderer(scene)
                views = [_render(rng, renderer, camera, p) for camera in scene.cameras]
                pictures = [_weathered(view, weather) for view in views]
                pairs = [views[n : n + 2] for n in range(0, len(views), 2)]
                shown = [pictures[n : n + 2] for n in range(0, len(views), 2)]
                (folder / name).mkdir()
                vkitti2.write_variation(folder / name, pairs, shown)

    def _unlabelled(self, rng: np.random.Generator, out: Path) -> None:
        with atomic.replacing_folder(self.paths(out)[0]) as folder:
            for number, (_, photo) in enumerate(self._photographs(rng)):
                (folder / f"photo_{number}.jpg").write_bytes(photo)

    def _evaluation(self, rng: np.random.Generator, out: Path) -> None:
        folder = out / "photos" / "evaluation"
        for number, (frame, photo) in enumerate(self._photographs(rng)):
            write_photos.write_evaluation(folder, self._photo(number), photo, frame)

    def _photographs(self, rng: np.random.Generator) -> Iterator[tuple[Frame, bytes]]:
        p = self.parameters
        scene = photos.compose(rng, size=p.size, views=_CANDIDATES * self.frames)
        renderer = Renderer(scene)
        for camera in choose(renderer, scene.cameras, self.frames, nearest=_NEAREST):
            frame = _render(rng, renderer, camera, p)
            picture = film.photographed(rng, frame.radiance)
            yield frame, write_photos.jpeg(picture, quality=int(rng.integers(45, 95)))

    def _photo(self, number: int) -> str:
        return f"place_{self.index:04d}_{number}"


def finish_indoor(parameters: Parameters, out: Path) -> None:
    """The tables beside the indoor scenes."""
    if parameters.indoor_scenes == 0:
        return
    scenes = range(parameters.indoor_scenes)
    camera = Camera(
        width=indoor.columns(parameters.size),
        height=parameters.size,
        fov_x=indoor.FOV_X,
        world_from_cam=np.eye(4),
    )
    write_hypersim.write_metadata(
        out / "indoor",
        [indoor_name(index) for index in scenes],
        frames=parameters.indoor_frames,
        camera=camera,
        units=[metres_per_unit(index) for index in scenes],
    )


def indoor_name(index: int) -> str:
    """`ai_VVV_NNN`: ten scenes a volume, counted from one."""
    return f"ai_{index // 10 + 1:03d}_{index % 10 + 1:03d}"


def metres_per_unit(index: int) -> float:
    """The scale that scene `index` was modelled in."""
    return _UNITS[index % len(_UNITS)]


def _render(
    rng: np.random.Generator, renderer: Renderer, camera: Camera, parameters: Parameters
) -> Frame:
    return renderer.render(camera, samples=parameters.samples, seed=int(rng.integers(2**31)))


def _weathered(frame: Frame, weather: street.Weather) -> np.ndarray:
    radiance = frame.radiance
    if weather.haze > 0:
        air = (0.85 * weather.sky, 0.9 * weather.sky, 0.95 * weather.sky)
        radiance = film.hazy(radiance, write_hypersim.ray_distance(frame), air, weather.haze)
    return film.displayed(film.exposed(radiance))
