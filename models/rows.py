"""Forecast rows gathered as arrays and made a frame once: a live decision has milliseconds, not one per row."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from models.base import QUANTILE_COLUMNS

Array = npt.NDArray[np.float64]


@dataclass(slots=True)
class RowBuffer:
    """Collects forecasts of several targets and horizons; ``frame`` returns them as rows of table forecasts."""

    version: str
    _keys: list[pl.Series] = field(default_factory=list)
    _times: list[pl.Series] = field(default_factory=list)
    _targets: list[tuple[str, int, int]] = field(default_factory=list)  # target, horizon_s, rows
    _quantiles: list[Array] = field(default_factory=list)
    _means: list[Array] = field(default_factory=list)

    def add(
        self,
        keys: pl.Series,
        times: pl.Series,
        target: str,
        horizon_s: int,
        mean: Array,
        quantiles: Array | None = None,
    ) -> None:
        """Add forecasts ``mean`` (n,) and ``quantiles`` (n, 5; None: mean only) of ``keys`` at ``times`` (n,)."""
        self._keys.append(keys)
        self._times.append(times)
        self._targets.append((target, horizon_s, len(mean)))
        self._means.append(mean)
        q = np.full((len(mean), len(QUANTILE_COLUMNS)), np.nan) if quantiles is None else np.sort(quantiles, axis=1)
        usable = np.isfinite(mean) & (np.isfinite(q).all(axis=1) | (quantiles is None))
        self._means[-1] = np.where(usable, mean, np.nan)
        self._quantiles.append(q)

    def frame(self) -> pl.DataFrame:
        """Return the rows whose mean (and quantiles, where there are any) are known; no row crosses its quantiles."""
        if not self._keys:
            return pl.DataFrame(schema=_SCHEMA)
        q, mean = np.concatenate(self._quantiles), np.concatenate(self._means)
        known = np.isfinite(mean)
        kept, count = pl.Series(known), int(known.sum())
        targets, horizons = (
            pl.concat([pl.Series(name, [part[k]], kind).new_from_index(0, part[2]) for part in self._targets])
            for k, name, kind in ((0, "target", pl.String), (1, "horizon_s", pl.Int64))
        )
        return pl.DataFrame(
            [
                targets.filter(kept),
                pl.concat([k.alias("key") for k in self._keys]).filter(kept),
                pl.concat([t.alias("issued_at") for t in self._times]).filter(kept),
                horizons.filter(kept),
                *(pl.Series(c, q[known, k], pl.Float64, nan_to_null=True) for k, c in enumerate(QUANTILE_COLUMNS)),
                pl.Series("mean", mean[known], pl.Float64),
                pl.Series("model_version", [self.version], pl.String).new_from_index(0, count),
                pl.Series("abstain", [False]).new_from_index(0, count),
                pl.Series("reason", [None], pl.String).new_from_index(0, count),
            ]
        )


_SCHEMA: dict[str, pl.DataType] = {
    "target": pl.String(),
    "key": pl.String(),
    "issued_at": pl.Datetime("us", "UTC"),
    "horizon_s": pl.Int64(),
    **dict.fromkeys((*QUANTILE_COLUMNS, "mean"), pl.Float64()),
    "model_version": pl.String(),
    "abstain": pl.Boolean(),
    "reason": pl.String(),
}
