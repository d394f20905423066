"""What may go wrong on the chains of a portfolio beside its transfers: sequencers, oracles that differ, keepers' gas.

And over time, from the lake: how long a chain's cash has been below its level, forced sales, what bridges cost a year.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lake.errors import RpcError
from lake.store import Lake
from pipelines.vault_setup.transfer_fleet import OpenFleet

LOW_AFTER_S = 6 * 3_600.0
"""Cash below its level for longer than this is told to people: a transfer would have been there long before."""
YEAR = timedelta(days=365)
LEAST_SPAN = timedelta(days=30)
"""A year's cost is not made of less than this."""
LOOKS = timedelta(days=8)
BPS = 1e4


def chain_health(fleet: OpenFleet, chain_id: int) -> dict[str, Any]:
    """Return {gas_money_wei, gas_needed_wei, gas_low, sequencer} of one chain: a delivery there costs gas money.

    ``sequencer``: what its uptime feed says is wrong, empty where all is well; a feed that cannot be read is wrong.
    """
    end = fleet.context.ends[chain_id]
    money, head = end.node.balance(end.sender), end.node.head()
    needed = fleet.context.rules.least_delivery_gas * max(1, 2 * head.base_fee_wei)
    try:
        words = end.sequencer()
    except RpcError as error:
        words = f"its uptime feed cannot be read: {error}"
    return {
        "gas_money_wei": str(money), "gas_needed_wei": str(needed), "gas_low": money < needed, "sequencer": words,
    }  # fmt: skip


def oracle_gaps(fleet: OpenFleet) -> list[dict[str, Any]]:
    """Return [{asset, gap_bps, allowed_bps}]: how far the chains' prices of an asset lie apart, over the lowest."""
    prices: dict[str, list[int]] = {}
    for chain_id, end in fleet.context.ends.items():
        s = end.vault.snapshot()
        assets = fleet.fleet.members[chain_id].portfolio.assets
        named = assets if len(assets) == len(s.tokens) else tuple(t.symbol for t in s.tokens)
        for asset, quote in zip(named, s.quotes, strict=True):
            if quote.price_e8 > 0:
                prices.setdefault(asset, []).append(quote.price_e8)
    allowed = BPS * fleet.context.rules.oracle_gap
    return [
        {"asset": a, "gap_bps": BPS * (max(p) - min(p)) / min(p), "allowed_bps": allowed}
        for a, p in prices.items()
        if len(p) > 1
    ]


def told_by_lake(lake: Lake, at: datetime, nav_usd: float) -> dict[str, Any]:
    """Return {below_floor_s: by chain, forced_sales, bridge_cost_bp_year} from the tables places and transfers.

    ``bridge_cost_bp_year``: fees and gas of the transfers settled in the last year over NAV, by the year; None while
    none was settled. A transfer whose gas no node told counts with its fee.
    """
    cash = lake.scan("places", as_of=at).filter(pl.col("cash"))
    recent = cash.filter(pl.col("ts") > at - LOOKS).sort("ts").collect()
    settled = (
        lake.scan("transfers", as_of=at)
        .filter((pl.col("state") == "settled") & pl.col("fee_usd").is_not_null() & (pl.col("ts") > at - YEAR))
        .sort("ts")
        .unique("saga_id", keep="last")
        .collect()
    )
    return {
        "below_floor_s": below_floor_s(recent, at),
        "forced_sales": forced_sales(cash.collect(), lake.scan("executions").collect()),
        "bridge_cost_bp_year": bridge_cost(settled, at, nav_usd),
    }


def below_floor_s(looks: pl.DataFrame, at: datetime) -> dict[int, float]:
    """Return for how many seconds each chain's cash has been below its level by the cash rows of ``places``."""
    out = {}
    for (chain_id,), rows in looks.sort("ts").group_by("chain_id", maintain_order=True):
        since: datetime | None = None
        for usd, floor, ts in rows.select("usd", "floor_usd", "ts").iter_rows():
            low = floor is not None and usd < floor
            since = (since or ts) if low else None
        out[int(str(chain_id))] = 0.0 if since is None else (at - since).total_seconds()
    return out


def forced_sales(cash: pl.DataFrame, executions: pl.DataFrame) -> int:
    """Return how often a vault sold for cash because its chain lacked it: the sale landed, cash was below its level.

    The rows hold what lay there after the sale, so that what it brought is taken off first.
    """
    landed = executions.filter(pl.col("status").is_in(["landed", "filled"]))["decision_id"].to_list()
    sold = cash.filter(
        (pl.col("change_usd") > 0) & (pl.col("usd") - pl.col("change_usd") < pl.col("floor_usd"))
    )  # fmt: skip
    return int(sold.filter(pl.col("plan_id").is_in(landed)).height)


def bridge_cost(settled: pl.DataFrame, at: datetime, nav_usd: float) -> float | None:
    """Return fees and gas of ``settled`` transfers, basis points of NAV a year; None without any."""
    if settled.is_empty() or nav_usd <= 0:
        return None
    spent = float(settled["fee_usd"].fill_null(0.0).sum()) + float(settled["gas_usd"].fill_null(0.0).sum())
    span = min(YEAR, max(LEAST_SPAN, at - settled["ts"][0]))
    return float(BPS * spent / nav_usd * (YEAR / span))


def fleet_alarms(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return what people must hear of besides late transfers: (event, title, words)."""
    out = []
    for row in report["chains"]:
        name = f"chain {row['chain']}"
        if row.get("sequencer"):
            words = f"{name}: {row['sequencer']}; nothing departs to or from it"
            out.append(("sequencer", f"the sequencer of {name}", words))
        if row.get("gas_low"):
            held, needed = (int(row[k]) / 1e18 for k in ("gas_money_wei", "gas_needed_wei"))
            words = f"{name}: {held:.4f} coins, a delivery may need {needed:.4f}"
            out.append(("gas_low", f"the keeper's gas money on {name} is low", words))
        below = row.get("below_floor_s", 0.0)
        if below > LOW_AFTER_S:
            words = f"{row['cash_usd']:,.0f} USD for {below / 3600:.0f} h, its level is {row['floor_usd']:,.0f}"
            out.append(("cash_low", f"cash on {name} is low", f"{name}: {words} ({row['floor_why']})"))
    for gap in report.get("oracle_gaps", ()):
        if gap["gap_bps"] > gap["allowed_bps"]:
            words = f"{gap['gap_bps']:.0f} bp between the chains, {gap['allowed_bps']:.0f} may be"
            out.append(("oracle_differs", f"prices of {gap['asset']} differ", words))
    return out


def refused_routes(verdicts: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Return the alarm of a port whose row is not the configured one: a route that somebody changed."""
    found = [v for v in verdicts if v["check"] in {"route_mismatch", "recipient_not_ours"} and not v["ok"]]
    return [("route_mismatch", "a port's route is not as configured", str(v["reason"])) for v in found]
