"""Who decides now, and on what: the configured policy with the forecasts in force, or its fallback with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from lake.errors import ForedriftError, NotEnoughData
from lake.store import Lake
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.basis import Basis, basis_of
from pipelines.vault_setup.paper import MarketPoint
from pipelines.wiring import PanelChoice, compare_config
from policy.base import Forecast, ForecastView, Matrix, Policy
from policy.costs import chain_fees
from policy.memory import PolicyMemory
from policy.names import traits
from policy.simulation.history import History, load
from policy.simulation.planner import Case, Portfolio, prepare
from policy.strategies.experts import kind_of
from policy.strategies.lessons import keep_lessons, recall_lessons
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.predictive import Predictive
from policy.strategies.registry import memory_at as memory_of
from policy.strategies.registry import planners, recall

FORECAST_LIFE = timedelta(hours=2)  # issued hourly: older ones belong to a decision that has passed
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Choice:
    """What decides, with everything it needs that is not on the chain. ``note`` says why a fallback decides."""

    policy: Policy
    forecasts: ForecastView
    market: MarketPoint
    covariance: Matrix  # (n, n) per hour, in the order of the portfolio's assets
    basis: Basis  # every series behind it, with its holes and doubts
    note: str = ""
    abstained: bool = False

    @property
    def data_at(self) -> datetime:
        """Time of the oldest series behind it that must be recent."""
        return self.basis.data_at


def decider(deployment: VaultSettings, lake: Lake, at: datetime) -> Choice:
    """Return the policy for a decision at ``at``, reading only what was available then."""
    assets = deployment.portfolio.assets
    history = history_at(deployment, lake, at)
    view = forecasts_at(lake, at)
    reason = _missing(deployment, view)
    name = deployment.policy.fallback if reason else deployment.policy.kind
    portfolio = portfolio_at(deployment, at)
    case = prepare(history, portfolio)
    try:
        memory = learnt(deployment, lake, history, portfolio, name, at)
    except ForedriftError as error:
        if name == deployment.policy.fallback:
            raise
        reason = f"{deployment.policy.kind} could not be prepared: {error}"
        memory = learnt(deployment, lake, history, portfolio, deployment.policy.fallback, at)
    order, last = case.columns, -1
    basis = basis_of(deployment, lake, history, at)
    market = MarketPoint(
        at, assets, history.close[last, order], history.depth_usd[last, order], float(history.gas_gwei[last]),
        float(history.recent_gwei[last]), float(history.native_usd[last]), basis.price_at,
        float(history.gas_gwei.max()),
    )  # fmt: skip
    covariance = history.covariance[history.day[last]][np.ix_(order, order)]
    note = f"{deployment.policy.fallback} decides: {reason}" if reason else ""
    return Choice(RulePolicy(recall(memory), memory), view, market, covariance, basis, note, bool(reason))


def memory_at(deployment: VaultSettings, lake: Lake, at: datetime) -> PolicyMemory:
    """Return what the configured policy knows for a decision at ``at``."""
    history = history_at(deployment, lake, at)
    return learnt(deployment, lake, history, portfolio_at(deployment, at), deployment.policy.kind, at)


def case_at(deployment: VaultSettings, lake: Lake, at: datetime) -> Case:
    """Return the configured portfolio in the market up to ``at``; NotEnoughData where the lake does not reach."""
    return prepare(history_at(deployment, lake, at), portfolio_at(deployment, at))


def learnt(
    deployment: VaultSettings, lake: Lake, history: History, portfolio: Portfolio, name: str, at: datetime
) -> PolicyMemory:
    """Return what policy ``name`` knows at the end of ``history``; a lesson it lacks is learnt and kept in the lake."""
    planner = planners(history, lake, compare_config(deployment, (week_start(at), at), PanelChoice(1, (name,))))[0]
    if isinstance(planner, Predictive) and planner.learns:
        kind = kind_of(portfolio, portfolio.swap_fee)
        known = recall_lessons(lake, planner, [kind])
        if not known:
            known = {kind: planner.learn(kind)}
            keep_lessons(lake, planner, known)
        planner = planner.taught(known)
    return memory_of(planner, portfolio, history, len(history.ts) - 1)


def week_start(at: datetime) -> datetime:
    """Return the Monday (00:00 UTC) at least a day before ``at``.

    What is learnt rests on whole weeks from here back, so that every decision of a week stands on the same lessons.
    """
    day = (at - DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())


def portfolio_at(deployment: VaultSettings, at: datetime) -> Portfolio:
    """Return the configured portfolio as the panel's record, for a decision at ``at``."""
    given = deployment.portfolio
    n = len(given.assets)
    return Portfolio(
        given.name, given.scenario, given.assets, np.array([given.weights[a] for a in given.assets]),
        np.array([given.caps[a] for a in given.assets]), given.nav_usd, given.gamma,
        chain_fees(deployment.chain.id, deployment.costs.gas_base, deployment.costs.gas_per_leg), week_start(at), at,
        np.full(n, deployment.costs.fee_bps / 10_000),
    )  # fmt: skip


def history_at(deployment: VaultSettings, lake: Lake, at: datetime) -> History:
    """Return the market up to ``at``; where it does not reach, NotEnoughData says how old the newest rows are."""
    try:
        assets = deployment.portfolio.assets
        return load(lake, week_start(at), at, assets, deployment.chain.native, chain_id=deployment.chain.history)
    except NotEnoughData as error:
        last = lake.scan("prices", as_of=at).select(pl.col("available_at").max()).collect().item()
        error.add_note(f"newest price: {last}; collect newer rows (foredrift ingest), or replay with --as-of")
        raise


def forecasts_at(lake: Lake, at: datetime) -> ForecastView:
    """Return the latest forecasts issued by ``at`` and not older than FORECAST_LIFE."""
    rows = (
        lake.scan("forecasts", as_of=at)
        .filter((pl.col("issued_at") <= at) & (pl.col("issued_at") > at - FORECAST_LIFE))
        .sort("issued_at")
        .unique(["target", "key", "horizon_s"], keep="last", maintain_order=True)
        .collect()
    )
    view = {}
    for r in rows.iter_rows(named=True):
        levels = tuple(r[c] for c in ("q05", "q25", "q50", "q75", "q95"))
        quantiles = None if None in levels else levels
        view[r["target"], r["key"], r["horizon_s"]] = Forecast(
            r["target"], r["key"], r["issued_at"], r["horizon_s"], quantiles, r["mean"], r["model_version"],
            r["abstain"], r["reason"],
        )  # fmt: skip
    return view


def newest(lake: Lake, at: datetime) -> datetime:
    """Return when the newest price row known at ``at`` became available."""
    found: datetime = lake.scan("prices", as_of=at).select(pl.col("available_at").max()).collect().item()
    return found


def _missing(deployment: VaultSettings, view: ForecastView) -> str:
    """Return why the configured policy must not decide, empty when nothing speaks against it."""
    for target in traits(deployment.policy.kind).reads:
        rows = [f for (name, key, _), f in view.items() if (name, key) == (target, str(deployment.chain.history))]
        if not rows:
            return f"no {target} forecast of the last {FORECAST_LIFE}"
        silent = [f for f in rows if f.abstain]
        if len(silent) == len(rows):
            return f"{target} forecasts abstain: {silent[0].reason}"
    return ""
