"""When a forecast should not be trusted: expired model, stale feed, inputs out of distribution, lost calibration.

A row that is not trusted keeps its numbers, so that it can still be judged later, but abstains with the reason; the
policy then uses its fallback. What a model cannot compute at all is handled in ``models.serving.live``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from scipy.special import bdtr, bdtrc

from features.panel import Columns
from features.records import Holds, microseconds, moment
from lake.units import HOUR_S
from models.arrays import Panel
from models.base import LakeView, TargetSpec
from models.evaluation.scores import losses
from models.families import families
from models.forecast_rows import ForecastArrays
from models.serving.live import LiveModel
from models.serving.novelty import Inputs

Series = tuple[str, str, int]
"""(target, key, horizon_s)."""

RECENT_DAYS = 28
"""Outcomes that tell whether calibration holds: four weeks show each hour of the week four times."""

COVERAGE = 0.90
HARMLESS = (0.85, 0.96)
"""Coverage that is no reason to fall back, whatever chance says: hours are not independent, such intervals serve."""

TAIL = 0.0005
"""Chance that luck alone takes a calibrated series out of its band; some sixty series are watched."""

_INDEPENDENT = 20  # outcomes without overlap before coverage is judged


def tolerance(horizon_s: int) -> timedelta:
    """Return how old the newest row may be: one missing interval, or a quarter of the horizon where that is more."""
    return timedelta(seconds=max(HOUR_S, horizon_s // 4))


@dataclass(frozen=True, slots=True)
class Trust:
    """Judges rows as they are issued; use it as the ``review`` of ``models.serving.live.issue``.

    ``inputs`` are the training inputs by family, ``lost`` the series whose recent coverage left its band.
    """

    lake: LakeView
    expiry: timedelta
    inputs: Mapping[str, Mapping[str, Inputs]] = field(default_factory=dict)
    lost: Mapping[Series, str] = field(default_factory=dict)

    def __call__(self, model: LiveModel, panel: Panel, rows: ForecastArrays, at: datetime) -> ForecastArrays:
        """Return ``rows`` with those that should not be trusted abstaining, the gravest reason first."""
        if not rows.height:
            return rows
        age = at - model.trained_at
        if age > self.expiry:
            expired = f"model {model.version} expired: {age.days} d old, {self.expiry.days} d allowed"
            return abstaining(rows, [expired] * rows.height)
        inputs = Columns.of(panel)
        keys = set(inputs.key.tolist())
        novel = self._novel(model.family.name, inputs)
        newest = feed_times(self.lake, model.family.name, at)
        if all(at - known <= tolerance(0) for known in newest.values()):
            newest = {}  # the least that any horizon allows: no row is stale
        reasons: list[str | None] = []
        for target, key, horizon_s in rows.series:
            source = key if key in keys else key.split("|")[0]
            old = stale(newest, source, horizon_s, at) if newest else None
            reasons.append(old or novel.get(source) or self.lost.get((target, key, horizon_s)))
        return abstaining(rows, reasons)

    def _novel(self, family: str, panel: Columns) -> dict[str, str]:
        found: dict[str, str] = {}
        pair = panel.pairs()
        for kind, inputs in self.inputs.get(family, {}).items():
            part = panel.filter(pair if kind == "pair" else ~pair)
            if not part.height:
                continue
            judged = zip(part.key.tolist(), inputs.reasons(part), strict=True)
            found |= {key: reason for key, reason in judged if reason is not None}
        return found


def abstaining(rows: ForecastArrays, reasons: list[str | None]) -> ForecastArrays:
    """Return ``rows`` with ``reasons``, one a row; the reason that a row has already stands."""
    both = [own or given for own, given in zip(rows.reason.tolist(), reasons, strict=True)]
    return replace(rows, reason=np.array(both, dtype=object))


def feed_times(lake: LakeView, family: str, at: datetime) -> dict[str, datetime]:
    """Return when the newest row of each key of the family's feed became available, as known at ``at``."""
    row = families().get(family)
    if row is None:
        return {}
    table, column = row.feed
    held = lake.held(table) if isinstance(lake, Holds) else None
    if held is None:
        newest = lake.scan(table, as_of=at).group_by(pl.col(column).cast(pl.String)).agg(pl.col("available_at").max())
        return dict(newest.collect().iter_rows())
    known = held.where(held["available_at"] <= microseconds(at), ("available_at", column))
    texts, place = held.texts.get(column), known[column]
    if texts is None:  # a number, such as a chain id
        numbers, place = np.unique(place, return_inverse=True)
        texts = tuple(f"{n:.0f}" for n in numbers.tolist())
    last = np.full(len(texts), -1, dtype=np.int64)
    np.maximum.at(last, place, known["available_at"])
    return {text: moment(m) for text, m in zip(texts, last.tolist(), strict=True) if m >= 0}


def stale(newest: Mapping[str, datetime], source: str, horizon_s: int, at: datetime) -> str | None:
    """Return why the feed behind ``source`` (a key, or a pair "A|B") is too old for the horizon, None if it is not."""
    allowed = tolerance(horizon_s)
    known = [(newest[part], part) for part in source.split("|") if part in newest]
    if not known:
        return None
    oldest, part = min(known)
    age = at - oldest
    return f"stale feed: newest row of {part} is {age} old, {allowed} allowed" if age > allowed else None


def lost_calibration(
    rows: pl.DataFrame, outcomes: pl.DataFrame, specs: tuple[TargetSpec, ...], step_s: int = HOUR_S
) -> dict[Series, str]:
    """Return the series whose 90 % intervals held too few or too many ``outcomes`` to be luck, with the reason.

    ``rows`` are those issued recently, abstaining ones with numbers included. Overlapping outcomes count as
    ``n step / horizon`` independent ones; the band is the binomial one that luck leaves with chance 2 TAIL, widened to
    HARMLESS.
    """
    spoken = rows.filter(pl.col("q50").is_not_null()).with_columns(abstain=pl.lit(value=False))
    judged = losses(spoken, outcomes, tuple(s for s in specs if s.score == "pinball"))
    if judged.is_empty():
        return {}
    table = judged.group_by("target", "key", "horizon_s").agg(pl.col("inside").mean(), pl.len().alias("n"))
    found: dict[Series, str] = {}
    for target, key, horizon_s, inside, n in table.iter_rows():
        independent = int(n / max(horizon_s / step_s, 1.0))
        hits = round(inside * independent)
        if independent < _INDEPENDENT or HARMLESS[0] <= inside <= HARMLESS[1]:
            continue
        low, high = bdtr(hits, independent, COVERAGE), bdtrc(hits - 1, independent, COVERAGE) if hits > 0 else 1.0
        if min(low, high) < TAIL:
            found[target, key, horizon_s] = (
                f"lost calibration: {100 * inside:.0f} % of {n} recent outcomes within the 90 % interval"
            )
    return found
