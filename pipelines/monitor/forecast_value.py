"""What a forecast is worth to the policy: the same small panel run with one model's forecasts and with another's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl

from lake.errors import NotEnoughData
from lake.store import Lake
from models.registry.promotion import Figure
from pipelines.vault_settings import VaultSettings
from pipelines.wiring import PanelChoice, compare_config
from policy.base import Vector
from policy.comparison import compare as panel
from policy.comparison.bootstrap import counts, ratio
from policy.names import traits
from policy.simulation.panel import Cell

PORTFOLIOS = 24
"""Baskets of the small panel, all under the project's own mandate and NAV: what counts is what its users will pay."""

_PARTS = ["gas_bp", "fee_bp", "impact_bp"]


@dataclass(frozen=True, slots=True)
class Overlay(Lake):
    """A lake whose table ``forecasts`` holds ``rows`` instead; everything else is read through."""

    rows: pl.DataFrame | None = None

    def scan(self, name: str, as_of: datetime | None = None, version: int | None = None) -> pl.LazyFrame:
        """Return table ``name``; see ``Lake.scan``."""
        if name != "forecasts" or self.rows is None:
            return Lake.scan(self, name, as_of, version)
        frame = self.rows.lazy().with_columns(pl.col("issued_at").alias("available_at"))
        return frame if as_of is None else frame.filter(pl.col("available_at") <= as_of)


def cost_ratio(
    deployment: VaultSettings, lake: Lake, span: tuple[datetime, datetime], mine: pl.DataFrame, reference: pl.DataFrame
) -> Figure | None:
    """Return policy cost with ``mine`` over that with ``reference``, paired by portfolio and week, 95 % interval.

    Only hours both have forecast count. None where the configured policy reads no target among the rows, or where the
    range is too short for the panel.
    """
    reads = set(traits(deployment.policy.kind).reads)  # forecasts of other targets cannot change what it costs
    if not reads & set(mine["target"].unique().to_list()):
        return None
    common = mine.select("issued_at").unique().join(reference.select("issued_at").unique(), on="issued_at")
    if common.is_empty():
        return None
    first, last = common["issued_at"].min(), common["issued_at"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    inside = (max(span[0], first), min(span[1], last))
    try:
        a, b = (_weekly_cost(deployment, lake, inside, rows) for rows in (mine, reference))
    except NotEnoughData:
        return None
    found = ratio(a, b, counts(len(a), deployment.compare.bootstrap, deployment.compare.seed))
    return Figure(found.value, found.low, found.high, len(a))


def _weekly_cost(deployment: VaultSettings, lake: Lake, span: tuple[datetime, datetime], rows: pl.DataFrame) -> Vector:
    """Return (W,) cost of the policy by week, bp of NAV summed over the panel; tracking counts where it is soft."""
    config = compare_config(deployment, span, PanelChoice(PORTFOLIOS, [deployment.policy.kind]))
    own = deployment.portfolio
    tolerances = tuple(sorted(set(own.caps.values())))
    cell = Cell(own.scenario, own.scenario, own.nav_usd, deployment.chain.id, (own.gamma,), tolerances)
    found = panel.run(Overlay(lake.root, lake.options, rows), replace(config, cells=(cell,)))
    parts = [*_PARTS, "tracking_bp"] if own.scenario == "soft" else _PARTS
    weekly = (
        found.weekly.with_columns(total=pl.sum_horizontal(parts))
        .group_by("week")
        .agg(pl.col("total").sum())
        .sort("week")
    )
    return np.asarray(weekly["total"].to_numpy(), dtype=np.float64)
