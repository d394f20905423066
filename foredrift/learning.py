"""The built-in market, features and the walk-forward, for a notebook: a lake goes in, frames come out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from features.panel import feature_columns
from lake.errors import ConfigError
from lake.sources.sample import HOURS, simulate
from lake.store import Lake
from models.base import Family
from models.config import ModelConfig
from models.families import families
from models.training.walkforward import TrainResult
from models.training.walkforward import train as walk_forward


def sample(lake: Lake, hours: int = HOURS, seed: int = 7) -> Lake:
    """Write ``hours`` hours of the built-in market from 2024-01-01 into ``lake``, and return it.

    The same ``hours`` and ``seed`` give the same rows. Raises ConfigError where ``hours`` is less than 1.
    """
    for name, rows in simulate(hours=hours, seed=seed).items():
        lake.write(name, rows)
    return lake


def features(lake: Lake, config: ModelConfig, start: datetime, end: datetime, family: str = "gas") -> pl.DataFrame:
    """Return what the models of ``family`` are told at each hour start <= ts < end: key, ts, one column a feature.

    Every value was known at its ``ts``; outcomes and what only the baselines read are left out. Raises ConfigError for
    an unknown family.
    """
    panel = _family(family).build(lake, config, start, end)
    return panel.select("key", "ts", *feature_columns(panel))


def train(
    lake: Lake, config: ModelConfig, start: datetime, end: datetime, names: Sequence[str] = ("gas",)
) -> TrainResult:
    """Walk the families called ``names`` forward over start <= ts < end; return scores, folds and importances.

    Each fold learns from what was known before it. What it would have issued is written into table ``forecasts``, which
    ``compare`` reads. Raises ConfigError for an unknown family, NotEnoughData without enough history before ``end``.
    """
    return walk_forward(lake, config, [_family(name) for name in names], start, end, live=False)


def _family(name: str) -> Family:
    known = families()
    if name not in known:
        raise ConfigError(f"there is no forecaster family {name!r}; there are {', '.join(known)}")
    return known[name].make()
