"""The ways a trade can be executed, on the ledger: what the same recorded trades cost by each, and by the cheapest.

A channel is a record: how long it delays, what it loses to others, who pays the gas and how much of it, how probable a
fill is, and what happens without one. Pools are what the simulator charges; auctions are the model of
``policy.auction_cost``, tabulated once over what a filler needs. An order nobody fills swaps in the pools afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import polars as pl

from policy.auction_cost import (
    BLOCK_S,
    BPS,
    KEEPER_GAS,
    PRIORITY_SHADE_BP,
    Auction,
    Fillers,
    expected_walk,
    sigma_block_bp,
)
from policy.base import Vector
from policy.costs import GAS_BASE, GAS_PER_LEG
from policy.simulation.planner import Portfolio

SIGMA_YEAR = 0.6  # of ether against the dollar, round
LAG_BP = 15.5  # mean absolute lag of a feed that posts at half a per cent or hourly, on ether's minutes of 2025-06
FALLING = Auction(60.0, 3.0, 34)
_NEEDS = np.concatenate([np.arange(0.0, 40.0, 0.5), np.arange(40.0, 201.0, 5.0)])


@dataclass(frozen=True, slots=True)
class ExecutionChannel:
    """One way to execute. ``loss_bp``: what others take, by what a filler ``needs`` (bp: hedge, margin and his gas).

    ``keeper_gas``: units the vault's keeper pays; ``filler_gas``: units whoever fills pays, which the price pays for.
    ``delay_blocks`` and ``fill`` (probability) by the same needs; ``fallback``: what an unfilled order becomes.
    """

    name: str
    gas_payer: Literal["keeper", "filler"]
    keeper_gas: int
    filler_gas: int
    needs: Vector
    loss_bp: Vector
    delay_blocks: Vector
    fill: Vector
    fallback: str | None

    def expected_bp(self, value_usd: Vector, gas_usd_unit: Vector, pool_bp: Vector, best_bp: float) -> Vector:
        """Return the expected cost of trades in bp of ``value_usd``, the fallback included.

        ``gas_usd_unit``: USD a unit of gas at each trade; ``pool_bp``: what the pools cost; ``best_bp``: what the best
        filler needs beside his gas.
        """
        need = best_bp + self.filler_gas * gas_usd_unit / value_usd * BPS
        keeper = self.keeper_gas * gas_usd_unit / value_usd * BPS
        fill = np.interp(need, self.needs, self.fill)
        return np.asarray(keeper + fill * np.interp(need, self.needs, self.loss_bp) + (1 - fill) * pool_bp)


@lru_cache(maxsize=16)
def auctions(fillers: Fillers | None = None, auction: Auction = FALLING) -> Mapping[str, ExecutionChannel]:
    """Return the channels that offer to others: a falling ask and a one-block auction, by name."""
    fillers = fillers or Fillers()
    sigma = round(sigma_block_bp(SIGMA_YEAR, BLOCK_S), 1)
    rows = np.array([expected_walk(float(n), sigma, LAG_BP, auction) for n in _NEEDS])
    one = np.ones_like(_NEEDS)
    falling = (rows[:, 0], rows[:, 1], 1 - rows[:, 2])
    return {
        "dutch": ExecutionChannel("dutch", "filler", KEEPER_GAS, fillers.gas, _NEEDS, *falling, "pool"),
        "priority": ExecutionChannel(
            "priority", "filler", KEEPER_GAS, fillers.gas, _NEEDS, _NEEDS + PRIORITY_SHADE_BP, one, one, "pool"
        ),
    }


Cell = tuple[str, str, float]
"""Policy, scenario, NAV."""


def cell(row: Mapping[str, object]) -> Cell:
    """Return which cell a row of the comparison's policies is."""
    return str(row["policy"]), str(row["scenario"]), float(str(row["nav_usd"]))


def priced(trades: pl.DataFrame, panel: Sequence[Portfolio]) -> dict[Cell, dict[str, float]]:
    """Return what the trades of each policy and cell cost by channel, bp of what they move.

    ``pool_bp``, ``dutch_bp``, ``priority_bp``, ``cheapest_bp`` (the cheaper of pools and falling ask, trade by trade),
    and ``auction_share``, the share of value for which that is the ask. ``trades``: rows of ``compare`` (one an asset).
    A trade of several swaps is several orders of an even part each. Without a trade a policy has no entry.
    """
    if trades.is_empty():
        return {}
    keys = ["portfolio_id", "policy", "ts"]
    moved = (pl.col("weight_after") - pl.col("weight_before")).abs().sum() / 2
    cells = pl.DataFrame({
        "portfolio_id": [p.portfolio_id for p in panel], "scenario": [p.label or p.scenario for p in panel],
        "nav_usd": [float(p.nav_usd) for p in panel],
    })  # fmt: skip
    whole = (
        trades.with_columns(pl.col("portfolio_id", "policy").cast(pl.String))
        .group_by(keys, maintain_order=True)
        .agg(
            moved.alias("moved"), pl.col("gas_usd").sum(), pl.col("fee_usd").sum(), pl.col("impact_usd").sum(),
            pl.col("legs").max(),
        )
        .join(cells, on="portfolio_id")
        .with_columns(
            value=pl.col("moved") * pl.col("nav_usd")
        )
        .filter(pl.col("value") > 0)
    )  # fmt: skip
    value = whole["value"].to_numpy()
    pool = (whole["gas_usd"] + whole["fee_usd"] + whole["impact_usd"]).to_numpy() / value * BPS
    part = value / np.maximum(whole["legs"].to_numpy(), 1)
    unit = whole["gas_usd"].to_numpy() / (GAS_BASE + GAS_PER_LEG * whole["legs"].to_numpy())
    best = Fillers().best_bp
    found = {name: c.expected_bp(part, unit, pool, best) for name, c in auctions().items()}
    costs = pl.DataFrame({
        "policy": whole["policy"], "scenario": whole["scenario"], "nav_usd": whole["nav_usd"], "value": value,
        "pool": pool, **found,
        "cheapest": np.minimum(pool, found["dutch"]), "auction": found["dutch"] < pool,
    })  # fmt: skip
    names = ("pool", "dutch", "priority", "cheapest")
    total = pl.col("value").sum()
    shares = [((pl.col(n) * pl.col("value")).sum() / total).alias(f"{n}_bp") for n in names]
    shares.append((pl.col("value").filter(pl.col("auction")).sum() / total).alias("auction_share"))
    rows = costs.group_by("policy", "scenario", "nav_usd").agg(shares).to_dicts()
    return {(row.pop("policy"), row.pop("scenario"), row.pop("nav_usd")): row for row in rows}
