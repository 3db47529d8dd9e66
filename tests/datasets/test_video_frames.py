"""Frames of videos: chosen by time, found again exactly, upright."""

import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from contracts import check_dataset
from scenes import pinhole, plane

from distill.datasets import images, video_choice
from distill.datasets.video_frames import VideoFrames

H, W = 48, 64


def picture(number: int, h: int = H, w: int = W) -> np.ndarray:
    """Tells its number: the brightness of the left half; the right half stays dark."""
    pixels = np.full((h, w, 3), 16, np.uint8)
    pixels[:, : w // 2] = 40 + 4 * number
    return pixels


def number_of(image: torch.Tensor) -> int:
    return round((float(image[:, :, 2 : W // 2 - 4].mean()) * 255 - 40) / 4)


def encode(
    path: Path,
    frames: list[np.ndarray],
    times: list[float] | None = None,
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """A clip with B-frames and few key frames; frame n at `times[n]` seconds, or at 10 a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = Fraction(1, 1000)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height = frames[0].shape[1], frames[0].shape[0]
        stream.pix_fmt, stream.time_base = "yuv420p", base
        stream.codec_context.time_base = base
        if codec == "libx264":
            stream.options = {"crf": "6", "bf": "2", "g": "12", "preset": "fast"}
        stream.options = options or stream.options
        for n, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            seconds = n / 10 if times is None else times[n]
            frame.pts, frame.time_base = round(seconds * 1000), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds, forty frames."""
    return encode(
        tmp_path_factory.mktemp("clips") / "a" / "drive.mp4", list(map(picture, range(40)))
    )


def keys(video: VideoFrames) -> list[str]:
    return [video.key(n) for n in range(len(video))]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_the_contract(tmp_path: Path, codec: str):
    truth = plane(H, W, pinhole(H, W), normal=(0.3, -0.2, -1.0), distance=6.0)
    pixels = (truth.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    encode(tmp_path / "x/one.mov", [pixels, picture(1)], [0.0, 0.9], codec=codec)
    scenes = {"video/x/one.mov/000000000000": truth}
    check_dataset(lambda: VideoFrames(tmp_path, fps=1.0), scenes, space=None, image_tolerance=0.03)


def test_frames_are_the_first_at_or_behind_each_multiple(clip: Path):
    video = VideoFrames(clip, fps=2.0)
    assert keys(video) == [f"video/drive.mp4/{n * 500_000:012d}" for n in range(8)]
    assert [number_of(video[n].image) for n in range(8)] == list(range(0, 40, 5))
    every = VideoFrames(clip, fps=30.0)
    assert [number_of(every[n].image) for n in range(40)] == list(range(40))


def test_threads_do_not_take_the_decoder_from_each_other(clip: Path):
    video = VideoFrames(clip, fps=30.0)
    with ThreadPoolExecutor(3) as pool:
        numbers = list(pool.map(lambda n: number_of(video[n].image), range(40)))
    assert numbers == list(range(40))


def test_any_order_gives_the_same_frames_to_the_bit(clip: Path):
    video = VideoFrames(clip, fps=30.0)
    forward = [video[n].image for n in range(40)]
    rng = np.random.default_rng(0)
    for n in [*rng.permutation(40).tolist(), 39, 0, 1, 0, 0]:
        assert torch.equal(video[n].image, forward[n]), n
    copy = pickle.loads(pickle.dumps(video))
    assert torch.equal(copy[17].image, forward[17])
    loader = torch.utils.data.DataLoader(video, batch_size=None, num_workers=2)  # type: ignore[arg-type]  # a Protocol, not their class
    assert all(torch.equal(a.image, b) for a, b in zip(loader, forward, strict=True))


_OPEN_GOP = "open-gop=1:keyint=8:min-keyint=8:bframes=3:b-adapt=0:scenecut=0:log-level=none"


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize(
    ("codec", "options"),
    [("libx264", {"x264-params": _OPEN_GOP}), ("mpeg4", {"bf": "2", "g": "8", "q": "2"})],
)
def test_frames_that_need_the_key_frame_before_the_nearest(
    tmp_path: Path, kind: str, codec: str, options: dict[str, str]
):
    """Shown before a key frame but stored behind it: a jump to that one would lose them."""
    shown = [picture(n) for n in range(40)]
    path = encode(tmp_path / f"a.{kind}", shown, codec=codec, options=options)
    video = VideoFrames(path, fps=10.0, distinct=0.0)
    forward = [sample.image for sample in map(video.__getitem__, range(len(video)))]
    assert len(forward) >= 20  # AVI holds no times of frames: some look too early, and are left
    for n in [*reversed(range(len(video))), *range(0, len(video), 7), 5, 12, 3]:
        assert torch.equal(video[n].image, forward[n]), n


def test_only_one_file_is_open_at_a_time(tmp_path: Path):
    for n in range(8):
        encode(tmp_path / f"{n}.mp4", [picture(n)])
    video = VideoFrames(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for n in range(8):
        assert number_of(video[n].image) == n
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_a_variable_frame_rate_is_followed(tmp_path: Path):
    times = [0.0, 0.1, 0.95, 1.3, 1.31, 3.7, 3.8]
    path = encode(tmp_path / "phone.mp4", list(map(picture, range(7))), times)
    video = VideoFrames(path, fps=1.0)
    assert keys(video) == [f"video/phone.mp4/{ms * 1000:012d}" for ms in (0, 1300, 3700)]
    assert [number_of(video[n].image) for n in range(3)] == [0, 3, 5]


def test_a_multiple_that_floats_miss_gives_one_frame(tmp_path: Path):
    """`0.29 * 100` is less than 29 in floats."""
    path = encode(
        tmp_path / "a.mkv", list(map(picture, range(4))), [0.285, 0.29, 0.295, 0.3], codec="mpeg4"
    )
    video = VideoFrames(path, fps=100.0, distinct=0.0)
    assert keys(video) == [f"video/a.mkv/{ms * 1000:012d}" for ms in (285, 290, 300)]


def test_too_many_pixels_are_named_before_they_are_decoded(clip: Path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", H * W - 1)
    with pytest.raises(ValueError, match=r"drive\.mp4: 64 x 48 = 3072 pixels, more than the bound"):
        VideoFrames(clip, fps=0.1)


def test_times_before_zero_count_from_the_first_frame(tmp_path: Path):
    """A minus would turn the order of the keys round."""
    times = [n / 10 - 1.2 for n in range(20)]
    path = encode(
        tmp_path / "a.mkv",
        [picture(2 * n) for n in range(20)],
        times,
        codec="mpeg4",
        container_options={"avoid_negative_ts": "disabled"},
    )
    video = VideoFrames(path, fps=2.0)
    stamps = (0, 200_000, 700_000, 1_200_000, 1_700_000)  # shown at -1.2, -1.0, -0.5, 0.0, 0.5 s
    assert keys(video) == [f"video/a.mkv/{stamp:012d}" for stamp in stamps]
    assert [round(number_of(video[n].image) / 2) for n in range(5)] == [0, 2, 7, 12, 17]


def test_a_frame_that_repeats_the_last_one_is_left_out(tmp_path: Path):
    shown = [0, 0, 0, 5, 5, 6, 0, 0]
    path = encode(tmp_path / "red.mp4", [picture(n) for n in shown])
    assert [number_of(s.image) for s in map(VideoFrames(path, fps=10.0).__getitem__, range(4))] == [
        *(0, 5, 6, 0)
    ]
    assert len(VideoFrames(path, fps=10.0, distinct=0.0)) == 8
    assert len(VideoFrames(path, fps=10.0, distinct=0.02)) == 3


def test_a_slow_change_is_held_against_the_last_frame_kept(tmp_path: Path):
    path = encode(tmp_path / "dawn.mp4", [picture(n) for n in range(8)])  # 2/255 each
    video = VideoFrames(path, fps=10.0, distinct=3 / 255)
    assert [number_of(video[n].image) for n in range(len(video))] == [0, 2, 4, 6]


def turned(path: Path, quarter: int) -> Path:
    """The same file, its display matrix turned by quarters to the right."""
    c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter]
    matrix = [c, s, 0, -s, c, 0, 0, 0, 0x40000000]
    fixed = [v * 65536 if v in (1, -1) else v for v in matrix]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    data[at : at + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in fixed)
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("quarter", range(4))
def test_phones_lie_on_their_side_and_pictures_do_not(tmp_path: Path, quarter: int):
    pixels = picture(20)
    pixels[: H // 4] = (250, 20, 20)
    path = turned(encode(tmp_path / "a.mp4", [pixels]), quarter)
    image = VideoFrames(path)[0].image.permute(1, 2, 0).numpy()
    expected = np.rot90(pixels, -quarter) / 255
    assert image.shape == expected.shape
    assert np.abs(image - expected).mean() < 0.04


def test_a_folder_is_listed_video_by_video_and_once(tmp_path: Path, monkeypatch):
    for name in ("b/z.MP4", "a.mkv", "b/y.mov"):
        encode(tmp_path / name, [picture(n) for n in range(6)])
    (tmp_path / "b" / "notes.txt").write_text("no video")
    decoded = []
    choose = video_choice.choose
    monkeypatch.setattr(
        video_choice,
        "choose",
        lambda place, *rest: decoded.append(Path(place).name) or choose(place, *rest),
    )
    video = VideoFrames(tmp_path, fps=2.0)
    assert keys(video) == sorted(keys(video))
    assert len(video) == 6
    assert decoded == ["a.mkv", "y.mov", "z.MP4"]
    assert keys(VideoFrames(tmp_path, fps=2.0)) == keys(video)
    assert len(decoded) == 3
    encode(tmp_path / "c.mp4", [picture(3)])
    assert len(VideoFrames(tmp_path, fps=2.0)) == 7
    assert decoded[3:] == ["c.mp4"], "what was decoded before is not decoded again"


def test_damage_names_the_file(tmp_path: Path, clip: Path):
    whole = clip.read_bytes()
    path = tmp_path / "cut.mp4"
    for data in (b"", b"nothing", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"cut\.mp4: damaged or no video"):
            VideoFrames(path)
    path.write_bytes(whole)
    video = VideoFrames(path, fps=10.0)
    encode(path, [picture(n) for n in range(3)], [0.0, 0.05, 0.15])
    with pytest.raises(ValueError, match=r"cut\.mp4: no frame at 2\.000 s; it has changed"):
        video[20]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"cut\.mp4: no such file"):
        pickle.loads(pickle.dumps(video))[0]


def test_sound_alone_is_no_video(tmp_path: Path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=8000)
        wave = np.sin(np.arange(8000) * 2 * math.pi / 20)[None].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"song\.mp4: has no picture"):
        VideoFrames(path)


def test_wrong_arguments_are_named(tmp_path: Path, clip: Path):
    with pytest.raises(FileNotFoundError, match=r"no video in .*; they end with \.mp4, \.mov"):
        VideoFrames(tmp_path)
    for fps, distinct in ((0.0, 0.1), (1.0, 1.0), (1.0, -0.1)):
        with pytest.raises(ValueError, match=r"above 0, and within \[0, 1\)"):
            VideoFrames(clip, fps=fps, distinct=distinct)
    with pytest.raises(IndexError):
        VideoFrames(clip)[8]


@pytest.mark.parametrize("kind", ["mkv", "avi", "mov"])
def test_a_file_that_ends_early_is_named(tmp_path: Path, kind: str):
    """Some formats can be read as far as they are there: no frame may be missing in silence."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (H, W, 3), dtype=np.uint8) for _ in range(40)]
    path = encode(tmp_path / f"a.{kind}", noise, codec="mpeg4")
    whole = path.read_bytes()
    assert len(VideoFrames(path)) == 8
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"a\.{kind}: (damaged|ends|a frame before)"):
        VideoFrames(path)


def test_sound_may_be_longer_than_pictures(tmp_path: Path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        pictures: Any = container.add_stream("libx264", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = W, H, "yuv420p"
        sound: Any = container.add_stream("aac", rate=8000)
        container.mux(pictures.encode(av.VideoFrame.from_ndarray(picture(3), format="rgb24")))
        container.mux(pictures.encode())
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 40_000), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 8000
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    assert [number_of(VideoFrames(path)[0].image)] == [3]


def test_videos_behind_links_are_found_hidden_ones_not(tmp_path: Path, clip: Path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "bdd").symlink_to(clip.parent)
    (tmp_path / "videos" / ".trash").symlink_to(clip.parent)
    video = VideoFrames(tmp_path / "videos", fps=0.5)
    assert keys(video) == [f"video/bdd/drive.mp4/{s:012d}" for s in (0, 2_000_000)]


def test_a_frame_without_time_or_whole_content_is_named(clip: Path, monkeypatch):
    class Frame:
        pts, is_corrupt = None, False

    class Packet:
        pts, duration, time_base, stream = 0, 1, 1, None
        frame = Frame()

        def decode(self) -> list[Frame]:
            return [self.frame]

    class Container:
        start_time, duration, streams = 0, 0, type("", (), {"video": [None]})
        packet = Packet()

        def demux(self) -> list[Packet]:
            return [self.packet]

    with pytest.raises(ValueError, match=r"a\.avi: a frame before 1\.0 s is without a time"):
        list(video_choice._whole(Container(), "a.avi"))
    Frame.pts, Frame.is_corrupt = 0, True  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"a\.avi: a frame before 1\.0 s is damaged"):
        list(video_choice._whole(Container(), "a.avi"))
