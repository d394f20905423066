"""Where a hedge is traded: long by spot through the router, short by the perpetual. Sizes x 1e18, signed; + buys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from eth_abi.abi import encode

from lake.units import Bps
from policy.execution.base import Leg, Verdict
from policy.execution.checks.verdicts import passed, refused
from policy.execution.routing.amm import Pool, V3Pool
from policy.execution.routing.calldata import price_limit, swap
from policy.execution.routing.router import Routing, best_execution
from policy.execution.vaults.hedge.adapter import PERP_ARGS, in_cash, usd
from policy.execution.vaults.hedge.state import BPS, E8, WAD, HedgeState

YEAR_S = 365 * 86_400
EIGHT_HOURS_S = 28_800
CUSHION = 2  # equity aimed at, times the floor
RESERVE_BPS = 20  # of the size traded that stays at the venue: prices move before a plan lands
E10 = 10**10


class HedgeVenue(Protocol):
    """A place to change the hedge."""

    def exposure(self) -> int:
        """Return what is held there, x 1e18."""
        ...

    def fee(self, size: int) -> float:
        """Return what trading ``size`` costs, as a fraction of its worth."""
        ...

    def build(self, size: int, deadline: int, tolerance_bps: Bps) -> Leg | Verdict:
        """Return the leg that trades ``size``, or why there is none."""
        ...

    def carry(self) -> float:
        """Return what a unit long earns a year, as a fraction of its worth (a short the opposite)."""
        ...

    def margin(self) -> list[Verdict]:
        """Return the verdicts on what secures the position."""
        ...


@dataclass(frozen=True, slots=True)
class SpotVenue:
    """The underlying itself, swapped for cash in ``pools`` at the state's block; cannot be short."""

    state: HedgeState
    account: str
    pools: Sequence[Pool]

    def exposure(self) -> int:
        """Return the balance."""
        unit: int = 10**self.state.layout.asset.decimals
        return self.state.standing.spot * WAD // unit

    def fee(self, size: int) -> float:
        """Return fee and impact of the best route, against the oracle; at least nothing."""
        way = self._filled(size)
        if way is None:
            return 0.0
        amount, out = way.amount_in, way.out
        asset_unit = 10**self.state.layout.asset.decimals
        units, cash = (out, amount) if size > 0 else (amount, out)
        worth = in_cash(units * WAD // asset_unit, self.state)
        return max((cash / worth - 1.0) if size > 0 else (1.0 - cash / worth), 0.0) if worth else 0.0

    def _filled(self, size: int) -> Routing | None:
        """Return the single route of ``size``; None where nothing fills it."""
        s = self.state
        cash, asset = s.layout.cash.address, s.layout.asset.address
        ends = (cash, asset) if size > 0 else (asset, cash)
        held = s.standing.cash if size > 0 else s.standing.spot
        wanted = in_cash(size, s) if size > 0 else -size * 10**s.layout.asset.decimals // WAD
        amount = min(wanted, held)
        return best_execution(self.pools, *ends, amount, most_legs=1) if amount > 0 else None

    def build(self, size: int, deadline: int, tolerance_bps: Bps) -> Leg | Verdict:
        """Return one router call; buying spends the oracle's price of ``size``, so that fees leave it short of it."""
        way = self._filled(size)
        if way is None:
            side = "buy" if size > 0 else "sell"
            return refused("hedge_route", f"no pool can {side} {abs(size) / WAD:g} {self.state.layout.asset.symbol}")
        fill = way.fills[0]
        min_out = -(-fill.out * (BPS - tolerance_bps) // BPS)
        last = way.after[fill.hops[-1].pool]
        single = len(fill.hops) == 1 and isinstance(last, V3Pool)
        limit = price_limit(last, fill.hops[0].token_in, tolerance_bps) if single else 0
        data = swap(fill.hops, fill.amount_in, min_out, self.account, deadline, limit)
        router = next(p.router for p in self.pools if p.address == fill.hops[0].pool)
        ends = (fill.hops[0].token_in, fill.hops[-1].token_out)
        return Leg(*ends, fill.amount_in, min_out, fill.out, fill.hops, router, data)

    def carry(self) -> float:
        """Return nothing: spot neither pays nor earns."""
        return 0.0

    def margin(self) -> list[Verdict]:
        """Return nothing: spot is paid for."""
        return []


@dataclass(frozen=True, slots=True)
class PerpVenue:
    """The perpetual market of the account."""

    state: HedgeState

    def exposure(self) -> int:
        """Return the position."""
        return self.state.standing.size

    def fee(self, size: int) -> float:
        """Return taker fee and spread."""
        del size
        return (self.state.terms.fee_bps + self.state.terms.spread_bps) / BPS

    def build(self, size: int, deadline: int, tolerance_bps: Bps) -> Leg | Verdict:
        """Return margin in, trade and margin out as one leg; equity aims at twice the floor."""
        del deadline
        s = self.state
        if s.terms.halted:
            return refused("perp_halted", "the perpetual market refuses trades")
        after = s.standing.size + size
        traded, notional = in_cash(abs(size), s), in_cash(abs(after), s)
        lost = traded * (s.terms.fee_bps + s.terms.spread_bps) // BPS + 1
        left, aim = s.standing.equity - lost, CUSHION * s.limits.margin_bps * notional // BPS
        put_in, taken_out = 0, 0
        if abs(after) > abs(s.standing.size):
            room = s.limits.venue_bps * s.standing.nav // BPS - s.standing.equity
            put_in = max(0, min(aim - left, s.standing.cash, room))
            floor = s.limits.margin_bps * notional // BPS + traded * RESERVE_BPS // BPS
            if left + put_in < floor:
                words = (
                    f"equity of {usd(left + put_in, s):,.2f} USD at the venue would be under {usd(floor, s):,.2f}: "
                    f"{usd(s.standing.cash, s):,.2f} in cash, {s.limits.venue_bps / 100:g} % of NAV may lie there"
                )
                return refused("perp_margin", words, equity=usd(left + put_in, s), floor=usd(floor, s))
        else:
            taken_out = max(0, left - aim - traded * RESERVE_BPS // BPS)
        slack = BPS + tolerance_bps if size > 0 else BPS - tolerance_bps
        limit = s.price * E10 * slack // BPS
        data = encode(list(PERP_ARGS), [size, limit])
        return Leg(s.layout.cash.address, s.layout.perp, put_in, taken_out, taken_out, (), s.layout.perp, data)

    def top_up(self) -> Leg | None:
        """Return the leg that brings thin margin back to twice the floor, None where it is not thin or has no cash."""
        s = self.state
        floor = s.limits.margin_bps * s.notional_raw // BPS
        if s.standing.size == 0 or s.standing.equity >= floor:
            return None
        room = s.limits.venue_bps * s.standing.nav // BPS - s.standing.equity
        amount = max(0, min(CUSHION * floor - s.standing.equity, s.standing.cash, room))
        if amount == 0:
            return None
        data = encode(list(PERP_ARGS), [0, 0])
        return Leg(s.layout.cash.address, s.layout.perp, amount, 0, 0, (), s.layout.perp, data)

    def carry(self) -> float:
        """Return funding a year that a long earns: the opposite of what longs pay."""
        return -self.state.terms.funding / WAD * YEAR_S / EIGHT_HOURS_S

    def margin(self) -> list[Verdict]:
        """Return margin, liquidation price and who pays funding; a position below maintenance is named."""
        s = self.state
        if s.standing.size == 0:
            return []
        equity, need = s.standing.equity, s.maintenance
        floor = s.limits.margin_bps * s.notional_raw // BPS
        at = self.liquidation_price()
        figures = {"equity_usd": usd(equity, s), "maintenance_usd": usd(need, s), "liquidation_price": at}
        words = f"equity {usd(equity, s):,.2f} USD, maintenance {usd(need, s):,.2f}, liquidated at {at:,.2f}"
        if equity < need:
            found = [passed("perp_liquidatable", f"{words}: anyone may close it now", **figures)]
        elif equity < floor:
            found = [passed("perp_margin_thin", f"{words}; wanted are {usd(floor, s):,.2f}", **figures)]
        else:
            found = [passed("perp_margin", words, **figures)]
        earns = self.carry() * (1 if s.standing.size > 0 else -1)
        if earns < 0:
            found.append(passed("funding_paid", f"the position pays {-100 * earns:.2f} % a year", carry=earns))
        return found

    def liquidation_price(self) -> float:
        """Return the USD price at which equity is the maintenance margin; 0 where no positive price does it."""
        s = self.state
        size, rate = s.standing.size / WAD, s.terms.maintenance_bps / BPS
        side = size - rate * abs(size)
        price = (size * s.price / E8 - usd(s.standing.equity, s)) / side if side else 0.0
        return max(price, 0.0)


def split(change: int, spot: int, size: int) -> tuple[int, int]:
    """Return (spot, perpetual) changes of ``change``: what is open on the other side closes first.

    A buy closes a short and then buys spot, a sale sells spot and then goes short: long by spot, short by the
    perpetual, so never both for long.
    """
    if change > 0:
        perp = min(change, max(-size, 0))
        return change - perp, perp
    sold = min(-change, spot)
    return -sold, change + sold
