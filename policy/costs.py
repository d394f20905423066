"""The cost ledger: what a rebalance costs. The same functions give the expected and the charged cost.

All amounts are USD floats of an *accounting* kind (history and expectation); execution never takes an amount from here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lake.units import WEI_PER_GWEI
from lake.universe import chain
from policy.base import ChainFees, Market, Vector

GWEI = 1e-9
CALLDATA_GAS_PER_BYTE = 16  # non-zero calldata byte, EIP-2028; what a roll-up pays on L1 for its data
ONE_PERCENT_HALF = 0.005  # a trade of one depth moves the price by 1 %; its average price by half of that
GAS_BASE, GAS_PER_LEG = 130_000, 145_000  # of a rebalance of the reference vault
DEFAULT_FEE = 0.0005  # 5 bp: the lowest common pool fee tier of large pairs plus half a spread


@dataclass(frozen=True, slots=True)
class CostSplit:
    """Cost of one trade in USD, and its number of swap legs."""

    gas_usd: float
    fee_usd: float
    impact_usd: float
    legs: int

    @property
    def total_usd(self) -> float:
        """Gas, fee and impact together."""
        return self.gas_usd + self.fee_usd + self.impact_usd


def chain_fees(chain_id: int, gas_base: int = GAS_BASE, gas_per_leg: int = GAS_PER_LEG) -> ChainFees:
    """Return the fee schedule of a rebalance on ``chain_id``, from the chain's row; raises ConfigError if unknown.

    The gas defaults are those of the reference vault (275,021 gas for one leg, 419,897 for two); raise them for
    a vault with costlier accounting.
    """
    row = chain(chain_id)
    if row.l1_chain_id is None:
        return ChainFees(chain_id, gas_base, gas_per_leg)
    return ChainFees(
        chain_id, gas_base, gas_per_leg, row.l2_gas_gwei, row.l1_bytes_base, row.l1_bytes_per_leg, row.l1_scalar
    )


def gas_lines(
    fees: ChainFees, gas_gwei: float | Vector, native_usd: float | Vector
) -> tuple[float | Vector, float | Vector]:
    """Return USD of the fixed part and of each further leg of a rebalance; scalars or (T,) arrays alike.

    ``gas_gwei`` is the settlement chain's price (L1 for a roll-up), ``native_usd`` USD per native coin. On a roll-up
    execution costs ``l2_gas_gwei`` and the data 16 gas a byte times ``l1_scalar`` at the L1 price.
    """
    coin = native_usd * GWEI
    if fees.l2_gas_gwei is None:
        return fees.gas_base * gas_gwei * coin, fees.gas_per_leg * gas_gwei * coin
    data = fees.l1_scalar * CALLDATA_GAS_PER_BYTE * gas_gwei
    return (
        (fees.gas_base * fees.l2_gas_gwei + fees.l1_bytes_base * data) * coin,
        (fees.gas_per_leg * fees.l2_gas_gwei + fees.l1_bytes_per_leg * data) * coin,
    )


def gas_share(market: Market, nav_usd: float) -> float:
    """Return the gas of a trade of one leg now, fraction of NAV; inf where there is none."""
    base, leg = gas_lines(market.fees, market.gas_gwei, market.native_usd)
    return (float(base) + float(leg)) / nav_usd if nav_usd > 0 else float("inf")


def data_wei(fees: ChainFees, data_bytes: int, gas_gwei: float) -> int:
    """Return wei that a roll-up charges for ``data_bytes`` of call data beside its gas, by its row; 0 on L1.

    ``gas_gwei`` is the settlement chain's price.
    """
    return round(fees.l1_scalar * CALLDATA_GAS_PER_BYTE * data_bytes * gas_gwei * WEI_PER_GWEI)


def impact_per_square(nav_usd: float, depth_usd: Vector) -> Vector:
    """Return the impact of a weight change per squared weight, as a fraction of NAV; inf depth gives 0."""
    return np.asarray(0.5 * ONE_PERCENT_HALF * nav_usd / depth_usd, dtype=np.float64)


def legs_of(change: Vector) -> int:
    """Return the swaps needed for a weight change: traded assets less one, at least 1; 0 when nothing moves."""
    traded = int(np.count_nonzero(change))
    return 0 if traded == 0 else max(1, traded - 1)


def trade_cost(market: Market, nav_usd: float, before: Vector, after: Vector) -> CostSplit:
    """Return what moving weights from ``before`` to ``after`` costs at ``market`` for a portfolio of ``nav_usd``.

    Fee: ``sum fee_i |dw_i| W / 2`` (each swap touches two weights). Impact: ``sum 0.5 * 0.005 (|dw_i| W)^2 / depth_i``
    (a trade of S moves a pool of depth D by S/D percent and pays half of it: constant product, small trades).
    """
    change = after - before
    legs = legs_of(change)
    if legs == 0:
        return CostSplit(0.0, 0.0, 0.0, 0)
    base, per_leg = gas_lines(market.fees, market.gas_gwei, market.native_usd)
    moved = np.abs(change) * nav_usd
    fee = float(np.sum(market.fee * moved)) / 2
    impact = float(impact_per_square(1.0, market.depth_usd) @ moved**2)
    return CostSplit(float(base) + float(per_leg) * legs, fee, impact, legs)
