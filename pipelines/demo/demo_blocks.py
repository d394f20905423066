"""Forty minutes of the demo's market block by block: a keeper waits for cheap gas with a drifted vault; a picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from lake.units import WEI_PER_GWEI
from pipelines.deployments import Deployment
from pipelines.reports import terminal
from pipelines.reports.charts import save
from pipelines.reports.keep_charts import BlockRow, block_chart
from pipelines.scheduled.claims import Claims
from pipelines.scheduled.keep import replay
from pipelines.scheduled.keep_vaults import apart
from pipelines.vault_setup.kept_paper import TIP_WEI, paper_desks
from pipelines.vault_setup.tape import replayed
from pipelines.wiring import lake_of
from policy.base import State, Vector
from policy.keeping.desk import SeenBlock
from policy.keeping.keeper import Act, Keeper
from policy.keeping.sights import Sights
from policy.keeping.terms import terms_of

BLOCKS = 200
WORTH = 0.8  # of the first block's gas: what the drifted vault would pay at most
FURTHEST = 0.3  # of NAV, drifted from one asset into another


@dataclass(slots=True)
class Watching:
    """What is drawn: a row a block."""

    keeper: Keeper
    target: Vector
    rows: list[BlockRow] = field(default_factory=list)

    def shown(self, head: SeenBlock, acts: Sequence[Act]) -> None:
        """Book the block that was just looked at; tell of trades."""
        glance = self.keeper.glance
        if glance is None:
            return
        price = (head.next_base_fee_wei + TIP_WEI) / WEI_PER_GWEI
        traded = any(a.report.outcome == "traded" for a in acts)
        off = self.keeper.sights.weights()[0, : self.target.size] - self.target
        trigger = self.keeper.trigger(0, price)
        row = BlockRow(
            head.number, price, float(glance.reserve_gwei[0]), float(glance.distance[0]), trigger, tuple(off), traded
        )
        self.rows.append(row)
        for act in acts:
            if act.report.outcome == "traded":
                terminal.say(f"block {head.number} at {price:.2f} gwei: {act.report.why}")


def keep_blocks(deployment: Deployment, start: datetime, folder: Path, blocks: int = BLOCKS) -> dict[str, Any]:
    """Keep a drifted paper vault for ``blocks`` blocks from ``start``; return figures, with the picture's path."""
    began = time.perf_counter()
    heads, notes = replayed(deployment, lake_of(deployment), start, blocks)
    until = start + timedelta(seconds=12 * blocks)
    own = apart(deployment)
    _, market = paper_desks([own], until)
    state = market.read(0, heads[0]).state
    price = (heads[0].next_base_fee_wei + TIP_WEI) / WEI_PER_GWEI
    weights = drifted(state, WORTH * price)
    own = replace(own, vault=own.vault.model_copy(update={"start": tuple(float(w) for w in weights)}))
    with Claims({own.name: own.journal}) as claims:
        desks, market = paper_desks([own], until)
        desks[0].owner = claims.owned[own.name]
        watching = Watching(Keeper(desks, market, width=len(own.portfolio.assets), workers=1), state.target)
        run = replay(watching.keeper, heads, shown=watching.shown)
    picture = save(block_chart(own.portfolio.assets, watching.rows), folder / "blocks.png")
    trades = [r for r in watching.rows if r.traded]
    first = watching.rows[0]
    terminal.say(
        f"{run.blocks} blocks in {time.perf_counter() - began:.1f} s: gas {first.price_gwei:.2f} gwei at first, "
        f"{len(trades)} trades" + (f", the first at {trades[0].price_gwei:.2f} gwei" if trades else "")
    )
    terminal.say(f"picture: {picture}")
    return {
        "blocks": run.blocks, "seconds": round(time.perf_counter() - began, 1), "notes": notes,
        "trades": [{"block": r.block, "price_gwei": r.price_gwei, "reserve_gwei": r.reserve_gwei} for r in trades],
        "first_price_gwei": first.price_gwei, "orders_armed": desks[0].order_armed, "picture": str(picture),
    }  # fmt: skip


def drifted(state: State, reserve_gwei: float) -> Vector:
    """Return weights at which a trade is worth ``reserve_gwei``: drifted between the two assets that differ most.

    Of all pairs that one is the least weight for the risk, so the trade costs less than the rule's average one.
    """
    terms, n = terms_of(state), state.target.size
    names, each = [str(i) for i in range(n)], np.eye(n)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    up, down = max(pairs, key=lambda p: float((each[p[0]] - each[p[1]]) @ terms.M @ (each[p[0]] - each[p[1]])))
    low, high = 0.0, min(FURTHEST, float(state.target[down]))
    for _ in range(40):
        shift = 0.5 * (low + high)
        weights = state.target + shift * (each[up] - each[down])
        sights = Sights(1, n)
        sights.read(0, terms, names, weights, dict.fromkeys(names, 1.0))
        low, high = (shift, high) if sights.look().reserve_gwei[0] < reserve_gwei else (low, shift)
    return np.asarray(weights)
