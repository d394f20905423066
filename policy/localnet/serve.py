"""The local market left running for people: blocks on the clock, history replayed, a searcher in the pool."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policy.localnet.history import Tick
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import reference_vault
from policy.localnet.searcher import SandwichSearcher
from policy.localnet.world import PRICES, Extra


@dataclass(frozen=True, slots=True)
class Running:
    """How a market is left running: on 127.0.0.1:``port`` (0: any free one), a block every ``every_s`` seconds, with or
    without a ``searcher`` in its pool; ``cache`` holds worlds that were built before.
    """

    port: int = 8545
    every_s: float = 2.0
    searcher: bool = True
    cache: Path | None = None


def run(
    history: Iterable[Tick] = (),
    how: Running | None = None,
    *,
    depths: Mapping[str, float] | None = None,
    extras: Sequence[Extra] | None = None,
    say: Callable[[str], None] = print,
    stop: threading.Event | None = None,
    ready: Callable[[Localnet], None] | None = None,
) -> int:
    """Serve a local market on 127.0.0.1 until interrupted or ``stop`` is set; return the blocks made.

    ``extras`` are what the world holds besides pools: a funded reference vault where not given. Each block takes one
    tick of ``history`` while there are any. The world opens at the first tick's time and
    prices, with the usual assets at default prices beside them. Raises NoNode without Node.js, OSError when the port is
    taken.
    """
    how = how or Running()
    placed = [reference_vault()] if extras is None else extras
    halt = stop or threading.Event()
    ticks = iter(history)
    first = next(ticks, None)
    at = None if first is None else first.at
    prices = {**{a: float(p) for a, p in PRICES.items()}, **({} if first is None else first.prices)}
    gas = 1.0 if first is None or first.gas_gwei is None else first.gas_gwei
    blocks = 0
    with start(prices, at=at, gas_gwei=gas, depths=depths, extras=placed, port=how.port, cache=how.cache) as net:
        if how.searcher:
            net.node.searchers.append(SandwichSearcher(net.node, net.world))
        for line in describe(net):
            say(line)
        if ready is not None:
            ready(net)
        try:
            while not halt.wait(how.every_s):
                step(net, ticks)
                blocks += 1
        except KeyboardInterrupt:
            say("stopped")
    return blocks


def step(net: Localnet, ticks: Iterator[Tick]) -> None:
    """Make one block, with the next tick's prices and gas where one is left."""
    tick = next(ticks, None)
    if tick is None:
        net.mine()
    else:
        net.advance_prices(tick.prices, gas_gwei=tick.gas_gwei, at=tick.at)


def describe(net: Localnet) -> list[str]:
    """Return what a person needs to use the market, a line each; no keys."""
    lines = [f"local market on {net.url}, chain id {net.chain_id}", "tokens (with their USD feed):"]
    lines += [
        f"  {asset:<6}{t.address}  {t.decimals:>2} decimals  feed {t.feed}" for asset, t in net.world.tokens.items()
    ]
    lines += ["pools:", *[f"  {name:<22}{p.address}" for name, p in net.world.pools.items()]]
    lines += ["contracts:", *[f"  {n:<22}{a}" for n, a in {**net.world.contracts, **net.world.extras}.items()]]
    lines += ["accounts (the well-known development keys; never fund them elsewhere):"]
    return lines + [f"  {role:<22}{a.address}" for role, a in net.accounts.items()]
