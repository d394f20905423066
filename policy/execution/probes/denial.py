"""Prices that the market denies: what is held would fetch, or be bought for, something else than NAV says.

Whoever enters or leaves at the oracle's price takes from the others what that price is off. A price is denied where a
fill of the traded pools, fees and impact included, beats it in either direction by more than a sound oracle allows, and
no average of a pool still bears it out: a price that was moved for a moment is none of the market's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lake.units import BPS, Bps
from policy.execution.base import Snapshot, Verdict
from policy.execution.checks.rules import E10, VaultBook
from policy.execution.checks.verdicts import NAV_DENIED, passed
from policy.execution.planner import book_of
from policy.execution.routing.amm import Pool
from policy.execution.routing.router import routes
from policy.execution.routing.segments import value

PROBE_USD = 1_000
"""Least a fill must be worth to prove anything."""
PROBE_PART = 100
"""... and as a part of what is held of the token: a hundredth."""
COUNTS_BPS = 100
"""Part of NAV a token must be to make NAV wrong."""
E18 = 10**18

Averages = Mapping[str, Mapping[str, int | None]]
"""Token address -> name of a pool's average -> USD x 1e8; None where the pool does not tell."""


def denied(snapshot: Snapshot, pools: Sequence[Pool], averages: Averages, most: Bps) -> list[Verdict]:
    """Return what says that NAV is wrong: a verdict for each token whose price a fill beats by more than ``most``.

    Empty where the vault itself finds a price bad, for then it is closed already, and where there are no shares.
    """
    book = book_of(snapshot)
    total = book.total()
    if not snapshot.supply or total <= 0 or min(book.prices_e8) <= 0 or any(not v.ok for v in snapshot.verdicts):
        return []
    found = []
    for i in range(1, len(book.tokens)):
        held = book.value(i, book.holdings[i])
        if held * BPS < COUNTS_BPS * total:
            continue
        usd = max(PROBE_USD * E18, held // PROBE_PART)
        for sold, bought in ((i, 0), (0, i)):
            gain, market_e8 = _fill(book, pools, sold, bought, usd)
            if gain > most and not _borne_out(book, i, averages, most):
                found.append(_verdict(book, i, gain, market_e8, most))
                break
    return found


def _fill(book: VaultBook, pools: Sequence[Pool], sold: int, bought: int, usd: int) -> tuple[int, int]:
    """Return by how many bp the best single route beats the oracle, and its price (USD x 1e8) of the one not cash."""
    amount = usd * 10 ** book.tokens[sold].decimals // (book.prices_e8[sold] * E10)
    ends = book.tokens[sold].address, book.tokens[bought].address
    outs = [value(r.segments, float(amount)) for r in routes(pools, *ends, amount)] if amount else []
    out = int(max((o for o in outs if o == o), default=0.0))  # noqa: PLR0124 - NaN test
    given, taken = book.value(sold, amount), book.value(bought, out)
    if not given or not taken:
        return 0, 0
    token = bought or sold
    price = book.prices_e8[token]
    return (taken - given) * BPS // given, price * taken // given if token == sold else price * given // taken


def _borne_out(book: VaultBook, i: int, averages: Averages, most: Bps) -> bool:
    """Return whether an average of a pool is as near to the oracle as it must be."""
    price = book.prices_e8[i]
    told = [a for a in averages.get(book.tokens[i].address, {}).values() if a]
    return any(abs(a - price) * BPS <= most * price for a in told)


def _verdict(book: VaultBook, i: int, gain_bps: int, market_e8: int, most: Bps) -> Verdict:
    token, price_e8 = book.tokens[i], book.prices_e8[i]
    reason = (
        f"{token.symbol}: the market trades at {market_e8 / 1e8:.8g} USD, NAV counts {price_e8 / 1e8:.8g} USD by its "
        f"feed {token.feed or 'unknown'}: {gain_bps} bp apart, {most} bp are honest"
    )
    figures = {"gain_bps": gain_bps, "allowed_bps": int(most), "price_e8": price_e8, "market_e8": market_e8}
    return passed(NAV_DENIED, reason, token=token.address, symbol=token.symbol, **figures)
