"""What moving cash between two chains costs, by bridge; amounts are USD floats of an accounting kind.

    C(a, b, A) = G_a + G_b + fee A + fixed + waiting q tau + hazard tau A + stuck A

G is gas on both chains with a roll-up's data fee, q the tracking cost an hour of what waits for the money, tau the
hours under way. A burn-and-mint bridge is at risk only while money is in transit, so its hazard counts by the hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lake.errors import ConfigError
from policy.base import ChainFees, Market, Vector
from policy.costs import CALLDATA_GAS_PER_BYTE, GWEI


@dataclass(frozen=True, slots=True)
class BridgeTerms:
    """The prices of one kind of bridge. ``hours`` under way; ``risk`` and ``stuck`` are fractions of the amount.

    ``risk`` is the chance of losing it in one transfer, hazard times ``hours``; ``stuck`` the chance that it is stuck
    times what that costs. ``units_*`` gas and ``bytes_*`` data on the origin (``out``) and the destination (``in``).
    """

    kind: str
    hours: float
    fee: float
    fixed_usd: float
    risk: float
    stuck: float
    units_out: int
    units_in: int
    bytes_out: int
    bytes_in: int


BRIDGE_TERMS: Mapping[str, BridgeTerms] = {
    b.kind: b
    for b in (
        BridgeTerms("cctp", 1.0, 0.0, 0.0, 5e-5, 0.0, 130_000, 200_000, 600, 900),
        BridgeTerms("cctp_fast", 0.0, 1e-4, 0.0, 5e-5, 0.0, 130_000, 200_000, 600, 900),
        BridgeTerms("across", 0.0, 5e-4, 0.0, 5e-5, 0.0, 130_000, 0, 600, 0),
        BridgeTerms("oft", 0.1, 0.0, 0.5, 5e-5, 0.0, 225_000, 110_000, 900, 600),
    )
}
"""Gas as measured on local chains plus the port's 60k; fees and hours as published; the risk of 0.5 bp is a guess."""


@dataclass(frozen=True, slots=True)
class TransferCost:
    """The parts of one transfer's cost in USD."""

    gas_usd: float
    fee_usd: float
    waiting_usd: float
    risk_usd: float

    @property
    def total_usd(self) -> float:
        """All of them."""
        return self.gas_usd + self.fee_usd + self.waiting_usd + self.risk_usd


def bridge_terms(kind: str) -> BridgeTerms:
    """Return the prices of bridge ``kind``; ConfigError with the known ones otherwise."""
    if kind not in BRIDGE_TERMS:
        raise ConfigError(f"bridge {kind!r} has no prices; known are {', '.join(BRIDGE_TERMS)}")
    return BRIDGE_TERMS[kind]


def work_usd(
    fees: ChainFees, units: float, data_bytes: float, gas_gwei: float | Vector, native_usd: float | Vector
) -> float | Vector:
    """Return USD of ``units`` of gas and ``data_bytes`` of a roll-up's data on one chain; scalars or (T,) alike.

    ``gas_gwei`` is the settlement chain's price, as in ``costs.gas_lines``.
    """
    coin = native_usd * GWEI
    if fees.l2_gas_gwei is None:
        return units * gas_gwei * coin
    return (units * fees.l2_gas_gwei + data_bytes * fees.l1_scalar * CALLDATA_GAS_PER_BYTE * gas_gwei) * coin


def ends_usd(terms: BridgeTerms, market: Market) -> tuple[float, float]:
    """Return USD of gas of sending from, and of receiving on, the chain of ``market``."""
    out, into = (
        float(work_usd(market.fees, units, data, market.gas_gwei, market.native_usd))
        for units, data in ((terms.units_out, terms.bytes_out), (terms.units_in, terms.bytes_in))
    )
    return out, into


def transfer_cost(
    terms: BridgeTerms, origin: Market, destination: Market, usd: float, waiting_usd_per_h: float = 0.0
) -> TransferCost:
    """Return what sending ``usd`` costs; ``waiting_usd_per_h`` is the tracking cost of what it is meant for."""
    if usd < 0:
        raise ConfigError(f"a transfer of {usd} USD: give 0 or more")
    return TransferCost(
        ends_usd(terms, origin)[0] + ends_usd(terms, destination)[1],
        terms.fee * usd + terms.fixed_usd,
        max(0.0, waiting_usd_per_h) * terms.hours,
        (terms.risk + terms.stuck) * usd,
    )
