"""Tables as arrays, for ``as_frame=False``."""

from __future__ import annotations

import numpy as np
import pandas as pd


def interactions_to_array(interactions: pd.DataFrame) -> np.ndarray:
    """Interactions as float64; times as unix seconds, which float64 holds exactly."""
    return _with_unix_seconds(interactions).to_numpy(dtype=np.float64)


def table_to_array(table: pd.DataFrame | None) -> np.ndarray | None:
    """A table as objects; times as unix seconds, missing values as None."""
    if table is None:
        return None
    array = _with_unix_seconds(table).to_numpy(dtype=object)
    array[table.isna().to_numpy()] = None
    return array


def _with_unix_seconds(table: pd.DataFrame) -> pd.DataFrame:
    """Replace the columns of times, which are datetime64[s]."""
    times = table.select_dtypes("datetime").columns
    return table.astype(dict.fromkeys(times, "int64"))
