"""Walk-forward folds: train on what was known, leave an embargo, predict the next stretch, move on.

Fold bounds lie on a fixed grid (multiples of ``refit_every_days`` since 1970), so the forecast of a given hour
comes from the same training data whatever range was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from lake.units import DAY_S
from models.config import ModelConfig
from models.evaluation.labels import hide_unknown


@dataclass(frozen=True, slots=True)
class Fold:
    """Predict decision times ``start <= ts < end`` with a model that saw only labels complete by ``known_at``.

    ``train_start`` is None for an expanding window.
    """

    start: datetime
    end: datetime
    known_at: datetime
    train_start: datetime | None

    @property
    def name(self) -> str:
        """A file-name-safe label of the fold."""
        return f"{self.start:%Y%m%dT%H}-{self.end:%Y%m%dT%H}"


def folds(cfg: ModelConfig, start: datetime, end: datetime, first: datetime) -> list[Fold]:
    """Return the folds that cover start <= ts < end, and the ``warmup_days`` before ``start`` that warm calibration.

    ``first`` is the first decision time with data. Folds with less than ``min_train_days`` of history are left out,
    so fewer hours than asked may be covered when history is short. All times UTC.
    """
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    step = timedelta(seconds=cfg.refit_s)
    found: list[Fold] = []
    at = epoch + (start - timedelta(days=cfg.warmup_days) - epoch) // step * step
    while at < end:
        known_at = at - timedelta(hours=cfg.embargo_h)
        if (known_at - first).total_seconds() >= cfg.min_train_days * DAY_S:
            window = None if cfg.train_window_days is None else known_at - timedelta(days=cfg.train_window_days)
            found.append(Fold(at, min(at + step, end), known_at, window))
        at += step
    return found


def training_rows(panel: pl.DataFrame, fold: Fold) -> pl.DataFrame:
    """Return the rows ``fold`` may learn from: ts < known_at, labels that complete later hidden (purged)."""
    rows = panel.filter(pl.col("ts") < fold.known_at)
    if fold.train_start is not None:
        rows = rows.filter(pl.col("ts") >= fold.train_start)
    return hide_unknown(rows, fold.known_at)


def prediction_rows(panel: pl.DataFrame, fold: Fold) -> pl.DataFrame:
    """Return the rows ``fold`` predicts: start <= ts < end."""
    return panel.filter(pl.col("ts").is_between(fold.start, fold.end, closed="left"))
