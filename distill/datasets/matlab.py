"""Variables of MATLAB's files before version 7.3, which is HDF5."""

import zlib
from pathlib import Path
from typing import Any

from scipy.io.matlab import MatReadError, loadmat

# what scipy raises on damaged files, and on those of version 7.3
_DAMAGE = (
    *(OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError),
    *(MatReadError, zlib.error),
)


def read_variable(path: Path, name: str, *, remedy: str) -> Any:
    """One variable of a file, a struct as a dict.

    Args:
        path: of the file.
        name: of the variable.
        remedy: where to get the file, for the errors.

    Raises:
        ValueError: the file is damaged or another one, or has no such variable.
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {remedy}")
    try:
        return loadmat(path, variable_names=[name], simplify_cells=True)[name]
    except _DAMAGE as error:
        raise ValueError(f"{path}: damaged, or no `{name}`: {error}; {remedy}") from error
