"""MATLAB's files: a variable as it was saved, or an error that names the file."""

import numpy as np
import pytest
from scipy.io import savemat

from distill.datasets import matlab


@pytest.mark.parametrize("packed", [False, True])
def test_a_variable_is_read_and_a_struct_is_a_dict(packed, tmp_path):
    path = tmp_path / "a.mat"
    numbers = np.array([[2], [3]], np.uint16)
    savemat(path, {"n": numbers, "s": {"inside": numbers}}, do_compression=packed)
    read = matlab.read_variable(path, "n", remedy="")
    assert read.dtype == np.uint16
    assert read.ravel().tolist() == [2, 3]
    assert matlab.read_variable(path, "s", remedy="")["inside"].tolist() == read.tolist()


def test_damage_names_the_file_and_the_remedy(tmp_path):
    path = tmp_path / "a.mat"
    with pytest.raises(FileNotFoundError, match=r"a\.mat: no such file; get it again"):
        matlab.read_variable(path, "n", remedy="get it again")
    savemat(path, {"n": np.arange(99)}, do_compression=True)
    whole = path.read_bytes()
    version_7_3 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512)
    scratched = whole[:150] + b"\xff\xff" + whole[152:]
    pages = b"<html>not here</html>" * 20
    for data in (b"", pages, whole[:60], whole[:-2], scratched, version_7_3):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"a\.mat: damaged, or no `n`: .*; get it again"):
            matlab.read_variable(path, "n", remedy="get it again")
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"a\.mat: damaged, or no `m`: 'm'; get it again"):
        matlab.read_variable(path, "m", remedy="get it again")
