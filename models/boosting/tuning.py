"""Optional tuning inside one walk-forward fold: Optuna over the boosters' shape, on that fold's own past only.

The latest part of the fold's training rows is held out, parameters are searched on the rest within a time box, and the
model is then fitted on everything with what won. Nothing outside the fold is ever looked at, so scores stay honest.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.boosting.gbm import fit_quantiles, predict
from models.boosting.scale_model import fit_scale
from models.evaluation.scores import pinball

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

HELD_OUT = 0.25
"""Latest share of the rows that parameters are judged on: recent enough to matter, long enough to mean something."""

LEAST_ROWS = 400
"""Rows without which the defaults stay: a search on less finds noise."""

_TRIALS = 40  # at most; the time box usually ends the search sooner
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Search:
    """How one search is run: ``name`` in the log, a time box, a seed, and the hours that outcomes reach ahead.

    ``gap_h`` is the longest horizon of the rows and the embargo: that many hours before the held-out rows are left out,
    for their outcomes overlap.
    """

    name: str
    seconds: float
    seed: int
    gap_h: int

    def split(self, known: npt.NDArray[np.bool_], hour: Ints) -> tuple[Ints, Ints] | None:
        """Return the rows to learn from and those to judge by, None where there are too few.

        ``known`` (n,) marks rows with an outcome, ``hour`` (n,) is each one's decision time in hours.
        """
        rows = np.flatnonzero(known)
        if len(rows) < LEAST_ROWS:
            return None
        cut = np.quantile(hour[rows], 1.0 - HELD_OUT)
        past, ahead = rows[hour[rows] < cut - self.gap_h], rows[hour[rows] >= cut]
        return (past, ahead) if len(past) >= LEAST_ROWS // 2 else None

    def best(self, loss: Callable[[Mapping[str, Any]], float], leaf_rows: tuple[int, int]) -> dict[str, Any]:
        """Return the parameters of least ``loss``; empty where the defaults (no parameters) win or come even.

        ``leaf_rows`` bounds the rows a leaf must hold.
        """
        import optuna  # optional: only a project that tunes pays for it

        def objective(trial: Any) -> float:
            return loss(
                {
                    "num_leaves": trial.suggest_int("num_leaves", 4, 31),
                    "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", *leaf_rows, log=True),
                    "feature_fraction": trial.suggest_float("feature_fraction", 0.2, 1.0),
                    "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 50.0, log=True),
                    "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.2, log=True),
                }
            )

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=self.seed))
        study.optimize(objective, n_trials=_TRIALS, timeout=self.seconds)
        default = loss({})
        best = min((t.value for t in study.trials if t.value is not None), default=math.inf)  # a box may end before any
        found = dict(study.best_params) if best < default else {}
        _log.info(
            "tuned %s: loss %.6g with defaults, %.6g at best of %d trials; kept %s",
            self.name, default, best, len(study.trials), found or "the defaults",
        )  # fmt: skip
        return found


def tune_quantiles(
    x: Array,
    y: Array,
    hour: Ints,
    levels: Sequence[float],
    rounds: int,
    search: Search,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return LightGBM parameters that had the least pinball loss on the latest rows; empty where ``defaults`` win.

    ``x`` (n, k) and ``y`` (n,) are one fold's training rows, NaN in ``y`` unknown, ``hour`` (n,) their decision times
    in hours. ``defaults`` are the family's own parameters, from which the search departs.
    """
    parts = search.split(np.isfinite(y), hour)
    if parts is None:
        return {}
    past, ahead = parts

    def loss(params: Mapping[str, Any]) -> float:
        merged = {**(defaults or {}), **params}
        boosters = fit_quantiles(x[past], y[past], levels, rounds, search.seed, params=merged)
        return float(pinball(y[ahead], np.sort(predict(boosters, x[ahead]), axis=1), tuple(levels)).mean())

    return search.best(loss, (20, 200))


def tune_scale(
    features: Sequence[str], x: Array, size: Array, log_base: Array, hour: Ints, rounds: int, search: Search
) -> dict[str, Any]:
    """Return LightGBM parameters whose scale had the least gamma deviance on the latest rows; empty: the defaults.

    Arguments as in ``boosting.scale_model.fit_scale``; the scale judged is the whole one, its linear half included.
    """
    parts = search.split(np.isfinite(size) & np.isfinite(log_base), hour)
    if parts is None:
        return {}
    past, ahead = parts
    actual = np.log(np.maximum(size[ahead], 1e-9))

    def loss(params: Mapping[str, Any]) -> float:
        model = fit_scale(features, x[past], size[past], log_base[past], rounds, search.seed, params)
        gap = actual - model.log_scale(x[ahead], log_base[ahead])
        return float((np.exp(gap) - gap - 1.0).mean())

    return search.best(loss, (60, 1_000))
