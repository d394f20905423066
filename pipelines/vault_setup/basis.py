"""What a decision at a moment rests on, read from the lake: series with their newest values, holes and doubts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lake.plausibility import flagged
from lake.store import Lake
from lake.units import HOUR_S
from lake.universe import chain
from pipelines.sections.vaults import ChainSection
from pipelines.vault_settings import VaultSettings
from policy.execution.base import Verdict
from policy.execution.checks.inputs import Input
from policy.execution.checks.verdicts import refused
from policy.simulation.history import WARMUP_DAYS, History

POOL_LIFE = timedelta(hours=24)  # depth changes by tens of percent a day, prices within minutes
BAR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Basis:
    """What a decision rests on.

    ``inputs``: every series used; ``shut``: assets that lack the bar the others have, with the reason; ``doubts``:
    refusals of implausible rows nobody confirmed; ``price_at``: when each asset's last price was made.
    """

    inputs: tuple[Input, ...]
    shut: dict[str, str] = field(default_factory=dict)
    doubts: tuple[Verdict, ...] = ()
    price_at: dict[str, datetime] = field(default_factory=dict)

    @property
    def data_at(self) -> datetime:
        """Time of the oldest series that must be recent."""
        return min(i.at for i in self.inputs if not i.bridged)


def basis_of(deployment: VaultSettings, lake: Lake, history: History, at: datetime) -> Basis:
    """Return what a decision of the configured portfolio at ``at`` rests on; assets without any price are stable ones.

    Prices count by the end of their bar. Recorded gas must be recent where it is a roll-up's price of data. Pools count
    where the paper vault trades in them, a chain's are read live.
    """
    used = {*deployment.portfolio.assets, deployment.chain.native}
    rows = lake.scan("prices", as_of=at).filter((pl.col("step") <= HOUR_S) & pl.col("asset").is_in(sorted(used)))
    done = (pl.col("ts") + pl.duration(seconds=pl.col("step"))).max()
    found = dict(rows.group_by("asset").agg(done=done).sort("asset").collect().iter_rows())
    inputs = [Input("price", asset, ended) for asset, ended in found.items()]
    gas = lake.scan("gas", as_of=at).filter(pl.col("chain_id") == deployment.chain.history)
    inputs.append(
        Input(
            "gas",
            f"chain {deployment.chain.history}",
            gas.select(pl.col("available_at").max()).collect().item(),
            bridged=chain(deployment.chain.id).l1_chain_id is None,  # a roll-up does not tell its settlement's price
        )
    )
    if deployment.vault.kind == "simulated":
        inputs += [Input("depth", f"pool {pool}", known, POOL_LIFE) for pool, known in history.pools.items()]
    newest = max(found.values(), default=at)
    shut = {
        a: f"no bar since {found[a]:%Y-%m-%d %H:%M} UTC, others have one of {newest:%Y-%m-%d %H:%M}: left as it is"
        for a in deployment.portfolio.assets
        if a in found and newest - found[a] >= BAR
    }
    return Basis(tuple(inputs), shut, doubts(deployment, lake, at), found)


def doubts(deployment: VaultSettings, lake: Lake, at: datetime) -> tuple[Verdict, ...]:
    """Return a refusal for every series used with rows that cannot be believed and that nobody accepted.

    A roll-up with the gas of a roll-up as its history is refused too: its data are paid at the settlement chain's.
    """
    since = at - timedelta(days=WARMUP_DAYS)
    used = {*deployment.portfolio.assets, deployment.chain.native}
    prices = flagged(lake, "prices", as_of=at, since=since)
    name, step = (pl.col("series").str.split("/").list.get(i) for i in (1, 2))
    prices = prices.filter(name.is_in(sorted(used)) & (step.cast(pl.Int64) <= HOUR_S))
    gas = flagged(lake, "gas", as_of=at, since=since).filter(pl.col("series") == str(deployment.chain.history))
    each = pl.concat([prices, gas]).group_by("table", "series", "reason", maintain_order=True)
    rows = each.agg(pl.col("text").last(), pl.col("ts").last(), n=pl.len())
    return (*_unsettled(deployment.chain), *(_doubt(r) for r in rows.iter_rows(named=True)))


def _unsettled(given: ChainSection) -> tuple[Verdict, ...]:
    row, kept = chain(given.id), chain(given.history)
    if row.l1_chain_id is None or kept.l1_chain_id is None:
        return ()
    reason = (
        f"{row.name} is a roll-up: its data are paid for at {chain(row.l1_chain_id).name}'s gas price, and the gas of "
        f"{kept.name} stands for it; set history_id = {row.l1_chain_id} in the chain's row, and collect its gas"
    )
    return (refused("settlement_gas", reason, chain=given.id, history=given.history),)


def _doubt(row: dict[str, Any]) -> Verdict:
    """Return the refusal of one series' implausible rows, with what to do."""
    more = "" if row["n"] == 1 else f", the last of {row['n']} such rows"
    reason = (
        f"{row['text']} ({row['ts']:%Y-%m-%d %H:%M} UTC{more}); if it is right confirm {row['table']} {row['series']} "
        "with foredrift lake accept, if not take the import back"
    )
    return refused(row["reason"], reason, series=row["series"], rows=row["n"])
