"""Best execution over v2 and v3 pools and two-hop paths: float curves find the split, exact integers confirm it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policy.execution.base import Hop
from policy.execution.routing.amm import Pool, other, quote
from policy.execution.routing.segments import Segment, best_split, compose, curve, value

MOST_ROUTES = 10
"""Candidates kept for the exact subset search (1,023 subsets); more add nothing where 10 pools do not suffice."""


@dataclass(frozen=True, slots=True)
class Route:
    """A path of one or two pools with its curve."""

    pools: tuple[Pool, ...]
    hops: tuple[Hop, ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class RouteFill:
    """What one route is given and, by exact arithmetic, gives. ``spot_out``: at the price before the trade, no fee."""

    hops: tuple[Hop, ...]
    amount_in: int
    out: int
    spot_out: float


@dataclass(frozen=True, slots=True)
class Routing:
    """The best way found; ``gas_out``: fixed cost of its routes in raw units bought, ``after``: the moved pools."""

    fills: tuple[RouteFill, ...]
    amount_in: int
    out: int
    gas_out: float
    after: Mapping[str, Pool]

    @property
    def slippage(self) -> float:
        """Return the loss against spot, fee included, as a fraction."""
        spot = sum(f.spot_out for f in self.fills)
        return 1 - self.out / spot if spot > 0 else 0.0


def routes(pools: Sequence[Pool], token_in: str, token_out: str, amount_in: int) -> list[Route]:
    """Return every path of one or two pools from ``token_in`` to ``token_out`` that has liquidity."""
    found: list[Route] = []
    by_token: dict[str, list[Pool]] = {}
    for pool in pools:
        by_token.setdefault(pool.token0, []).append(pool)
        by_token.setdefault(pool.token1, []).append(pool)
    ends = by_token.get(token_out, [])
    for first in by_token.get(token_in, []):
        middle = other(first, token_in)
        segments = curve(first, token_in, float(amount_in))
        if not segments:
            continue
        if middle == token_out:
            found.append(Route((first,), (_hop(first, token_in),), tuple(segments)))
            continue
        passed = value(segments, float(amount_in))
        reach = passed if passed == passed else sum(s.out(s.cap) for s in segments)  # noqa: PLR0124 - NaN test
        for second in ends:
            if second is first or middle not in {second.token0, second.token1}:
                continue
            if (second.venue, second.router) != (first.venue, first.router):
                continue  # a leg is one call of one router
            both = compose(segments, curve(second, middle, reach))
            if both:
                found.append(Route((first, second), (_hop(first, token_in), _hop(second, middle)), tuple(both)))
    return found


def best_execution(
    pools: Sequence[Pool],
    token_in: str,
    token_out: str,
    amount_in: int,
    *,
    leg_cost_out: float = 0.0,
    hop_cost_out: float = 0.0,
    most_legs: int = 4,
) -> Routing | None:
    """Return the split of ``amount_in`` that buys most after gas, or None where no route can fill it.

    ``leg_cost_out`` and ``hop_cost_out`` are the gas of one more route and of a second hop, in raw units bought.
    Routes that share a pool are never used together. Optimal among subsets of the ten best routes.
    """
    candidates = routes(pools, token_in, token_out, amount_in)
    candidates.sort(key=lambda r: -_alone(r, amount_in))
    while candidates:
        kept = candidates[:MOST_ROUTES]
        split = best_split(
            [r.segments for r in kept],
            float(amount_in),
            [leg_cost_out + hop_cost_out * (len(r.hops) - 1) for r in kept],
            most=most_legs,
            disjoint=lambda c, kept=kept: _disjoint([kept[i] for i in c]),  # type: ignore[misc]
        )
        if split is None:
            return None
        used = [(r, a) for r, a in zip(kept, split.amounts, strict=True) if a > 0]
        fills, after, refused = _exact(used, amount_in)
        if refused is None:
            cost = sum(leg_cost_out + hop_cost_out * (len(f.hops) - 1) for f in fills)
            return Routing(tuple(fills), amount_in, sum(f.out for f in fills), cost, after)
        candidates.remove(refused)
    return None


def _exact(
    used: Sequence[tuple[Route, float]], amount_in: int
) -> tuple[list[RouteFill], dict[str, Pool], Route | None]:
    """Return exact fills of the float split (the rounding rest goes to the largest), or the route that cannot fill."""
    amounts = [int(a) for _, a in used]
    amounts[max(range(len(used)), key=lambda i: amounts[i])] += amount_in - sum(amounts)
    fills: list[RouteFill] = []
    after: dict[str, Pool] = {}
    for (route, _), amount in zip(used, amounts, strict=True):
        if amount <= 0:
            continue
        through = amount
        for pool, hop in zip(route.pools, route.hops, strict=True):
            fill = quote(pool, hop.token_in, through)
            if fill is None or fill.spent != through:
                return [], {}, route
            through = fill.out
            after[pool.address] = fill.after
        fills.append(RouteFill(route.hops, amount, through, amount * _spot(route)))
    return fills, after, None


def _spot(route: Route) -> float:
    """Return raw units bought per unit sold at the margin, without fees."""
    first = route.segments[0]
    keep = 1.0
    for pool in route.pools:
        keep *= 1 - pool.fee_pips / 1_000_000
    return first.Y / first.R / keep


def _alone(route: Route, amount_in: int) -> float:
    got = value(route.segments, float(amount_in))
    return got if got == got else 0.0  # noqa: PLR0124 - NaN test


def _disjoint(chosen: Sequence[Route]) -> bool:
    seen = [pool.address for route in chosen for pool in route.pools]
    return len(seen) == len(set(seen))


def _hop(pool: Pool, token_in: str) -> Hop:
    return Hop(pool.venue, pool.address, token_in, other(pool, token_in), pool.fee_pips)
