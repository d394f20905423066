"""Arrays out of a panel, whether it is a frame or already columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from features.panel import Columns

Array = npt.NDArray[np.float64]

Panel = pl.DataFrame | Columns
"""What models read features from."""


def matrix(panel: Panel, features: Sequence[str]) -> Array:
    """Return the features as (n, k) float64, nulls as NaN; raises ModelError naming every missing column."""
    return Columns.of(panel).matrix(features)


def column(panel: Panel, name: str) -> Array:
    """Return one column (n,) as float64, null as NaN."""
    return Columns.of(panel).column(name)
