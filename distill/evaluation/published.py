"""The protocols of papers, each with numbers to compare with.

A number that this file gives is the paper's own, or was measured anew with the public weights where
the source says so.
"""

from dataclasses import replace

from distill.evaluation.protocols import (
    Alignment,
    Crop,
    PreCrop,
    Protocol,
    Published,
    Window,
)

GARG = Crop(name="garg", rows=(0.40810811, 0.99189189), cols=(0.03594771, 0.96405229))
KITTI_EIGEN = Crop(name="kitti_eigen", rows=(0.3324324, 0.91351351), cols=(0.0359477, 0.96405229))
NYU_EIGEN = Window(name="nyu_eigen", size=(480, 640), rows=(45, 471), cols=(41, 601))
KITTI_BENCHMARK = PreCrop(name="kb", height=352, width=1216)

_V2 = "Depth Anything V2, Table 2"
_V2_METRIC = "Depth Anything V2, metric models tuned on this set"
_MARIGOLD = "Marigold, Table 1, its first weights, ten runs averaged"
_DINOV3 = "DINOv3, its table of relative depth"
_DEPTH_PRO = "Depth Pro, Table 1"


def numbers(
    metrics: tuple[str, ...], source: str, tolerance: float = 0.05, **rows: tuple[float, ...]
) -> tuple[Published, ...]:
    """Of one table: models as keywords, a number for each metric; delta within 1%."""
    return tuple(
        Published(
            model=model.replace("_", " "),
            metric=metric,
            value=value,
            tolerance=0.01 if metric.startswith("delta") else tolerance,
            source=source,
        )
        for model, values in rows.items()
        for metric, value in zip(metrics, values, strict=True)
    )


_REL = ("abs_rel", "delta1")
_REL_RMSE = ("abs_rel", "delta1", "rmse")

NYU_DISPARITY = Protocol(
    id="nyu654.disp.v1",
    dataset="NYU Depth v2, the 654 test images, raw depth of the sensor",
    maximum=10.0,
    crop=NYU_EIGEN,
    alignment=Alignment.DISPARITY,
    floor=1 / 10,
    clip=(1e-3, 10.0),
    expected_images=654,
    source="Fit and floor as MiDaS; Depth Anything V2's numbers come out of it to 7%.",
    published=numbers(
        *(_REL, _V2, 0.07),
        Depth_Anything_V2_S=(0.053, 0.973),
        Depth_Anything_V2_B=(0.049, 0.976),
        Depth_Anything_V2_L=(0.045, 0.979),
    ),
)
NYU_DEPTH = replace(
    NYU_DISPARITY,
    id="nyu654.depth.v1",
    alignment=Alignment.DEPTH,
    floor=None,
    source="As Marigold's tables.",
    published=(
        *numbers(_REL, _MARIGOLD, Marigold=(0.055, 0.964)),
        *numbers(_REL, _DINOV3, DINOv3_7B=(0.043, 0.980)),
    ),
)
NYU_METRIC = replace(
    NYU_DEPTH,
    id="nyu654.metric.v1",
    alignment=Alignment.NONE,
    source="As ZoeDepth, UniDepth and Metric3D; ZoeDepth also averages a mirrored prediction.",
    published=(
        *numbers(
            *(_REL_RMSE, _V2_METRIC),
            Depth_Anything_V2_S=(0.073, 0.961, 0.261),
            Depth_Anything_V2_B=(0.063, 0.977, 0.228),
            Depth_Anything_V2_L=(0.056, 0.984, 0.206),
        ),
        *numbers(_REL_RMSE, "Metric3D v2, zero-shot", Metric3D_v2_L=(0.063, 0.975, 0.251)),
        *numbers(("delta1",), "UniDepth's readme", UniDepth_V2_L=(0.988,)),
    ),
)
NYU_LINEAGE = Protocol(
    id="nyu.lineage.v1",
    dataset="NYU Depth v2, the 654 test images, in-painted depth",
    minimum=0.0,
    alignment=Alignment.RATIO_OF_MEDIANS,
    expected_images=654,
    source="As MonST3R and CUT3R: no crop, no limit, in-painted truth, which costs 20%.",
)

KITTI_DISPARITY = Protocol(
    id="kitti652.garg.disp.v1",
    dataset="KITTI, the 652 Eigen test images with annotated lidar truth",
    maximum=80.0,
    crop=GARG,
    alignment=Alignment.DISPARITY,
    floor=1 / 80,
    expected_images=652,
    source="Fit and floor as MiDaS; compare with Depth Anything V2, Table 2 (ViT-S 0.078).",
    published=numbers(
        *(_REL, _V2),
        Depth_Anything_V2_S=(0.078, 0.936),
        Depth_Anything_V2_B=(0.078, 0.939),
        Depth_Anything_V2_L=(0.074, 0.946),
    ),
)
KITTI_DEPTH = Protocol(
    id="kitti652.kb_eigen.depth.v1",
    dataset=KITTI_DISPARITY.dataset,
    minimum=1e-5,
    maximum=80.0,
    pre_crop=KITTI_BENCHMARK,
    crop=KITTI_EIGEN,
    alignment=Alignment.DEPTH,
    clip=(1e-5, 80.0),
    expected_images=652,
    source="As Marigold's tables.",
    published=(
        *numbers(_REL, _MARIGOLD, Marigold=(0.099, 0.916)),
        *numbers(_REL, _DINOV3, DINOv3_7B=(0.073, 0.967)),
    ),
)
KITTI_METRIC = Protocol(
    id="kitti652.kb_garg.metric.v1",
    dataset=KITTI_DISPARITY.dataset,
    maximum=80.0,
    pre_crop=KITTI_BENCHMARK,
    crop=GARG,
    alignment=Alignment.NONE,
    clip=(1e-3, 80.0),
    expected_images=652,
    source="As ZoeDepth and UniDepth; ZoeDepth also averages a mirrored prediction.",
    published=(
        *numbers(
            *(_REL_RMSE, _V2_METRIC),
            Depth_Anything_V2_S=(0.053, 0.973, 2.235),
            Depth_Anything_V2_B=(0.048, 0.979, 1.999),
            Depth_Anything_V2_L=(0.045, 0.983, 1.861),
        ),
        *numbers(("delta1",), "UniDepth's readme", UniDepth_V2_L=(0.989,)),
    ),
)
KITTI_FULL_MEDIAN = Protocol(
    id="kitti652.full.median.v1",
    dataset=KITTI_DISPARITY.dataset,
    minimum=0.0,
    alignment=Alignment.RATIO_OF_MEDIANS,
    clip=(1e-3, 80.0),
    expected_images=652,
    source="As monodepth2's `eigen_benchmark`: no crop, no limit on the truth.",
)
KITTI_EIGEN_MEDIAN = Protocol(
    id="kitti697.garg.median.v1",
    dataset="KITTI, the 697 Eigen test images, depth of the raw lidar points",
    maximum=80.0,
    crop=GARG,
    alignment=Alignment.RATIO_OF_MEDIANS,
    clip=(1e-3, 80.0),
    expected_images=697,
    source="As monodepth2 and self-supervised work after it.",
    published=numbers(
        *(_REL, "monodepth2, 640 x 192"),
        monodepth2_mono=(0.115, 0.877),
        monodepth2_mono_without_ImageNet=(0.132, 0.845),
    ),
)

ETH3D_DEPTH = Protocol(
    id="eth3d454.depth.v1",
    dataset="ETH3D, 454 distorted photographs of 13 training scenes",
    minimum=1e-5,
    alignment=Alignment.DEPTH,
    fit_grid="nearest 1024",
    expected_images=454,
    source="As Marigold's tables; aligned depth is at least 1e-6 m.",
    published=(
        *numbers(_REL, _MARIGOLD, Marigold=(0.065, 0.960)),
        *numbers(_REL, _DINOV3, DINOv3_7B=(0.054, 0.975)),
    ),
)
ETH3D_METRIC = Protocol(
    id="eth3d454.metric.v1",
    dataset=ETH3D_DEPTH.dataset,
    minimum=0.1,
    maximum=200.0,
    alignment=Alignment.NONE,
    expected_images=454,
    source="As Depth Pro's table, which gives delta1.",
    published=numbers(
        *(("delta1",), f"{_DEPTH_PRO}; others measured 0.365 for Depth Pro"),
        Depth_Pro=(0.415,),
        Metric3D_v2=(0.877,),
        UniDepth=(0.253,),
    ),
)
DIODE_INDOOR = Protocol(
    id="diode325in.disp.v1",
    dataset="DIODE, the 325 indoor validation images, its own mask",
    maximum=50.0,
    alignment=Alignment.DISPARITY,
    floor=1 / 50,
    clip=(1e-3, 50.0),
    expected_images=325,
    source="Fit and floor as MiDaS. The column DIODE of Depth Anything V2 is this indoor half.",
    published=numbers(
        *(_REL, _V2),
        Depth_Anything_V2_S=(0.073, 0.942),
        Depth_Anything_V2_B=(0.068, 0.950),
        Depth_Anything_V2_L=(0.066, 0.952),
    ),
)
DIODE_DEPTH = Protocol(
    id="diode771.depth.v1",
    dataset="DIODE, the 771 validation images, its own mask",
    minimum=0.0,
    alignment=Alignment.DEPTH,
    clip=(0.6, 350.0),
    expected_images=771,
    source="As Marigold's tables.",
    published=(
        *numbers(_REL, _MARIGOLD, Marigold=(0.308, 0.773)),
        *numbers(_REL, _DINOV3, DINOv3_7B=(0.256, 0.822)),
    ),
)
SCANNET_DEPTH = Protocol(
    id="scannet800.depth.v1",
    dataset="ScanNet, the 800 validation images that Marigold chose",
    maximum=10.0,
    alignment=Alignment.DEPTH,
    clip=(1e-3, 10.0),
    expected_images=800,
    source="As Marigold's tables.",
    published=(
        *numbers(_REL, _MARIGOLD, Marigold=(0.064, 0.951)),
        *numbers(_REL, _DINOV3, DINOv3_7B=(0.044, 0.981)),
    ),
)
SINTEL_METRIC = Protocol(
    id="sintel1064.metric.v1",
    dataset="Sintel, the 1064 training frames, final rendering",
    minimum=0.01,
    maximum=80.0,
    alignment=Alignment.NONE,
    expected_images=1064,
    source="As Depth Pro's table, which gives delta1; others measured 0.241 instead of its 0.400.",
    published=numbers(
        *(("delta1",), _DEPTH_PRO), Depth_Pro=(0.400,), Metric3D_v2=(0.383,), UniDepth=(0.165,)
    ),
)
DDAD_METRIC = Protocol(
    id="ddad3950.metric.v1",
    dataset="DDAD, the 3950 validation images of the front camera, lidar truth",
    maximum=120.0,
    includes_maximum=True,
    crop=GARG,
    alignment=Alignment.NONE,
    expected_images=3950,
    source="As UniDepth.",
    published=numbers(("delta1",), "UniDepth's readme", UniDepth_V2_L=(0.882,)),
)
MIDDLEBURY_METRIC = Protocol(
    id="middlebury15.metric.v1",
    dataset="Middlebury 2014, 15 scenes, depth of the left camera",
    maximum=10.0,
    alignment=Alignment.NONE,
    expected_images=15,
    source="As Depth Pro's table, which gives delta1.",
    published=numbers(
        *(("delta1",), _DEPTH_PRO), Depth_Pro=(0.605,), Metric3D_v2=(0.299,), UniDepth=(0.319,)
    ),
)
DA2K_PAIRS = Protocol(
    id="da2k.pairs.v1",
    dataset="DA-2K, pairs of points in photographs",
    alignment=Alignment.ORDER,
    measures="pairs",
    source="As Depth Anything V2.",
    published=numbers(
        *(("accuracy",), "Depth Anything V2, DA-2K", 0.01),
        Depth_Anything_V2_S=(0.953,),
        Depth_Anything_V2_B=(0.970,),
        Depth_Anything_V2_L=(0.971,),
        Depth_Anything_V2_G=(0.974,),
    ),
)
