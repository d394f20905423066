"""A panel's columns as arrays, each taken out of the frame once: a decision has milliseconds, not one a look-up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from lake.errors import ModelError

Array = npt.NDArray[np.float64]


class Numbers:
    """The numeric columns of ``panel`` as float64 arrays, unknown as NaN."""

    __slots__ = ("_held", "panel")

    def __init__(self, panel: pl.DataFrame) -> None:
        self.panel = panel
        self._held: dict[str, Array] = {}

    def column(self, name: str) -> Array:
        """Return one column (n,); raises ModelError when the panel has none of that name."""
        found = self._held.get(name)
        if found is None:
            found = self._held[name] = self.matrix([name])[:, 0]
        return found

    def matrix(self, names: Sequence[str]) -> Array:
        """Return the columns (n, k); raises ModelError naming every missing one."""
        columns = set(self.panel.columns)
        missing = [n for n in names if n not in columns and n not in self._held]
        if missing:
            raise ModelError(f"the panel lacks features the model was trained on: {missing}")
        for name in names:
            if name not in self._held:
                series = self.panel.get_column(name)
                if series.dtype != pl.Float64:
                    series = series.cast(pl.Float64)
                self._held[name] = np.asarray(series.to_numpy(), dtype=np.float64)
        return np.stack([self._held[n] for n in names], axis=1)


Panel = pl.DataFrame | Numbers
"""What models read features from."""


def numbers(panel: Panel) -> Numbers:
    """Return ``panel`` with its columns as arrays."""
    return panel if isinstance(panel, Numbers) else Numbers(panel)


def matrix(panel: Panel, features: Sequence[str]) -> Array:
    """Return the features as (n, k) float64, nulls as NaN; raises ModelError naming every missing column."""
    return numbers(panel).matrix(features)


def column(panel: Panel, name: str) -> Array:
    """Return one column (n,) as float64, null as NaN."""
    return numbers(panel).column(name)
