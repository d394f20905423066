"""How the forecasts issued lately have done: calibration kept, value kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from lake.errors import NotEnoughData
from lake.store import Lake
from models.base import Family, TargetSpec
from models.config import ModelConfig
from models.evaluation.labels import hide_unknown
from models.evaluation.scores import losses
from models.registry.promotion import best_baseline, skill_over
from models.serving.trust import RECENT_DAYS, Series, lost_calibration
from pipelines.monitor.model_status import Coverage
from pipelines.wiring import families_of

PAST_DAYS = 60
"""Days before the judged ones that baselines are fitted on."""

LEAST_HOURS = 14 * 24
"""Hours of logged forecasts before value is judged: two weeks."""


@dataclass(frozen=True, slots=True)
class Health:
    """What one family's logged forecasts of the last RECENT_DAYS showed; ``lost`` and ``value`` say what is wrong."""

    lost: dict[Series, str] = field(default_factory=dict)
    value: str = ""
    coverage: Coverage = field(default_factory=dict)


def health(lake: Lake, cfg: ModelConfig, family: Family, at: datetime) -> Health:
    """Return whether the family's logged forecasts kept calibration and value, by what was known at ``at``."""
    since = at - timedelta(days=RECENT_DAYS)
    names = [s.name for s in family.targets]
    rows = (
        lake.scan("forecasts", as_of=at)
        .filter(pl.col("target").is_in(names) & (pl.col("issued_at") >= since) & (pl.col("issued_at") <= at))
        .collect()
    )
    if rows.is_empty() or not family.keys(lake, cfg):
        return Health()
    panel = hide_unknown(family.build(lake, cfg, since - timedelta(days=PAST_DAYS), at), at)
    recent = panel.filter(pl.col("ts") >= since)
    outcomes = family.outcomes(recent, cfg)
    lost = lost_calibration(rows, outcomes, family.targets)
    held = coverage(rows, outcomes, family.targets)
    if rows["issued_at"].n_unique() < LEAST_HOURS:
        return Health(lost, coverage=held)
    past = hide_unknown(panel.filter(pl.col("ts") < since), since)
    try:
        baselines = {n: b.fit(past).predict(recent) for n, b in family.baselines(cfg).items()}
    except NotEnoughData:
        return Health(lost, coverage=held)
    name = best_baseline(baselines, outcomes, family.targets)
    if name is None:
        return Health(lost, coverage=held)
    spoken = rows.filter(pl.col("q50").is_not_null()).with_columns(abstain=pl.lit(value=False))
    skill = skill_over(spoken, baselines[name], outcomes, family.targets)
    worse = f"lost its value: {100 * skill.value:+.1f} % against {name} over {skill.weeks} weeks"
    return Health(lost, worse if skill.high < 0 else "", held)


def coverage(rows: pl.DataFrame, outcomes: pl.DataFrame, specs: tuple[TargetSpec, ...]) -> Coverage:
    """Return by target and horizon the share of ``outcomes`` in the 90 % intervals of ``rows``, and how many."""
    spoken = rows.filter(pl.col("q50").is_not_null()).with_columns(abstain=pl.lit(value=False))
    judged = losses(spoken, outcomes, tuple(s for s in specs if s.score == "pinball"))
    if judged.is_empty():
        return {}
    table = judged.group_by("target", "horizon_s").agg(pl.col("inside").mean(), pl.len())
    return {(target, horizon_s): (inside, n) for target, horizon_s, inside, n in table.iter_rows()}


def losses_of(lake: Lake, cfg: ModelConfig, at: datetime) -> list[str]:
    """Return a sentence per family that lost calibration or value lately."""
    reasons = []
    for name, family in families_of().items():
        found = health(lake, cfg, family, at)
        if found.lost:
            worst = "; ".join(f"{t} {k} {h // 3600} h {why}" for (t, k, h), why in sorted(found.lost.items())[:3])
            reasons.append(f"{name}: {len(found.lost)} series lost calibration, such as {worst}")
        if found.value:
            reasons.append(f"{name}: {found.value}")
    return reasons
