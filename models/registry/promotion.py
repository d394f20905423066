"""Who may be champion: better on pinball, not worse on policy cost, calibrated; every verdict with its evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from models.base import TargetSpec
from models.evaluation.scores import losses, weekly_bootstrap

MIN_WEEKS = 4
"""Weeks both have forecast before they are compared: fewer blocks give an interval that means nothing."""

COVERAGE_BAND = (0.86, 0.94)
"""Where the share of outcomes within the 90 % interval must lie."""

COST_MARGIN = 0.01
"""By how much policy cost may at most be higher, at the upper end of its interval: 1 % is below what users notice."""

_ROW = ["target", "key", "horizon_s", "issued_at"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, its interval and the weeks behind it."""

    value: float
    low: float
    high: float
    weeks: int


Worth = Callable[[pl.DataFrame, pl.DataFrame], Figure | None]
"""Called with (challenger's rows, reference's rows): policy cost ratio challenger / reference, with its 95 % interval.

None where the policy does not read what the family forecasts.
"""


@dataclass(frozen=True, slots=True)
class Promotion:
    """A verdict on a challenger and what it rests on."""

    promote: bool
    reason: str
    reference: str
    skill: Figure
    coverage: Mapping[str, Figure]  # by target
    cost: Figure | None

    def plain(self) -> dict[str, Any]:
        """Return the decision JSON-able."""
        return asdict(self) | {"decision": "promoted" if self.promote else "kept as challenger"}


def skill_over(
    mine: pl.DataFrame, reference: pl.DataFrame, outcomes: pl.DataFrame, specs: tuple[TargetSpec, ...]
) -> Figure:
    """Return the fall in pinball against ``reference`` over the rows both have, with its 90 % weekly interval.

    Each (target, key, horizon) series counts equally: its losses are taken relative to the reference's mean loss.
    NaN without common rows.
    """
    scored = tuple(s for s in specs if s.score == "pinball")
    series = ["target", "key", "horizon_s"]
    paired = (
        losses(mine, outcomes, scored)
        .join(losses(reference, outcomes, scored).select(*_ROW, pl.col("loss").alias("base")), on=_ROW)
        .with_columns(unit=pl.col("base").mean().over(series), week=pl.col("issued_at").dt.epoch("d") // 7)
        .filter(pl.col("unit") > 0)
        .sort(_ROW)
    )
    weeks = paired["week"].n_unique()
    if paired.is_empty():
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    count = paired.select(pl.len().over(series)).to_series().to_numpy()
    unit = paired["unit"].to_numpy() * count
    a, b = paired["loss"].to_numpy() / unit, paired["base"].to_numpy() / unit
    low, high = weekly_bootstrap(a, b, paired["week"].to_numpy())
    return Figure(float(1.0 - a.sum() / b.sum()), low, high, weeks)


def best_baseline(
    baselines: Mapping[str, pl.DataFrame], outcomes: pl.DataFrame, specs: tuple[TargetSpec, ...]
) -> str | None:
    """Return the baseline with the least loss: each is measured against the first on the rows both have."""
    if not baselines:
        return None
    names = sorted(baselines)
    skills = {n: skill_over(baselines[n], baselines[names[0]], outcomes, specs).value for n in names}
    known = {n: s for n, s in skills.items() if np.isfinite(s)}
    return max(known, key=lambda n: known[n]) if known else None


def coverage(rows: pl.DataFrame, outcomes: pl.DataFrame, specs: tuple[TargetSpec, ...]) -> dict[str, Figure]:
    """Return by target the share of outcomes within the 90 % interval, keys and horizons pooled, with its interval."""
    judged = losses(rows, outcomes, tuple(s for s in specs if s.score == "pinball"))
    found = {}
    for (target,), part in judged.sort(_ROW).group_by(["target"], maintain_order=True):
        inside = part["inside"].to_numpy()
        week = (part["issued_at"].dt.epoch("d") // 7).to_numpy()
        low, high = weekly_bootstrap(1.0 - inside, np.ones(len(inside)), week)
        found[str(target)] = Figure(float(inside.mean()), low, high, len(np.unique(week)))
    return found


def judge(
    rows: pl.DataFrame,
    reference_rows: pl.DataFrame,
    outcomes: pl.DataFrame,
    specs: tuple[TargetSpec, ...],
    reference: str,
    worth: Worth,
) -> Promotion:
    """Return whether the challenger that issued ``rows`` replaces ``reference``.

    It must be better on pinball (its whole interval above zero), not worse on policy cost (the upper end of the ratio's
    interval at most 1 + COST_MARGIN) and cover within COVERAGE_BAND, as far as the coverage's interval can tell.
    Cost, the most expensive test, is run only where the others pass.
    """
    skill = skill_over(rows, reference_rows, outcomes, specs)
    covered = coverage(rows, outcomes, specs)
    faults = []
    if skill.weeks < MIN_WEEKS:
        faults.append(f"{skill.weeks} weeks of common forecasts, {MIN_WEEKS} are required")
    elif not skill.low > 0:
        faults.append(f"not better on pinball than {reference}: {_percent(skill)}")
    faults += [
        f"90 % intervals of {target} hold {100 * c.value:.1f} % ({100 * c.low:.1f} .. {100 * c.high:.1f} %), "
        f"{100 * COVERAGE_BAND[0]:.0f} to {100 * COVERAGE_BAND[1]:.0f} % are required"
        for target, c in covered.items()
        if c.high < COVERAGE_BAND[0] or c.low > COVERAGE_BAND[1]
    ]
    cost = None if faults else worth(rows, reference_rows)
    if cost is not None and not cost.high <= 1.0 + COST_MARGIN:
        faults.append(
            f"policy cost {cost.value:.4f} of that with {reference} ({cost.low:.4f} .. {cost.high:.4f}), "
            f"at most {1 + COST_MARGIN:.2f} is allowed"
        )
    if faults:
        return Promotion(False, "; ".join(faults), reference, skill, covered, cost)
    paid = "policy cost does not depend on it" if cost is None else f"policy cost ratio {cost.value:.4f}"
    return Promotion(True, f"better on pinball than {reference}: {_percent(skill)}; {paid}; calibrated", reference,
                    skill, covered, cost)  # fmt: skip


def _percent(figure: Figure) -> str:
    return f"{100 * figure.value:+.1f} % ({100 * figure.low:+.1f} .. {100 * figure.high:+.1f} %)"
