"""The world of the simulated chain as immutable values, and its JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from policy.execution.bridges.sim_book import BridgeBook, book_json, book_of_json
from policy.execution.checks.rules import Clock
from policy.execution.routing.amm import Pool, V2Pool, V3Pool


@dataclass(frozen=True, slots=True)
class SimWorld:
    """Everything contracts hold. ``prices`` are (USD x 1e8, updated at, round) by token; amounts raw."""

    balances: Mapping[str, int]
    pools: Mapping[str, Pool]
    prices: Mapping[str, tuple[int, int, int]]
    clock: Clock = field(default_factory=Clock)
    targets_bps: tuple[int, ...] = ()
    paused: bool = False
    bridges: BridgeBook = field(default_factory=BridgeBook)
    plans: tuple[tuple[str, str], ...] = ()  # the newest plans executed: hash, transaction
    slack_bps: tuple[int, ...] = ()  # how far each weight may lie from its target; empty: not at all


def world_json(world: SimWorld) -> dict[str, Any]:
    """Return the world as JSON, amounts as strings."""
    return {
        "balances": {k: str(v) for k, v in world.balances.items()},
        "pools": [_pool_json(p) for p in world.pools.values()],
        "prices": {k: list(v) for k, v in world.prices.items()},
        "clock": asdict(world.clock),
        "targets_bps": list(world.targets_bps),
        "paused": world.paused,
        "bridges": book_json(world.bridges),
        "plans": [list(p) for p in world.plans],
    } | ({"slack_bps": list(world.slack_bps)} if world.slack_bps else {})


def world_of(data: dict[str, Any]) -> SimWorld:
    """Return the world :func:`world_json` wrote."""
    pools = [pool_of(p) for p in data["pools"]]
    return SimWorld(
        balances={k: int(v) for k, v in data["balances"].items()},
        pools={p.address: p for p in pools},
        prices={k: (int(v[0]), int(v[1]), int(v[2])) for k, v in data["prices"].items()},
        clock=Clock(**data["clock"]),
        targets_bps=tuple(data["targets_bps"]),
        paused=data["paused"],
        bridges=book_of_json(data["bridges"]) if "bridges" in data else BridgeBook(),
        plans=tuple((made, sent) for made, sent in data.get("plans", ())),
        slack_bps=tuple(data.get("slack_bps", ())),
    )


def _pool_json(pool: Pool) -> dict[str, Any]:
    big = {"reserve0", "reserve1", "sqrt_price_x96", "liquidity"}
    data = {k: str(v) if k in big else v for k, v in asdict(pool).items()}
    if "ticks" in data:
        data["ticks"] = [[t, str(net)] for t, net in pool.ticks]  # type: ignore[union-attr]
    return data


def pool_of(data: dict[str, Any]) -> Pool:
    """Return a pool from JSON."""
    big = {"reserve0", "reserve1", "sqrt_price_x96", "liquidity"}
    fields: dict[str, Any] = {k: int(v) if k in big else v for k, v in data.items()}
    if "ticks" in fields:
        fields["ticks"] = tuple((int(t), int(net)) for t, net in fields["ticks"])
        fields["known"] = tuple(fields["known"])
        return V3Pool(**fields)
    return V2Pool(**fields)
