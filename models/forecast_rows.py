"""Forecast rows as arrays, made a frame once: a live decision has milliseconds, and a frame an operation costs some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt
import polars as pl

from features.panel import Strings, moments
from models.forecast_schema import QUANTILE_COLUMNS

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ForecastArrays:
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
    def of(cls, frame: pl.DataFrame) -> ForecastArrays:
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
    ) -> ForecastArrays:
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

    def where(self, keep: npt.NDArray[np.bool_]) -> ForecastArrays:
        """Return the rows where ``keep`` (n,) is true."""
        return self if keep.all() else ForecastArrays(*(getattr(self, name)[keep] for name in _NAMES))

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


def joined(parts: Sequence[ForecastArrays]) -> ForecastArrays:
    """Return the rows of all ``parts``, one after another."""
    if not parts:
        return ForecastArrays.silent([], 0, "", [])
    return ForecastArrays(*(np.concatenate([getattr(part, name) for part in parts]) for name in _NAMES))


_NAMES = tuple(f.name for f in fields(ForecastArrays))


def _objects(values: Sequence[str | None]) -> Strings:
    return np.array(values, dtype=object)


@dataclass(slots=True)
class RowBuffer:
    """Collects forecasts of several targets and horizons; ``forecasts`` returns them."""

    version: str
    _keys: list[Strings] = field(default_factory=list)
    _times: list[Ints] = field(default_factory=list)
    _targets: list[tuple[str, int, bool, int]] = field(default_factory=list)  # target, horizon_s, mean only, rows
    _quantiles: list[Array] = field(default_factory=list)
    _means: list[Array] = field(default_factory=list)

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

        ``times`` are microseconds since 1970.
        """
        blank = np.full((len(mean), len(QUANTILE_COLUMNS)), np.nan) if quantiles is None else quantiles
        self._keys.append(keys)
        self._times.append(times)
        self._targets.append((target, horizon_s, quantiles is None, len(mean)))
        self._quantiles.append(blank)
        self._means.append(mean)

    def forecasts(self) -> ForecastArrays:
        """Return the rows whose mean (and quantiles, where there are any) are known; no row crosses its quantiles."""
        if not self._keys:
            return joined([])
        targets, horizons, bare, counts = zip(*self._targets, strict=True)
        q, mean = np.sort(np.concatenate(self._quantiles), axis=1), np.concatenate(self._means)
        known = np.isfinite(mean) & (np.isfinite(q).all(axis=1) | np.repeat(bare, counts))
        rows = ForecastArrays(
            np.repeat(_objects(targets), counts), np.concatenate(self._keys), np.concatenate(self._times),
            np.repeat(np.array(horizons, dtype=np.int64), counts), q, mean,
            np.full(len(mean), self.version, dtype=object), np.full(len(mean), None, dtype=object),
        )  # fmt: skip
        return rows.where(known)
