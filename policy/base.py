"""State, Decision and the Policy protocol: the same ``decide`` serves backtest, dry run and live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Scenario = Literal["soft", "hard"]
Action = Literal["trade", "wait", "split", "forced"]


@dataclass(frozen=True, slots=True)
class ChainFees:
    """How one chain charges a rebalance; a row per chain in ``lake.universe``.

    Gas of a rebalance with L legs is ``gas_base + gas_per_leg * L`` units (defaults measured on the reference
    vault: 275,021 gas for one leg, 419,897 for two). On a roll-up ``l1_bytes_*`` x 16 gas x ``l1_scalar`` at
    the L1 gas price is added, and execution is charged at ``l2_gas_gwei``.
    """

    chain_id: int
    gas_base: int = 130_000
    gas_per_leg: int = 145_000
    l2_gas_gwei: float | None = None  # None: execution is charged at the chain's own recorded gas price
    l1_bytes_base: int = 0
    l1_bytes_per_leg: int = 0
    l1_scalar: float = 0.0


@dataclass(frozen=True, slots=True)
class Market:
    """Prices of acting now. Everything in it was known at the decision's time."""

    gas_gwei: float  # current gas price of the settlement chain (L1 price for a roll-up)
    native_usd: float  # USD per native coin
    fees: ChainFees
    fee: Vector  # (n,) proportional cost, fraction of the traded value, pool fee plus half spread
    depth_usd: Vector  # (n,) one-sided USD depth to a 1 % move; inf means no impact
    usual_gwei: float | None = None  # mean gas price of the last week; None: gas_gwei
    tradable: Bools | None = None  # (n,) which assets have a market now; None: all


@dataclass(frozen=True, slots=True)
class CashFlows:
    """Holders' money on its way, fractions of NAV as it is now; it comes and goes in the accounting asset, the first.

    ``coming``: requested deposits, not held yet; ``leaving``: requested withdrawals, still held; ``reserve``: cash to
    keep for withdrawals that are only expected; ``net``: whether a trade waits for money that will do it.
    """

    coming: float = 0.0
    leaving: float = 0.0
    reserve: float = 0.0
    net: bool = True


@dataclass(frozen=True, slots=True)
class State:
    """One portfolio at one moment. Vectors are (n,) in the order of ``assets``; weights and target sum to 1."""

    ts: datetime
    assets: tuple[str, ...]
    weights: Vector
    target: Vector
    tolerance: Vector  # hard mandate: cap on abs(weight - target)
    nav_usd: float
    gamma: float  # risk aversion of the soft mandate's tracking penalty, gamma/2 x'Sigma x per year
    scenario: Scenario
    covariance: Matrix  # (n, n) per hour, of hourly simple returns, estimated from the past
    market: Market
    last_trade: datetime | None = None
    max_turnover: float = 1.0  # most one trade may move, one-way, of NAV; 1 never binds
    flows: CashFlows | None = None  # None: none is known; see ``policy.netting``


def tradable(state: State) -> Bools:
    """Return (n,) which assets of ``state`` can be traded now."""
    given = state.market.tradable
    return np.ones(state.target.size, dtype=np.bool_) if given is None else given


@dataclass(frozen=True, slots=True)
class Forecast:
    """One forecast row: see ``models.base`` for targets and units; ``quantiles`` are 5, 25, 50, 75, 95 %."""

    target: str
    key: str
    issued_at: datetime
    horizon_s: int
    quantiles: tuple[float, float, float, float, float] | None
    mean: float | None
    model_version: str
    abstain: bool = False
    reason: str | None = None


ForecastView = Mapping[tuple[str, str, int], Forecast]
"""Latest forecasts with issued_at <= the decision's time, by (target, key, horizon_s)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, why, and what it is expected to be worth. USD figures are expectations at decision time."""

    action: Action
    weights: Vector  # weights to trade to now; the current ones when waiting
    benefit_usd: float  # expected fall of the future cost by trading now
    cost_usd: float  # expected gas + fee + impact of the trade now
    value_of_waiting_usd: float  # expected gain from leaving the trade for later; 0 when trading is best
    why: str  # one sentence with the figures that decided
    fallback: str | None = None  # name of the policy that decided instead, with its reason in ``why``
    details: Mapping[str, float | str] = field(default_factory=dict)


class Policy(Protocol):
    """A rebalancing rule."""

    @property
    def name(self) -> str:
        """Name in results and records."""
        ...

    def decide(self, state: State, forecasts: ForecastView) -> Decision:
        """Return the decision for ``state``; pure, and dependent on nothing after ``state.ts``."""
        ...
