"""The project's own protocols, for what no paper's protocol covers: compare them with themselves.

`moge_style` follows MoGe's rules on images at their own size: MoGe publishes for images that it
warped and whose truth it cleaned, so these ids claim none of its numbers.
"""

from dataclasses import replace

from distill.evaluation import published
from distill.evaluation.protocols import Alignment, Protocol, Published

PHOTOS = Protocol(
    id="photos.disp.v1",
    dataset="held-out photos of the demo world (distill/worlds), rendered truth",
    alignment=Alignment.DISPARITY,
    floor="1/max",
    source="Fit as MiDaS, floor as MoGe. A house number: compare only with itself.",
)
FOLDER = Protocol(
    id="rgb-depth.disp.v1",
    dataset="a folder of images and 16-bit depth PNGs",
    alignment=Alignment.DISPARITY,
    floor="1/max",
    source="Fit as MiDaS, floor as MoGe. Compare only on the same images.",
)
FOLDER_DEPTH = replace(
    FOLDER,
    id="rgb-depth.depth.v1",
    alignment=Alignment.DEPTH,
    floor=None,
    clip=(1e-3, 1e3),
    source="For models that predict affine-invariant depth, as Marigold's tables.",
)
FOLDER_METRIC = replace(
    FOLDER,
    id="rgb-depth.metric.v1",
    alignment=Alignment.NONE,
    floor=None,
    clip=(1e-3, 1e3),
    source="For models that predict metres; nothing is aligned.",
)
SINTEL_DISPARITY = Protocol(
    id="sintel1064.disp70.v1",
    dataset="Sintel, the 1064 training frames, final rendering",
    maximum=70.0,
    alignment=Alignment.DISPARITY,
    floor=1 / 70,
    expected_images=1064,
    source="A house number: the 0.487 of Depth Anything V2 does not come out of it.",
)
IBIMS_METRIC = Protocol(
    id="ibims100.metric.v1",
    dataset="iBims-1, the 100 rooms, its masks of what is invalid or transparent",
    minimum=0.1,
    maximum=10.0,
    alignment=Alignment.NONE,
    expected_images=100,
    source="Range as Depth Pro, whose table has its boundaries only.",
)


def moge_style(name: str, dataset: str, images: int | None) -> Protocol:
    """MoGe's rule for disparity: least squares, floored at the farthest truth, no limit or crop."""
    return Protocol(
        id=f"{name}{images or ''}.gtmax.v1",
        dataset=dataset,
        minimum=0.0,
        outliers=1000.0,
        alignment=Alignment.DISPARITY,
        floor="1/max",
        expected_images=images,
        source="Fit and floor as MoGe, on whole images, not on its warped ones: only orders of "
        "models compare with its Table 3.",
    )


def moge_affine(rules: Protocol) -> Protocol:
    """MoGe's rule for affine-invariant depth, on the same truth."""
    return replace(
        rules,
        id=rules.id.replace("gtmax", "l1affine"),
        alignment=Alignment.L1_DEPTH,
        fit_grid="nearest 64 x 64",
        floor=None,
    )


def moge_scale(rules: Protocol) -> Protocol:
    """MoGe's rule for scale-invariant depth, on the same truth."""
    return replace(
        moge_affine(rules),
        id=rules.id.replace("gtmax", "l1scale"),
        alignment=Alignment.L1_SCALE,
    )


def boundaries(rules: Protocol, numbers: tuple[Published, ...] = ()) -> Protocol:
    """Depth Pro's boundary F1 of a depth protocol's aligned maps, on its pixels."""
    return replace(
        rules,
        id=f"bf1.{rules.id}",
        measures="boundaries",
        source=f"Boundary F1 as Depth Pro, pairs of valid pixels only; depth as {rules.id}.",
        published=numbers,
    )


NYU = moge_style("nyu", published.NYU_DISPARITY.dataset, 654)
KITTI = moge_style("kitti", published.KITTI_DISPARITY.dataset, 652)
ETH3D = moge_style("eth3d", published.ETH3D_METRIC.dataset, 454)
DIODE = moge_style("diode", published.DIODE_DEPTH.dataset, 771)
DDAD = moge_style("ddad", published.DDAD_METRIC.dataset, 3950)
MIDDLEBURY = moge_style("middlebury", published.MIDDLEBURY_METRIC.dataset, 15)
SINTEL = moge_style("sintel", published.SINTEL_METRIC.dataset, 1064)
IBIMS = moge_style("ibims", IBIMS_METRIC.dataset, 100)
SINTEL_BOUNDARIES = boundaries(
    published.SINTEL_METRIC, published.numbers(("bf1",), "Depth Pro, Table 2", Depth_Pro=(0.409,))
)
IBIMS_BOUNDARIES = boundaries(
    IBIMS_METRIC, published.numbers(("bf1",), "Depth Pro, Table 2", Depth_Pro=(0.176,))
)
