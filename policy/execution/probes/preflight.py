"""What can be known to be wrong before the first plan: decimals, feeds, pools of another factory, node methods.

Every check returns all it finds, in words that name the row and the remedy; nothing is sent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from lake.errors import RpcError
from lake.evm import Call, head_of, try_read
from lake.rpc import Rpc
from lake.venues import venue
from policy.execution.routing.pool_reader import TradedPool
from policy.execution.routing.yields import VENUE
from policy.execution.submission.simulate_tx import NOT_SUPPORTED

QUOTE = "USD"
ROUND = "uint80,int256,uint256,uint256"
_PAIR = re.compile(r"^\s*(?P<base>[^/]+?)\s*/\s*(?P<quote>[A-Za-z0-9]+)")
_WRAPPED = re.compile(r"^(?:W|w|wrapped )(?=[A-Z])")
ZERO = "0x" + "0" * 40


@dataclass(frozen=True, slots=True)
class Listed:
    """A token with its feed as configured; None: not configured, so not compared."""

    name: str  # how messages call the row, its asset or its address
    token: str
    feed: str
    decimals: int | None = None
    feed_decimals: int | None = None
    heartbeat_s: int | None = None
    asset: str | None = None


def tokens_and_feeds(rpc: Rpc, rows: Sequence[Listed], block: int | str = "latest") -> list[str]:
    """Return what is wrong with tokens and feeds: no contract, other decimals, another pair, a stale answer."""
    views = [
        view
        for r in rows
        for view in (
            Call(r.token, "decimals()", "uint8"),
            Call(r.feed, "decimals()", "uint8"),
            Call(r.feed, "description()", "string"),
            Call(r.feed, "latestRoundData()", ROUND),
        )
    ]
    told = iter(try_read(rpc, views, block))
    now = head_of(rpc, block, fees=False).time
    found = [f"{n}: the token is listed {c} times; remove all but one row" for n, c in _twice(r.token for r in rows)]
    for row in rows:
        digits, feed_digits, description, answer = (next(told) for _ in range(4))
        found += _decimals(f"{row.name}: token {row.token}", digits, row.decimals)
        found += _decimals(f"{row.name}: feed {row.feed}", feed_digits, row.feed_decimals)
        found += _described(row, description)
        found += _answer(row, answer, now)
    return found


def quotes(rpc: Rpc, feeds: Sequence[str], block: int | str = "latest") -> list[str]:
    """Return the feeds that by their own description are not in USD."""
    told = try_read(rpc, [Call(f, "description()", "string") for f in feeds], block)
    rows = [Listed(f"feed {i}", "", f) for i, f in enumerate(feeds)]
    return [words for row, said in zip(rows, told, strict=True) for words in _described(row, said)]


def pools_and_routers(rpc: Rpc, pools: Sequence[TradedPool], block: int | str = "latest") -> list[str]:
    """Return the pools that are listed twice, or are not the factory's of the router they are to be traded by."""
    found = [f"pool {p}: listed {c} times; remove all but one row" for p, c in _twice(p.address for p in pools)]
    pools = [p for p in pools if p.venue != VENUE]  # a vault of shares has no factory
    factories = try_read(rpc, [Call(p.router, "factory()", "address") for p in pools], block)
    asks: list[tuple[TradedPool, str, Call]] = []
    for pool, row in zip(pools, factories, strict=True):
        if isinstance(row, RpcError):
            found.append(f"pool {pool.address}: router {pool.router} has no factory(): it is no Uniswap router")
            continue
        ends, factory = (pool.token0, pool.token1), str(row[0])
        finds = venue(pool.venue).finds
        given = (*ends, pool.fee_pips) if finds.endswith(",uint24)") else ends
        asks.append((pool, factory, Call(factory, finds, "address", given)))
    for (pool, factory, _), row in zip(asks, try_read(rpc, [v for _, _, v in asks], block), strict=True):
        held = None if isinstance(row, RpcError) else str(row[0])
        if held is None or held.lower() != pool.address.lower():
            other = "knows no such pool" if held in {None, ZERO} else f"has {held} for its tokens and fee"
            found.append(
                f"pool {pool.address}: factory {factory} of its router {pool.router} {other}; give the router of the "
                f"exchange the pool belongs to, and its venue ({pool.venue})"
            )
    return found


def node_methods(rpc: Rpc) -> list[str]:
    """Return what the node lacks of what plans need: simulation, fee history, logs."""
    found = []
    head = head_of(rpc)
    call = {"to": ZERO, "data": "0x"}
    asks: tuple[tuple[str, list[object], str], ...] = (
        (
            "eth_simulateV1",
            [{"blockStateCalls": [{"calls": [call]}], "validation": False}, hex(head.number)],
            "plans are simulated by eth_call only, and tokens cannot be proven before they are bought",
        ),
        ("eth_feeHistory", [hex(4), "latest", [50]], "gas cannot be bid"),
        ("eth_getLogs", [{"fromBlock": hex(head.number), "toBlock": hex(head.number)}], "plans cannot be looked up"),
    )
    for method, params, consequence in asks:
        try:
            rpc.call(method, params)
        except RpcError as error:
            if error.code is None:
                raise
            lacks = "has no" if error.code in NOT_SUPPORTED else "refuses"
            found.append(f"the node {lacks} {method} ({error}): {consequence}")
    return found


def state_depth(rpc: Rpc, blocks: int) -> list[str]:
    """Return what is lost where the node has no state ``blocks`` old: v2 pools' averages, and nothing else."""
    old = max(0, head_of(rpc).number - blocks)
    try:
        rpc.call("eth_getBalance", [ZERO, hex(old)])
    except RpcError as error:
        if error.code is None:
            raise
        return [
            (
                f"the node has no state {blocks} blocks back (block {old}): v2 averages do not tell; use a node "
                "that keeps more, or a shorter [mandate] average_window"
            )
        ]
    return []


def _twice(items: Iterable[str]) -> list[tuple[str, int]]:
    counted = Counter(i.lower() for i in items)
    return [(item, count) for item, count in counted.items() if count > 1]


def _decimals(what: str, told: tuple[object, ...] | RpcError, given: int | None) -> list[str]:
    if isinstance(told, RpcError):
        return [f"{what} does not tell its decimals ({told}); check the address"]
    if given is not None and told[0] != given:
        return [f"{what} has {told[0]} decimals, configured are {given}"]
    return []


def _described(row: Listed, told: tuple[object, ...] | RpcError) -> list[str]:
    """Return what a feed's own description says against it; one without a pair in it says nothing."""
    match = None if isinstance(told, RpcError) else _PAIR.match(str(told[0]))
    if match is None:
        return []
    base, quote = match["base"], match["quote"]
    if quote.upper() != QUOTE:
        return [
            f"{row.name}: feed {row.feed} is {base} / {quote}; prices are in {QUOTE}, use the {base} / {QUOTE} feed"
        ]
    if row.asset is not None and _bare(base) != _bare(row.asset):
        return [f"{row.name}: feed {row.feed} is {base} / {quote}, not {row.asset} / {QUOTE}"]
    return []


def _bare(name: str) -> str:
    return _WRAPPED.sub("", name).upper()


def _answer(row: Listed, told: tuple[object, ...] | RpcError, now: int) -> list[str]:
    if isinstance(told, RpcError):
        return [f"{row.name}: feed {row.feed} does not answer latestRoundData() ({told}); check the address"]
    _, answer, _, updated = cast("tuple[int, int, int, int]", told)
    if answer <= 0:
        return [f"{row.name}: feed {row.feed} answers {answer}; a price is positive"]
    age = now - updated
    if row.heartbeat_s is not None and (age > row.heartbeat_s or age < 0):
        words = f"{row.name}: feed {row.feed} was updated {age} s ago, its heartbeat is given as {row.heartbeat_s} s"
        return [f"{words}; give the feed's published one"]
    return []
