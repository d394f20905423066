"""The local market left running for people: blocks on the clock, history replayed, a searcher in the pool."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

from policy.localnet.history import Tick
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import reference_vault
from policy.localnet.replay import shown
from policy.localnet.searcher import SandwichSearcher
from policy.localnet.world import PRICES, Extra


@dataclass(frozen=True, slots=True)
class Running:
    """How a market is left running: on 127.0.0.1:``port`` (0: any free one) and its websocket on the next port, a block
    every ``every_s`` seconds, with or without a ``searcher`` in its pool; ``cache`` holds worlds built before.
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
        if first is not None and first.block is not None:
            net.front.shown[net.node.head().number] = shown(first.block)
        try:
            socket = net.listen(how.port + 1 if how.port else 0)
        except OSError:  # taken: what it is instead is among the first lines
            socket = net.listen()
        if how.searcher:
            net.node.searchers.append(SandwichSearcher(net.node, net.world))
        for line in describe(net, socket):
            say(line)
        if ready is not None:
            ready(net)
        try:
            for tick in chain(ticks, repeat(None)):
                if halt.wait(how.every_s if tick is None or tick.wait_s is None else tick.wait_s):
                    break
                step(net, tick)
                blocks += 1
        except KeyboardInterrupt:
            say("stopped")
    return blocks


def step(net: Localnet, tick: Tick | None) -> None:
    """Make one block: of a tick's prices and gas, or of the recorded block it is; an ordinary one for None."""
    if tick is None:
        net.mine()
    elif tick.block is not None:
        net.replay(tick.block, tick.prices)
    else:
        net.advance_prices(tick.prices, gas_gwei=tick.gas_gwei, at=tick.at)


def describe(net: Localnet, socket: str) -> list[str]:
    """Return what a person needs to use the market, a line each; no keys. ``socket`` is its websocket's URL."""
    lines = [
        f"local market on {net.url}, chain id {net.chain_id}; heads and logs on {socket}",
        "tokens (with their USD feed):",
    ]
    lines += [
        f"  {asset:<6}{t.address}  {t.decimals:>2} decimals  feed {t.feed}" for asset, t in net.world.tokens.items()
    ]
    lines += ["pools:", *[f"  {name:<22}{p.address}" for name, p in net.world.pools.items()]]
    lines += ["contracts:", *[f"  {n:<22}{a}" for n, a in {**net.world.contracts, **net.world.extras}.items()]]
    lines += ["accounts (the well-known development keys; never fund them elsewhere):"]
    return lines + [f"  {role:<22}{a.address}" for role, a in net.accounts.items()]
