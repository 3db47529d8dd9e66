"""The guess of a unit, on maps that were stored in each of the units that are in use."""

import numpy as np
import pytest
from depth_pictures import lidar, room, stored, street

from distill.inspection import measure, units

STREET, ROOM = street(), room()
ROTATED = stored(ROOM, 1000) << 3 | stored(ROOM, 1000) >> 13
CASES = {
    "KITTI": (stored(lidar(STREET), 256), 256, "likely"),
    "sparse, upper part too": (
        stored(np.where(np.random.default_rng(0).random(STREET.shape) < 0.3, STREET, 0), 256),
        256,
        "a guess",
    ),
    "Virtual KITTI 2": (stored(STREET, 100, sky=65535), 100, "likely"),
    "Kinect": (stored(ROOM, 1000), 1000, "likely"),
    "TUM": (stored(ROOM, 1000) * np.uint16(5), 5000, "likely"),
    "millimetres in steps of 5": (stored(ROOM, 200) * np.uint16(5), 1000, "likely"),
    "SUN RGB-D": (ROTATED, 8000, "likely"),
    "centimetres without a sky": (stored(street(200, 400) / 6, 100), 100, "a guess"),
    "a dense street": (stored(STREET, 256), 256, "a guess"),
    "metres": (ROOM.astype(np.float32), 1, "likely"),
    "a street in metres": (STREET.astype(np.float32), 1, "likely"),
    "float millimetres": (ROOM.astype(np.float32) * 1000, 1000, "a guess"),
}
WITHOUT = {
    "divided by its largest": ((ROOM / ROOM.max()).astype(np.float32), "none", "from 0 to 1"),
    "inverse": ((1 / ROOM).astype(np.float32) * 7, "none", "larger is nearer"),
    "inverse, 16 bits": (stored(1 / ROOM, 60000), "none", "larger is nearer"),
    "8 bits": (stored(ROOM, 30).astype(np.uint8), "none", "8 bits"),
    "stretched": (stored(ROOM, 30) * np.uint16(257), "none", "multiple of 257"),
    "a reconstruction": (ROOM.astype(np.float32) * 1e-3, "unknown", "own scale"),
    "nothing": (np.zeros((96, 128), np.uint16), "unknown", "no valid pixel"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_unit_is_found(name: str):
    values, per_metre, sure = CASES[name]
    unit = units.guess([measure.measure(values)])
    assert (unit.per_metre, unit.sure) == (per_metre, sure), unit
    finite = values[(values > 0) & np.isfinite(values) & (values < 65535)]
    median = float(np.median(finite)) / per_metre
    assert f"half below {median:.2g}"[:-1] in unit.reason or f"{median:.3g}" in unit.reason


@pytest.mark.parametrize("name", WITHOUT)
def test_what_has_no_unit_gets_none(name: str):
    values, kind, reason = WITHOUT[name]
    unit = units.guess([measure.measure(values)])
    assert unit.per_metre is None
    assert unit.name == kind
    assert reason in unit.reason


def test_depth_and_its_inverse_are_told_apart_by_the_rows():
    kinds = {
        "depth": STREET,
        "inverse": np.where(np.isfinite(STREET), 1 / STREET, 0),
        "undecided": np.random.default_rng(0).uniform(1, 5, (96, 128)),
    }
    found = {name: units.kind([measure.measure(values)]) for name, values in kinds.items()}
    assert found == {name: name for name in kinds}


def test_other_readings_of_whole_numbers_are_told():
    unit = units.guess([measure.measure(stored(ROOM, 1000))])
    assert "m as 1/256 m" in unit.reason
    assert "m as centimetres" in unit.reason
    assert "millimetres" not in unit.reason
