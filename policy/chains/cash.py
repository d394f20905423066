"""How much cash to keep on each chain: a lower point from the demand until help arrives, a goal from what is free.

The (s, S) rule of cash balances (Miller-Orr 1966, Eppen-Fama 1969) with the delay of a transfer. Investors withdraw in
lumps, so the lower point of chain c is the quantile alpha of ONE withdrawal and of what else is withdrawn until a
transfer arrives: a normal distribution over so few hours would hold less than a single withdrawal. alpha is the
newsvendor's, ``1 - (cost of holding one more) / (cost of being one short)``. The portfolio wants a share of cash
anyway: as long as the lower points fit in it the rest is free, and lies where it will be withdrawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lake.errors import ConfigError
from policy.base import Matrix, Vector

CELLS = 512  # of the grid a demand is counted on
ALPHA_LEAST, ALPHA_MOST = 0.5, 0.995
FEWEST = 8  # withdrawals: with less seen nothing is said about their sizes
HORIZON_D = 14.0  # over which free cash is laid out
KEPT = 0.9  # of the cash there is: lower points beyond it are cut


@dataclass(frozen=True, slots=True)
class FlowOutlook:
    """What is expected of one chain's investors; USD. ``sizes`` (k,) are withdrawals, all equally likely.

    ``drift_per_day`` is the mean of deposits less withdrawals, ``variance_per_day`` its variance.
    """

    withdrawals_per_h: float
    sizes: Vector
    drift_per_day: float
    variance_per_day: float


def outlook(flows: Vector, others: Vector | None = None) -> FlowOutlook | None:
    """Return the outlook after hourly net ``flows`` (T,) of one chain, oldest first; None with too few withdrawals.

    ``others``: withdrawals seen elsewhere, whose sizes stand in while this chain's are few. Raises ConfigError for
    flows that are no numbers.
    """
    if not np.isfinite(flows).all():
        raise ConfigError("flows hold a value that is no number; leave out the hours that were not read")
    out = -flows[flows < 0.0]
    pool = out if others is None or out.size >= 4 * FEWEST else np.concatenate([out, others])
    if pool.size < FEWEST or flows.size == 0:
        return None
    shrunk = 24.0 * flows.size / (flows.size + 24.0 * HORIZON_D)  # the drift of a short record is mostly chance
    return FlowOutlook(
        (out.size + 0.5) / flows.size, np.sort(pool), float(flows.mean()) * shrunk, float(24.0 * flows.var())
    )


def demand_quantile(flows: FlowOutlook, hours: float, alpha: float) -> float:
    """Return the quantile ``alpha`` in USD of one withdrawal and all others of the ``hours`` before it.

    The sizes are rounded up to a grid, and their compound Poisson sum is taken by the transform of its distribution.
    """
    if not 0.0 < alpha < 1.0 or hours < 0.0:
        raise ConfigError(f"alpha {alpha} and {hours} hours: required are 0 < alpha < 1 and 0 hours or more")
    expected = flows.withdrawals_per_h * hours
    top = float(flows.sizes[-1]) * (2.0 + 3.0 * expected + 3.0 * np.sqrt(expected))
    step = top / (CELLS - 1)
    cells = np.minimum(np.ceil(flows.sizes / step - 1e-9).astype(np.int64), CELLS - 1)
    one = np.fft.rfft(np.bincount(cells, minlength=2 * CELLS) / flows.sizes.size)
    total = np.fft.irfft(one * np.exp(expected * (one - 1.0)), 2 * CELLS)
    at = int(np.searchsorted(np.cumsum(total), alpha - 1e-12))
    return float(step * min(at, CELLS - 1))


def service_level(holding: float, shortage: float) -> float:
    """Return alpha from the cost of holding one more and of being one short, between ALPHA_LEAST and ALPHA_MOST."""
    if holding < 0.0 or shortage <= 0.0:
        raise ConfigError(f"holding costs {holding} and a shortage {shortage}; give 0 or more, and more than 0")
    return float(np.clip(1.0 - holding / shortage, ALPHA_LEAST, ALPHA_MOST))


def space_price(fix_usd: float, variance_per_day: float, room_usd: float) -> float:
    """Return what a USD of room for cash to wander in is worth a day: ``2 C sigma^2 / room^3``.

    Cash that wanders over ``room_usd`` asks for about sigma^2 / room^2 transfers of ``fix_usd`` a day.
    """
    return 2.0 * fix_usd * variance_per_day / max(room_usd, 1.0) ** 3


def alpha_of(flows: FlowOutlook, help_usd: float, sale_usd: float, carry_per_day: float) -> float:
    """Return the service level; ``help_usd`` and ``sale_usd``: what a mean withdrawal short costs by either way out.

    Help is a transfer that arrives at once, beyond what one in time would have cost; the other way is to sell, and to
    buy again. One USD more lies idle from one withdrawal to the next.
    """
    cycle_d = 1.0 / (24.0 * max(flows.withdrawals_per_h, 1e-9))
    short = max(1e-12, min(help_usd, 2.0 * sale_usd) / float(flows.sizes.mean()))
    return service_level(carry_per_day * cycle_d, short)


def spread(fix_usd: float, variance_per_day: float, carry_per_day: float) -> float:
    """Return S - s of Miller-Orr, ``3 (3 C sigma^2 / (4 r))^(1/3)``; inf where cash may lie anywhere (r = 0)."""
    if carry_per_day <= 0.0:
        return float("inf")
    return 3.0 * float(np.cbrt(0.75 * fix_usd * variance_per_day / carry_per_day))


@dataclass(frozen=True, slots=True)
class CashCosts:
    """What cash on one chain costs to bring or to lack; USD, fees are fractions.

    ``fix_usd``: of a transfer to it beside its fee. ``swap_usd``: usual gas of selling, ``swap_fee`` and ``impact``
    (USD a squared USD) of it; ``fast_more``: fee of a transfer that arrives at once over that of one in time.
    """

    fix_usd: float
    swap_usd: float
    swap_fee: float
    impact: float
    fast_more: float


def chain_levels(
    flows: Matrix, costs: Sequence[CashCosts], lead_h: float, cash_usd: float
) -> tuple[Vector, Vector] | None:
    """Return (C,) lower points and goals, USD, after hourly net ``flows`` (T, C) of all chains, oldest first.

    None while fewer than FEWEST withdrawals were seen on all of them together. ``lead_h``: hours from noticing to
    arrival; ``cash_usd``: what the portfolio wants of cash in all.
    """
    out = -flows[flows < 0.0]
    seen = [outlook(flows[:, c], out) for c in range(flows.shape[1])]
    if any(s is None for s in seen):
        return None
    known = [s for s in seen if s is not None]
    alphas, widest = [], []
    for s, c in zip(known, costs, strict=True):
        lump, carry = float(s.sizes.mean()), space_price(c.fix_usd, s.variance_per_day, cash_usd / len(known))
        sale = c.swap_usd + c.swap_fee * lump + c.impact * lump**2
        alphas.append(alpha_of(s, c.fast_more * lump, sale, carry))
        widest.append(spread(c.fix_usd, s.variance_per_day, carry))
    return levels(known, alphas, lead_h, cash_usd, widest)


def levels(
    flows: Sequence[FlowOutlook], alphas: Sequence[float], lead_h: float, cash_usd: float, widest: Sequence[float]
) -> tuple[Vector, Vector]:
    """Return (C,) lower points s and goals of the chains, USD, for ``cash_usd`` on all of them together.

    ``lead_h``: hours from noticing to arrival. What is free above the lower points is laid out by what each chain will
    need over HORIZON_D days, at most ``widest`` USD (see ``spread``) on each.
    """
    low = np.array([demand_quantile(f, lead_h, a) for f, a in zip(flows, alphas, strict=True)])
    room = KEPT * max(cash_usd, 0.0)
    low *= min(1.0, room / low.sum()) if low.sum() > 0.0 else 1.0
    free = max(0.0, cash_usd - low.sum())
    need = np.array([
        max(0.0, -f.drift_per_day) * HORIZON_D + np.sqrt(f.variance_per_day * HORIZON_D) for f in flows
    ])  # fmt: skip
    part = np.full(low.size, 1.0 / low.size) if need.sum() <= 0.0 else need / need.sum()
    return low, low + np.minimum(free * part, np.asarray(widest))
