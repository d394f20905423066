"""Forecast rows as arrays, made a frame once: a live decision has milliseconds, and a frame an operation costs some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from features.panel import Strings, moments
from models.base import QUANTILE_COLUMNS

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Rows of table forecasts: ``issued_at`` (n,) in microseconds since 1970, ``quantiles`` (n, 5), the others (n,).

    NaN stands for what is unknown. A row with a ``reason`` (None: none) abstains.
    """

    target: Strings
    key: Strings
    issued_at: Ints
    horizon_s: Ints
    quantiles: Array
    mean: Array
    version: Strings
    reason: Strings

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Forecasts:
        """Return the rows of a frame with FORECAST_COLUMNS."""
        named = ("target", "key", "model_version", "reason")
        target, key, version, reason = (_objects(frame[c].to_list()) for c in named)
        quantiles = np.column_stack([frame[c].cast(pl.Float64).fill_null(np.nan).to_numpy() for c in QUANTILE_COLUMNS])
        mean = frame["mean"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        return cls(
            target, key, frame["issued_at"].dt.epoch("us").to_numpy(), frame["horizon_s"].to_numpy(), quantiles, mean,
            version, reason,
        )  # fmt: skip

    @classmethod
    def silent(
        cls, series: Sequence[tuple[str, str, int]], issued_at: int, version: str, reasons: list[str]
    ) -> Forecasts:
        """Return a row without numbers for every (target, key, horizon_s) of ``series``, with its reason."""
        n = len(series)
        return cls(
            _objects([t for t, _, _ in series]), _objects([k for _, k, _ in series]),
            np.full(n, issued_at, dtype=np.int64), np.array([h for _, _, h in series], dtype=np.int64),
            np.full((n, len(QUANTILE_COLUMNS)), np.nan), np.full(n, np.nan), _objects([version] * n), _objects(reasons),
        )  # fmt: skip

    @property
    def height(self) -> int:
        """Return the number of rows."""
        return len(self.mean)

    @property
    def series(self) -> list[tuple[str, str, int]]:
        """Return (target, key, horizon_s) of every row."""
        return list(zip(self.target.tolist(), self.key.tolist(), self.horizon_s.tolist(), strict=True))

    def frame(self) -> pl.DataFrame:
        """Return the rows as a frame with FORECAST_COLUMNS, NaN as null."""
        q = self.quantiles
        return pl.DataFrame(
            [
                pl.Series("target", self.target.tolist(), pl.String),
                pl.Series("key", self.key.tolist(), pl.String),
                moments("issued_at", self.issued_at),
                pl.Series("horizon_s", self.horizon_s, pl.Int64),
                *(pl.Series(c, q[:, k], pl.Float64, nan_to_null=True) for k, c in enumerate(QUANTILE_COLUMNS)),
                pl.Series("mean", self.mean, pl.Float64, nan_to_null=True),
                pl.Series("model_version", self.version.tolist(), pl.String),
                pl.Series("abstain", [r is not None for r in self.reason.tolist()], pl.Boolean),
                pl.Series("reason", self.reason.tolist(), pl.String),
            ]
        )


def joined(parts: Sequence[Forecasts]) -> Forecasts:
    """Return the rows of all ``parts``, one after another."""
    if not parts:
        return Forecasts.silent([], 0, "", [])
    names = ("target", "key", "issued_at", "horizon_s", "quantiles", "mean", "version", "reason")
    return Forecasts(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _objects(values: Sequence[str | None]) -> Strings:
    return np.array(values, dtype=object)


@dataclass(slots=True)
class RowBuffer:
    """Collects forecasts of several targets and horizons; ``forecasts`` returns them."""

    version: str
    _parts: list[Forecasts] = field(default_factory=list)

    def add(
        self,
        keys: Strings,
        times: Ints,
        target: str,
        horizon_s: int,
        mean: Array,
        quantiles: Array | None = None,
    ) -> None:
        """Add forecasts ``mean`` (n,) and ``quantiles`` (n, 5; None: mean only) of ``keys`` at ``times`` (n,).

        ``times`` are microseconds since 1970. No row crosses its quantiles; those without a mean or without the
        quantiles that the others have are left out.
        """
        q = np.full((len(mean), len(QUANTILE_COLUMNS)), np.nan) if quantiles is None else np.sort(quantiles, axis=1)
        known = np.isfinite(mean) if quantiles is None else np.isfinite(mean) & np.isfinite(q).all(axis=1)
        n = int(known.sum())
        if n < len(mean):
            keys, times, q, mean = keys[known], times[known], q[known], mean[known]
        targets, versions, reasons = (np.full(n, text, dtype=object) for text in (target, self.version, None))
        self._parts.append(
            Forecasts(targets, keys, times, np.full(n, horizon_s, dtype=np.int64), q, mean, versions, reasons)
        )

    def forecasts(self) -> Forecasts:
        """Return what was added, in that order."""
        return joined(self._parts)
