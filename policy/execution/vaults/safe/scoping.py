"""What a keeper may do through Zodiac Roles v2: swaps between configured pools of its own Safe, and nothing else.

Every lane (a pool in one direction, or two pools in a row) is listed by tokens and fee; the recipient must be the Safe;
what may be sold of each token is an allowance that refills. Sources: zodiac-modifier-roles v2, Types.sol
(ConditionFlat, ParameterType, Operator), packers/ (how a value that is no word is compared).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from eth_abi.abi import encode

from lake.errors import ConfigError
from lake.evm import selector
from lake.venues import PAIR_CALLS, TICKS_CALLS
from lake.venues import venue as venue_of
from policy.execution.base import Leg, Token
from policy.execution.routing.pool_reader import TradedPool
from policy.execution.routing.yields import DEPOSIT, REDEEM, VENUE
from policy.execution.vaults.safe.register import LAND, register_address

ROLE = b"foredrift-keeper".ljust(32, b"\0")
"""Key of the keeper's role."""
NONE, STATIC, DYNAMIC, TUPLE, ARRAY, CALLDATA = range(6)
PASS, OR, MATCHES, AVATAR, EQUAL, WITHIN = 0, 2, 5, 15, 16, 28
MOST_NODES = 255
"""Nodes of one function's condition: a node names its parent in one byte."""
APPROVE = "approve(address,uint256)"
SINGLE, MANY = TICKS_CALLS
(V2_SWAP,) = PAIR_CALLS

Flat = tuple[int, int, int, bytes]
"""(parent, kind of parameter, operator, value): ConditionFlat."""
Lane = tuple[tuple[str, str, int], ...]
"""One or two hops (token in, token out, fee in pips) through pools of one router."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition with what it is made of."""

    kind: int
    op: int = PASS
    value: bytes = b""
    children: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Permission:
    """One function of one contract; ``conditions`` empty: with any arguments. ``words`` says it to people."""

    target: str
    signature: str
    conditions: tuple[Flat, ...]
    words: str

    @property
    def selector(self) -> bytes:
        """The four bytes that select the function."""
        return selector(self.signature)


@dataclass(frozen=True, slots=True)
class Scope:
    """The keeper's whole role: ``lanes`` by (router, venue), the portfolio's tokens, amounts per period by token.

    ``refill``: token address -> raw units that may be sold a period; ``period_s``: its seconds.
    """

    tokens: tuple[Token, ...]
    lanes: Mapping[tuple[str, str], tuple[Lane, ...]]
    refill: Mapping[str, int] = field(default_factory=dict)
    period_s: int = 86_400

    def allows(self, leg: Leg) -> bool:
        """Return whether a leg is along a listed lane, through its router."""
        lane = tuple((h.token_in, h.token_out, 0 if paired(h.venue) else h.fee_pips) for h in leg.path)
        venue = leg.path[0].venue if leg.path else ""
        return lane in self.lanes.get((leg.target, venue), ())

    def permissions(self) -> tuple[Permission, ...]:
        """Return every function the role may call. ConfigError where the pools are too many for one condition."""
        symbols = {t.address: t.symbol for t in self.tokens}
        routers = tuple(dict.fromkeys(router for router, _ in self.lanes))
        found = [_approval(t, routers) for t in self.tokens]
        for (router, venue), lanes in self.lanes.items():
            found += _swaps(router, venue, lanes, symbols)
        found.append(Permission(register_address(), LAND, (), "number and record the plan in the register"))
        return tuple(found)


def paired(venue: str) -> bool:
    """Return whether the pools of a venue are pairs: one for two tokens, whatever its fee."""
    return venue_of(venue).curve == "pair"


def allowance_key(token: str) -> bytes:
    """Return the key of a token's allowance: readable in an explorer."""
    return b"fd-allowance" + bytes.fromhex(token[2:])


def lanes_of(pools: Sequence[TradedPool], tokens: Sequence[Token]) -> dict[tuple[str, str], tuple[Lane, ...]]:
    """Return the lanes between ``tokens`` by (router, venue): each pool both ways, and two in a row."""
    held = {t.address for t in tokens}
    found: dict[tuple[str, str], dict[Lane, None]] = {}
    ways = [(p, a, b) for p in pools for a, b in ((p.token0, p.token1), (p.token1, p.token0))]
    for first, start, middle in ways:
        group = found.setdefault((first.router, first.venue), {})
        if start in held and middle in held:
            group[(_hop(first, start, middle),)] = None
        for second, entry, end in ways:
            same = (first.router, first.venue) == (second.router, second.venue) and second.address != first.address
            if same and start in held and end in held and entry == middle and end != start:
                group[_hop(first, start, middle), _hop(second, middle, end)] = None
    return {place: tuple(group) for place, group in found.items() if group}


def _hop(pool: TradedPool, start: str, end: str) -> tuple[str, str, int]:
    return start, end, 0 if paired(pool.venue) else pool.fee_pips


# Parameters after the last one that matters are left out of a condition: each would be read, and cost gas, for nothing.


def flat(root: Condition) -> tuple[Flat, ...]:
    """Return a tree of conditions as the contract takes it: level by level, each node with its parent's place."""
    rows: list[Flat] = [(0, root.kind, root.op, root.value)]
    level = [(0, root)]
    while level:
        below: list[tuple[int, Condition]] = []
        for place, node in level:
            for child in node.children:
                below.append((len(rows), child))
                rows.append((place, child.kind, child.op, child.value))
        level = below
    return tuple(rows)


def _either(nodes: Sequence[Condition]) -> Condition:
    return nodes[0] if len(nodes) == 1 else Condition(NONE, OR, children=tuple(nodes))


def _is(address: str) -> Condition:
    return Condition(STATIC, EQUAL, encode(["address"], [address]))


def _sold(token: str) -> Condition:
    return Condition(STATIC, WITHIN, allowance_key(token))


def _approval(token: Token, routers: Sequence[str]) -> Permission:
    root = Condition(CALLDATA, MATCHES, children=(_either([_is(r) for r in routers]),))
    return Permission(token.address, APPROVE, flat(root), f"approve {token.symbol} to {', '.join(routers)}")


def _swaps(router: str, venue: str, lanes: Sequence[Lane], symbols: Mapping[str, str]) -> list[Permission]:
    """Return the swap functions of one router along ``lanes``."""
    if venue == VENUE:
        return _shares(router, lanes, symbols)
    if venue_of(venue).calls not in {PAIR_CALLS, TICKS_CALLS}:
        raise ConfigError(f"venue {venue}: a role has no conditions for the calls of its router; trade it by an owner")
    if paired(venue):
        return [_permission(router, V2_SWAP, _v2(lanes), lanes, symbols)]
    single, many = [x for x in lanes if len(x) == 1], [x for x in lanes if len(x) > 1]
    found = [_permission(router, SINGLE, _v3_single(single), single, symbols)] if single else []
    return found + ([_permission(router, MANY, _v3_many(many), many, symbols)] if many else [])


def _shares(vault: str, lanes: Sequence[Lane], symbols: Mapping[str, str]) -> list[Permission]:
    """deposit(assets, receiver) and redeem(shares, receiver, owner) of a yield-bearing token, for the Safe itself."""
    found = []
    for (start, end, _), *_ in lanes:
        safe = (Condition(STATIC, AVATAR),)
        signature, rest = (REDEEM, safe * 2) if start == vault else (DEPOSIT, safe)
        root = Condition(CALLDATA, MATCHES, children=(_sold(start), *rest))
        words = f"{'turn' if start == vault else 'make'} {symbols.get(start, start)} into {symbols.get(end, end)}"
        found.append(Permission(vault, signature, flat(root), f"{words} for the Safe itself, within the allowance"))
    return found


def _permission(
    router: str, signature: str, root: Condition, lanes: Sequence[Lane], symbols: Mapping[str, str]
) -> Permission:
    rows = flat(root)
    if len(rows) > MOST_NODES:
        raise ConfigError(
            f"{len(lanes)} ways through the pools of router {router} need {len(rows)} conditions, one role holds "
            f"{MOST_NODES} a function; list fewer pools under [[sources.pools]] with this router"
        )
    pairs = sorted({f"{symbols.get(x[0][0], x[0][0])} -> {symbols.get(x[-1][1], x[-1][1])}" for x in lanes})
    words = f"swap to the Safe itself, within the allowance: {', '.join(pairs)}"
    return Permission(router, signature, rows, words)


def _v3_single(lanes: Sequence[Lane]) -> Condition:
    """exactInputSingle: tokenIn, tokenOut, fee, recipient, deadline, amountIn, amountOutMinimum, sqrtPriceLimitX96."""
    groups: dict[tuple[str, int], list[str]] = {}
    for ((start, end, fee),) in lanes:
        groups.setdefault((start, fee), []).append(end)
    ways = [
        Condition(TUPLE, MATCHES, children=(
            _is(start), _either([_is(end) for end in dict.fromkeys(ends)]),
            Condition(STATIC, EQUAL, encode(["uint24"], [fee])), Condition(STATIC, AVATAR), Condition(STATIC),
            _sold(start),
        ))
        for (start, fee), ends in groups.items()
    ]  # fmt: skip
    return Condition(CALLDATA, MATCHES, children=(_either(ways),))


def _v3_many(lanes: Sequence[Lane]) -> Condition:
    """exactInput((path, recipient, deadline, amountIn, amountOutMinimum))."""
    ways = []
    for start, group in _by_start(lanes).items():
        paths = [Condition(DYNAMIC, EQUAL, encode(["bytes"], [path_of(lane)])) for lane in group]
        rest = (Condition(STATIC, AVATAR), Condition(STATIC), _sold(start))
        ways.append(Condition(TUPLE, MATCHES, children=(_either(paths), *rest)))
    return Condition(CALLDATA, MATCHES, children=(_either(ways),))


def _v2(lanes: Sequence[Lane]) -> Condition:
    """swapExactTokensForTokens(amountIn, amountOutMin, path, to, deadline)."""
    ways = []
    for start, group in _by_start(lanes).items():
        paths = [_path([start, *(hop[1] for hop in lane)]) for lane in group]
        parts = (_sold(start), Condition(STATIC), _either(paths), Condition(STATIC, AVATAR))
        ways.append(Condition(CALLDATA, MATCHES, children=parts))
    return _either(ways)


def _path(tokens: Sequence[str]) -> Condition:
    return Condition(ARRAY, EQUAL, encode(["address[]"], [list(tokens)]), (Condition(STATIC),))


def _by_start(lanes: Sequence[Lane]) -> dict[str, list[Lane]]:
    groups: dict[str, list[Lane]] = {}
    for lane in lanes:
        groups.setdefault(lane[0][0], []).append(lane)
    return groups


def path_of(lane: Lane) -> bytes:
    """Return a v3 path: token, fee in three bytes, token, and so on."""
    start = bytes.fromhex(lane[0][0][2:])
    return start + b"".join(fee.to_bytes(3, "big") + bytes.fromhex(end[2:]) for _, end, fee in lane)
