"""Conditions on a store's index in SQL: `confidence > 0.8 and image_width >= 1024`."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs] - pyarrow ships no types
from jaxtyping import Bool

from distill import atomic

_parquet: Any = pyarrow.parquet


def matching(table: Any, where: str) -> Bool[np.ndarray, " n"]:
    """Which rows of an Arrow table a condition holds for; one that is null does not hold.

    Args:
        table: of `LabelStore.index`; its columns are the names that the condition may use, and
            `width`, `height` those of the label, `image_width`, `image_height` those of the image.
        where: what stands behind WHERE in DuckDB's SQL. It sees nothing but the table: no file, no
            network, no setting.

    Raises:
        ImportError: DuckDB is not installed.
        ValueError: it is no such condition.
    """
    try:
        import duckdb
    except ImportError as error:
        raise ImportError(
            "conditions on labels need DuckDB: pip install 'distill[data]'"
        ) from error
    alone: Any = {"enable_external_access": "false", "lock_configuration": "true"}
    with duckdb.connect(config=alone) as database:
        try:
            rows = database.from_arrow(table)
            found = rows.project(f"coalesce(({where})::boolean, false) AS kept").fetchnumpy()
        except duckdb.Error as error:
            names = ", ".join(table.column_names)
            raise ValueError(
                f"{where!r} is no condition on labels: {error}; columns: {names}"
            ) from error
    kept = np.asarray(found["kept"], dtype=bool)
    if len(kept) != len(table):
        raise ValueError(f"{where!r} is no condition on each label: it gives {len(kept)} answers")
    return kept


def write(rows: Any, out: Path) -> None:
    """Rows of an index, as a Parquet file."""
    with atomic.replacing_file(out) as temporary:
        _parquet.write_table(rows, temporary)
