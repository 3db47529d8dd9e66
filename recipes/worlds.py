"""Rendered worlds to learn from where real data is missing; `recipes.demo` has its own."""

from distill.worlds.drives import DriveJob


def drives(seed: int = 0, drives: int = 20) -> DriveJob:
    """Streets driven along: stereo pairs, lidar, poses and truth in KITTI raw's layout.

    distill run recipes.worlds:drives --out data/drives
    """
    return DriveJob(seed=seed, drives=drives)
