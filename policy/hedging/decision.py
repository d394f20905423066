"""One hedge decision at one moment, by the rules that are compared on history: ``hedge_gas_band`` or ``hedge_hard``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lake.errors import DataError
from policy.hedging.case import HedgeCase, HedgeCosts
from policy.hedging.strategies import Band, hedge_gas_band, hedge_hard


@dataclass(frozen=True, slots=True)
class HedgeMandate:
    """``gamma``: risk aversion of a soft mandate; ``delta_limit``: a hard one, of NAV. Exactly one is given."""

    gamma: float | None = None
    delta_limit: float | None = None

    def __post_init__(self) -> None:
        """Refuse both, neither and what is not positive."""
        given = [v for v in (self.gamma, self.delta_limit) if v is not None]
        if len(given) != 1 or not 0.0 < given[0] < math.inf:
            raise DataError(
                f"gamma {self.gamma}, delta_limit {self.delta_limit}: exactly one positive number is required"
            )

    @property
    def rule(self) -> str:
        """Name of the rule that decides."""
        return "hedge_gas_band" if self.delta_limit is None else "hedge_hard"


@dataclass(frozen=True, slots=True)
class HedgeMoment:
    """What is known at a decision: net delta less the wanted one (units), cash gamma of the book (USD, signed).

    ``vol`` a year, ``left_y`` years to the first roll or expiry (inf without an end), gas now and usual (USD a hedge),
    ``fee`` a fraction of what is traded, ``every_s`` seconds to the next decision.
    """

    price_usd: float
    nav_usd: float
    net_units: float
    cash_gamma_usd: float
    vol: float
    left_y: float
    gas_usd: float
    usual_gas_usd: float
    fee: float
    every_s: float


@dataclass(frozen=True, slots=True)
class HedgeChoice:
    """Change of the net delta in units (0: none); net delta ``x`` and levels in fractions of NAV."""

    change_units: float
    x: float
    outer: float
    inner: float
    benefit_usd: float
    why: str


def decide_hedge(m: HedgeMoment, mandate: HedgeMandate) -> HedgeChoice:
    """Return what ``mandate`` asks at ``m``; raises DataError naming a number that cannot be one."""
    for name, value, least in (
        ("price", m.price_usd, 0.0), ("net asset value", m.nav_usd, 0.0), ("volatility", m.vol, 0.0),
        ("time to the next decision", m.every_s, 0.0), ("time to the roll", m.left_y, 0.0),
    ):  # fmt: skip
        if not value > least:
            raise DataError(f"hedge: {name} is {value}; a positive number is required")
    if not (math.isfinite(m.net_units) and math.isfinite(m.cash_gamma_usd) and m.gas_usd >= 0.0 and m.fee >= 0.0):
        raise DataError(f"hedge: net delta {m.net_units}, gamma {m.cash_gamma_usd}, gas {m.gas_usd}, fee {m.fee}")
    one = np.ones(1)
    phi = abs(m.cash_gamma_usd) / m.nav_usd
    costs = HedgeCosts(one * m.gas_usd / m.nav_usd, one * m.usual_gas_usd / m.nav_usd, m.fee)
    case = HedgeCase(
        one * m.price_usd, one * 0.0, one * phi, one * m.vol, one * m.left_y, costs, m.every_s / 3600.0
    )  # fmt: skip
    band = _band(case, mandate)
    outer, inner = float(band.outer[0]), float(band.inner[0])
    x = m.net_units * m.price_usd / m.nav_usd
    said = f"net delta {100 * x:+.2f} % of NAV, band {100 * outer:.2f} %"
    if abs(x) < outer or abs(x) <= inner:
        return HedgeChoice(0.0, x, outer, inner, 0.0, f"{said}: inside")
    to = math.copysign(inner, x)
    lasts = min(((outer - inner) / max(phi * m.vol, 1e-9)) ** 2, m.left_y, 1.0)
    gamma = mandate.gamma if mandate.gamma is not None else 2.0 * (costs.gas[0] + m.fee * abs(x - to)) / x**2
    benefit = 0.5 * gamma * m.vol**2 * (x * x - to * to) * lasts * m.nav_usd
    change = (to - x) * m.nav_usd / m.price_usd
    return HedgeChoice(change, x, outer, inner, benefit, f"{said}: to {100 * to:+.2f} %")


def _band(case: HedgeCase, mandate: HedgeMandate) -> Band:
    if mandate.delta_limit is not None:
        return hedge_hard(case, mandate.delta_limit, case.costs.usual)
    return hedge_gas_band(case, float(mandate.gamma or 0.0), cadence=True)
