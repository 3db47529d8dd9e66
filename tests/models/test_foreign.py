"""`models/foreign.py` against `transformers.pipeline`, on random weights of four architectures."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import (
    DepthProConfig,
    DepthProForDepthEstimation,
    DepthProImageProcessor,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
    ZoeDepthImageProcessor,
    pipeline,
)

from distill.datasets.images import read_pil
from distill.job import seed_everything
from distill.models.depth_anything import depth_anything
from distill.models.foreign import load_predictor
from distill.types import Space


def fill_last_bias(module: nn.Module | None, value: float) -> None:
    """Of the last convolution with one channel."""
    assert module is not None
    ends = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.out_channels == 1]
    assert ends[-1].bias is not None
    nn.init.constant_(ends[-1].bias, value)


def enliven(module: nn.Module) -> None:
    """Draw weights that keep the variance of their input; transformers' 0.02 gives flat maps."""
    for inner in module.modules():
        if isinstance(inner, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_normal_(inner.weight)


def save_dpt(folder: Path) -> None:
    config = DPTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64,
        image_size=64, patch_size=16, backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 16, 16], fusion_hidden_size=16, is_hybrid=False,
    )  # fmt: skip
    model = DPTForDepthEstimation(config)
    enliven(model)
    fill_last_bias(model, 1.0)  # keeps the final ReLU alive
    model.save_pretrained(folder)
    # its plain backbone takes squares only
    DPTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


def save_zoedepth(folder: Path) -> None:
    config = ZoeDepthConfig(
        backbone_config={
            "model_type": "beit", "image_size": 64, "patch_size": 16, "hidden_size": 32,
            "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
            "reshape_hidden_states": False, "use_relative_position_bias": True,
        },
        neck_hidden_sizes=[16, 16, 16, 16], fusion_hidden_size=16,
        bottleneck_features=16, num_relative_features=8, bin_embedding_dim=16,
        num_attractors=[4, 2, 2, 1],
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
    )  # fmt: skip
    model = ZoeDepthForDepthEstimation(config)
    enliven(model)
    model.save_pretrained(folder)
    ZoeDepthImageProcessor(
        size={"height": 64, "width": 96}, keep_aspect_ratio=True, ensure_multiple_of=32
    ).save_pretrained(folder)


def save_depth_pro(folder: Path) -> None:
    vit = {
        "model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 4,
        "num_attention_heads": 2, "patch_size": 4, "image_size": 16,
    }  # fmt: skip
    config = DepthProConfig(
        fusion_hidden_size=16, patch_size=16, intermediate_hook_ids=[3, 1],
        intermediate_feature_dims=[16, 16], scaled_images_ratios=[0.25, 0.5, 1],
        scaled_images_overlap_ratios=[0.0, 0.5, 0.25], scaled_images_feature_dims=[32, 16, 16],
        image_model_config=vit, patch_model_config=vit, fov_model_config=vit, use_fov_model=True,
    )  # fmt: skip
    model = DepthProForDepthEstimation(config)
    enliven(model)
    fill_last_bias(model.head, 3.0)
    fill_last_bias(model.fov_model, 60.0)  # degrees
    model.save_pretrained(folder)
    DepthProImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


MODELS: dict[str, tuple[Callable, Space]] = {
    "dpt": (save_dpt, Space.AFFINE_DISPARITY),
    "zoedepth": (save_zoedepth, Space.METRIC_DEPTH),
    "depth_pro": (save_depth_pro, Space.METRIC_DEPTH),
    "ours": (lambda folder: depth_anything("tiny").save_pretrained(folder), Space.AFFINE_DISPARITY),
    "ours_metric": (
        lambda folder: depth_anything("tiny", max_depth=20.0).save_pretrained(folder),
        Space.METRIC_DEPTH,
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(devices=[]):
        seed_everything(0)
        for name, (save, _) in MODELS.items():
            save(root / name)
    return {name: root / name for name in MODELS}


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    waves = [np.sin(7 * x + 3 * y), np.cos(5 * y - 2 * x), np.sin(9 * x * y)]
    values = 127 + 90 * np.stack(waves, axis=-1) + rng.normal(0, 20, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("name", MODELS)
def test_predicts_what_the_pipeline_predicts(folders: dict[str, Path], name: str) -> None:
    predictor = load_predictor(folders[name])
    reference = pipeline("depth-estimation", model=str(folders[name]))
    assert predictor.space is MODELS[name][1]
    for size in ((90, 70), (53, 131), (260, 61)):
        image = picture(*size)
        (prediction,) = predictor.predict([image])
        expected = reference(image)["predicted_depth"]  # type: ignore[index] - one image, one dict
        assert prediction.values.shape == size[::-1]
        assert prediction.space is predictor.space
        assert prediction.values.std() > 0
        torch.testing.assert_close(prediction.values, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_a_list_gives_what_single_images_give(folders: dict[str, Path], name: str) -> None:
    predictor = load_predictor(folders[name])
    images = [picture(90, 70), picture(50, 80, 1), picture(90, 70, 2), picture(90, 70, 3)]
    together = predictor.predict(images)
    for image, prediction in zip(images, together, strict=True):
        (alone,) = predictor.predict([image])
        torch.testing.assert_close(prediction.values, alone.values, rtol=1e-4, atol=1e-5)
    assert predictor.predict([]) == []


@pytest.mark.parametrize("name", MODELS)
def test_images_at_the_limits_give_finite_maps(folders: dict[str, Path], name: str) -> None:
    predictor = load_predictor(folders[name])
    for size in ((1, 1), (3, 3), (3, 200), (400, 2), (1, 7)):
        (prediction,) = predictor.predict([picture(*size)])
        assert prediction.values.shape == size[::-1]
        assert prediction.values.isfinite().all()
        pixels = predictor.prepare(picture(*size))
        assert predictor.predict_network(pixels[None]).isfinite().all()


def test_modes_and_rotation_are_read_as_the_pipeline_reads_them(folders: dict[str, Path]) -> None:
    predictor = load_predictor(folders["dpt"])
    reference = pipeline("depth-estimation", model=str(folders["dpt"]))
    image = picture(90, 70)
    rotated = image.copy()
    rotated.getexif()[0x0112] = 6  # a quarter turn
    for variant in (image.convert("L"), image.convert("RGBA"), image.convert("CMYK"), rotated):
        (prediction,) = predictor.predict([variant])
        expected = reference(variant)["predicted_depth"]  # type: ignore[index] - one image
        assert torch.equal(prediction.values, expected)
    assert predictor.predict([rotated])[0].values.shape == (90, 70)


@pytest.mark.parametrize("name", ["dpt", "ours", "ours_metric"])
def test_network_values_are_the_models_own(folders: dict[str, Path], name: str) -> None:
    predictor = load_predictor(folders[name])
    pixels = torch.stack([predictor.prepare(picture(90, 70, seed)) for seed in (0, 1)])
    values = predictor.predict_network(pixels)
    assert values.shape == (2, *pixels.shape[-2:])
    reference = pipeline("depth-estimation", model=str(folders[name])).model
    with torch.no_grad():
        assert torch.equal(values, reference(pixels).predicted_depth)


def test_depth_pro_gives_metres_at_the_network_size_too(folders: dict[str, Path]) -> None:
    predictor = load_predictor(folders["depth_pro"])
    image = picture(64, 64)
    values = predictor.predict_network(predictor.prepare(image)[None])
    torch.testing.assert_close(values[0], predictor.predict([image])[0].values)


def test_zoedepth_prepares_the_image_without_its_border(folders: dict[str, Path]) -> None:
    predictor = load_predictor(folders["zoedepth"])
    flat = Image.new("RGB", (96, 64), (255, 255, 255))
    flat.paste((0, 0, 0), (48, 0, 96, 64))
    pixels = predictor.prepare(flat)
    assert pixels.shape == (3, 64, 96)
    assert (pixels[:, :, :48] > 0).all()
    assert (pixels[:, :, 49:] < 0).all()


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_is_near_and_has_float32_steps(folders: dict[str, Path], name: str) -> None:
    exact, low = (load_predictor(folders[name], dtype=d) for d in (torch.float32, torch.bfloat16))
    pixels = exact.prepare(picture(90, 70))[None]
    expected, values = exact.predict_network(pixels), low.predict_network(pixels)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, expected, rtol=0.05, atol=0)
    assert len(values.unique()) > len(values.bfloat16().unique())


def test_depth_anything_below_float32_is_frozen_and_others_are_not(
    folders: dict[str, Path],
) -> None:
    for name in MODELS:
        plain, low = (
            load_predictor(folders[name], dtype=d) for d in (torch.float32, torch.bfloat16)
        )
        assert plain.inference == {"network": "transformers", "compiled": False}
        kind = "frozen" if name.startswith("ours") else "transformers"
        assert low.inference == {"network": kind, "compiled": False}


@pytest.mark.parametrize(("name", "dtype"), [("dpt", torch.bfloat16), ("ours", torch.float32)])
def test_compiling_what_is_not_provided_for_is_refused(
    folders: dict[str, Path], name: str, dtype: torch.dtype
) -> None:
    with pytest.raises(ValueError, match="only Depth Anything in bfloat16 is compiled"):
        load_predictor(folders[name], dtype=dtype, compiled=True)


def jpeg(width: int, height: int, orientation: int = 1) -> bytes:
    """Smooth enough that how it is reduced hardly matters."""
    small = picture(24, 16).resize((width, height), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=95, exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_file_is_prepared_as_its_image_is(folders: dict[str, Path], orientation: int) -> None:
    predictor, data = load_predictor(folders["ours"]), jpeg(300, 201, orientation)
    pixels, size = predictor.prepare_encoded(data)
    assert torch.equal(pixels, predictor.prepare(read_pil(data)))
    assert size == ((201, 300) if orientation == 1 else (300, 201))
    assert "decoding" not in predictor.preprocessing


@pytest.mark.parametrize("orientation", [1, 6])
def test_reduced_decoding_is_near_and_of_the_same_size(
    folders: dict[str, Path], orientation: int
) -> None:
    whole, reduced = (load_predictor(folders["ours"], reduced=flag) for flag in (False, True))
    data = jpeg(300, 201, orientation)
    expected, size = whole.prepare_encoded(data)
    pixels, found = reduced.prepare_encoded(data)
    assert found == size
    assert pixels.shape == expected.shape
    assert not torch.equal(pixels, expected)
    assert (pixels - expected).abs().mean() < 0.03  # deviations of a channel
    assert reduced.preprocessing["decoding"] == "reduced, OpenCV bicubic"


def test_reduced_decoding_leaves_alone_what_it_cannot_reduce(folders: dict[str, Path]) -> None:
    predictor = load_predictor(folders["ours"], reduced=True)
    stream = io.BytesIO()
    picture(300, 201).save(stream, "PNG")
    for data in (jpeg(100, 80), stream.getvalue()):  # less than twice the network's 56; a PNG
        pixels, _ = predictor.prepare_encoded(data)
        assert torch.equal(pixels, predictor.prepare(read_pil(data)))
    other = load_predictor(folders["dpt"], reduced=True)  # of another processor
    assert torch.equal(
        other.prepare_encoded(jpeg(300, 201))[0], other.prepare(read_pil(jpeg(300, 201)))
    )


def test_a_damaged_file_is_named(folders: dict[str, Path]) -> None:
    for reduced in (False, True):
        predictor = load_predictor(folders["ours"], reduced=reduced)
        for data in (b"", jpeg(300, 201)[:200], jpeg(300, 201)[:-900]):
            with pytest.raises(ValueError, match=r"^a/b\.jpg: "):
                predictor.prepare_encoded(data, name="a/b.jpg")


def test_digest_changes_with_weights_and_settings(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folders["dpt"], copy)
    digest = load_predictor(folders["dpt"]).sha256
    assert load_predictor(copy).sha256 == digest
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    settings["image_mean"] = [0.4, 0.4, 0.4]
    (copy / "preprocessor_config.json").write_text(json.dumps(settings))
    changed = load_predictor(copy).sha256
    assert changed != digest
    model = DPTForDepthEstimation.from_pretrained(copy)
    fill_last_bias(model, 2.0)
    model.save_pretrained(copy)
    assert load_predictor(copy).sha256 not in {digest, changed}


def test_sharded_weights_are_digested(folders: dict[str, Path], tmp_path: Path) -> None:
    model = DPTForDepthEstimation.from_pretrained(folders["dpt"])
    shutil.copy(folders["dpt"] / "preprocessor_config.json", tmp_path)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    before = load_predictor(tmp_path).sha256
    fill_last_bias(model, 3.0)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert load_predictor(tmp_path).sha256 != before


def test_licence_comes_from_the_model_card(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["dpt"], tmp_path / "model")
    assert load_predictor(tmp_path / "model").licence is None
    (tmp_path / "model/README.md").write_text("# no header\n")
    assert load_predictor(tmp_path / "model").licence is None
    (tmp_path / "model/README.md").write_text("---\nlicense: apache-2.0\n---\n# a card\n")
    assert load_predictor(tmp_path / "model").licence == "apache-2.0"


def edit_config(source: Path, target: Path, **fields: object) -> Path:
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | fields))
    return target


def test_unknown_kind_asks_for_its_space(folders: dict[str, Path], tmp_path: Path) -> None:
    other = edit_config(folders["dpt"], tmp_path / "other", model_type="chmv2")
    with pytest.raises(
        ValueError, match="chmv2 predicts is not known here; say so with --space NAME"
    ):
        load_predictor(other)
    assert load_predictor(folders["dpt"], space=Space.ORDINAL).space is Space.ORDINAL


def test_a_model_that_needs_a_prompt_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    prompt = edit_config(folders["ours"], tmp_path / "prompt", model_type="prompt_depth_anything")
    with pytest.raises(ValueError, match="needs a sparse depth map beside the image"):
        load_predictor(prompt)


def test_what_cannot_be_had_is_named_with_a_remedy(tmp_path: Path) -> None:
    for model in ("depth-anything/Depth-Anything-V2-Small-hf", tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError, match="hf download") as caught:
            load_predictor(model)
        assert str(model) in str(caught.value)


def test_missing_weights_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    deeper = edit_config(folders["dpt"], tmp_path / "deeper", num_hidden_layers=5)
    with pytest.raises(ValueError, match=r"do not fit its config\.json: missing"):
        load_predictor(deeper)


def test_code_beside_weights_is_never_run(folders: dict[str, Path], tmp_path: Path) -> None:
    auto = {"AutoConfig": "evil.Config", "AutoModelForDepthEstimation": "evil.Model"}
    folder = edit_config(folders["dpt"], tmp_path / "m", model_type="unheard_of", auto_map=auto)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ValueError, match="custom code"):
        load_predictor(folder)
    assert not (tmp_path / "ran").exists()
