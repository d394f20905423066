"""Optional tuning inside one walk-forward fold: Optuna over the boosters' shape, on that fold's own past only.

The latest part of the fold's training rows is held out, parameters are searched on the rest within a time box, and the
model is then fitted on everything with what won. Nothing outside the fold is ever looked at, so scores stay honest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.gbm import fit_quantiles, predict
from models.scores import pinball

Array = npt.NDArray[np.float64]

HELD_OUT = 0.25
"""Latest share of the rows that parameters are judged on: recent enough to matter, long enough to mean something."""

LEAST_ROWS = 400
"""Rows without which the defaults stay: a search on less finds noise."""

_TRIALS = 40  # at most; the time box usually ends the search sooner


def tune(
    x: Array,
    y: Array,
    hour: npt.NDArray[np.int64],
    levels: Sequence[float],
    rounds: int,
    seed: int,
    seconds: float,
    gap_h: int = 48,
) -> dict[str, Any]:
    """Return LightGBM parameters that had the least pinball loss on the latest rows; empty where defaults win.

    ``x`` (n, k) and ``y`` (n,) are one fold's training rows, NaN in ``y`` unknown, ``hour`` (n,) their decision times
    in hours; rows of the ``gap_h`` hours before the held-out ones are left out, for their outcomes overlap. The search
    ends after ``seconds``. The defaults take part: tuning is never worse than them on the held-out rows.
    """
    known = np.flatnonzero(np.isfinite(y))
    if len(known) < LEAST_ROWS:
        return {}
    import optuna  # optional: only a project that tunes pays for it

    cut = np.quantile(hour[known], 1.0 - HELD_OUT)
    past, ahead = known[hour[known] < cut - gap_h], known[hour[known] >= cut]
    if len(past) < LEAST_ROWS // 2:
        return {}

    def loss(params: Mapping[str, Any]) -> float:
        boosters = fit_quantiles(x[past], y[past], levels, rounds, seed, params=params)
        return float(pinball(y[ahead], np.sort(predict(boosters, x[ahead]), axis=1), tuple(levels)).mean())

    def objective(trial: Any) -> float:
        return loss(
            {
                "num_leaves": trial.suggest_int("num_leaves", 4, 31),
                "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 20, 200, log=True),
                "feature_fraction": trial.suggest_float("feature_fraction", 0.2, 1.0),
                "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 50.0, log=True),
                "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.2, log=True),
            }
        )

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=_TRIALS, timeout=seconds)
    return dict(study.best_params) if study.best_value < loss({}) else {}
