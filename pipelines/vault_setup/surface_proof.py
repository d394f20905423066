"""What a deployment's own record says of deciding by surfaces: weeks simulated for its portfolio, judged once a week.

The same evidence as in a comparison finer than the hour: surfaces built walk-forward, once a week, from the gas before;
mirrored pasts; bets that the surface is cheaper. Live it must be cheaper than both rules that may decide in its stead:
gas_band once an hour, as the schedule has it, and gas_band at every look, as the keeper has it without a surface.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256

import polars as pl

from lake.errors import NotEnoughData
from lake.store import Lake
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.decider import portfolio_at
from pipelines.wiring import PanelChoice, compare_config
from policy.comparison import resolved
from policy.comparison.surface_evidence import PATHS, SURFACE, stake, weekly_costs
from policy.realtime.looks import LOOKS
from policy.realtime.proof import Proof
from policy.realtime.surface import LEAST_DAYS
from policy.simulation.history import load
from policy.simulation.planner import Portfolio, prepare

WEEKS = 26  # of evidence: a season; what gas did before says little of it now
INSTEAD = ("gas_band", "gas_band_5m")  # what decides where no surface may
WEEK = timedelta(weeks=1)


def proof_at(deployment: VaultSettings, lake: Lake, at: datetime, before: Proof | None = None) -> Proof:
    """Return the evidence of the whole weeks before ``at``: ``before`` where it says just that, else simulated anew.

    Too short a record is no error: the proof then has no stakes, and no surface decides.
    """
    until = monday_of(at)
    terms = terms_of(deployment, portfolio_at(deployment, at))
    if before is not None and before.stakes and (before.terms, before.until_s) == (terms, int(until.timestamp())):
        return before
    start = max(until - WEEKS * WEEK, _learnt_from(deployment, lake, until))
    none = Proof(terms, int(until.timestamp()), 0, {}, {})
    if start >= until:
        return none
    try:
        return simulated(deployment, lake, start, until, none)
    except NotEnoughData:
        return none


def simulated(deployment: VaultSettings, lake: Lake, start: datetime, until: datetime, none: Proof) -> Proof:
    """Return ``none`` with what the weeks ``start`` .. ``until`` (Mondays) say, simulated every five minutes."""
    names = (*INSTEAD, SURFACE)
    config = replace(
        compare_config(deployment, (start, until), PanelChoice(1, names, resolution="5m")),
        assets=deployment.portfolio.assets,
    )
    history = load(lake, start, until, config.assets, config.native, chain_id=config.chain_id)
    case = prepare(history, replace(portfolio_at(deployment, until), start=start, end=until))
    field = resolved.field_of(lake, history, config)
    surfaces = resolved.surfaces_of(case, field)
    if not surfaces:
        return none
    run = partial(resolved.look_at, case, history.week(), resolved.gas_tables(case, field), surfaces)
    weeks, costs = weekly_costs(case, field, [LOOKS[n] for n in names], run)
    rows = {name: (costs[-1] - costs[i], costs[i]) for i, name in enumerate(INSTEAD)}
    return replace(
        none, weeks=int(weeks.size), stakes={n: stake(d, usual) for n, (d, usual) in rows.items()},
        saved={n: -float(d.sum()) / max(float(usual.sum()), 1e-300) for n, (d, usual) in rows.items()},
    )  # fmt: skip


def terms_of(deployment: VaultSettings, portfolio: Portfolio) -> str:
    """Return the digest of all that evidence depends on besides the record: another portfolio has other evidence."""
    p = portfolio
    told = [
        p.scenario, list(p.assets), p.target.tolist(), p.tolerance.tolist(), p.nav_usd, p.gamma, repr(p.fees),
        [] if p.swap_fee is None else p.swap_fee.tolist(), deployment.chain.history, deployment.cron, WEEKS, PATHS,
    ]  # fmt: skip
    return sha256(json.dumps(told).encode()).hexdigest()[:16]


def monday_of(at: datetime) -> datetime:
    """Return the last Monday, 00:00 UTC, at or before ``at``."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())


def _learnt_from(deployment: VaultSettings, lake: Lake, until: datetime) -> datetime:
    """Return the first Monday by which the lake's record of gas is long enough to learn its states from."""
    mine = pl.col("chain_id") == deployment.chain.history
    found = lake.scan("gas", as_of=until).filter(mine).select(pl.col("available_at").min()).collect().item()
    if found is None:
        return until
    day: datetime = found + timedelta(days=LEAST_DAYS)
    return monday_of(day + WEEK - timedelta(seconds=1)) if day < until else until
