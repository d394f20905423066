"""The reference oracle's price rules in integers: equal to contracts/foredrift_oracle.vy, to the last unit.

Prices are USD x 1e8. Verdict codes are the contract's: 0 is good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lake.sequencer import Uptime, judge
from lake.units import BPS
from policy.execution.base import Verdict

GOOD, UNREACHABLE, NOT_POSITIVE, STALE, SECOND_BAD, DEVIATES, SEQUENCER = range(7)
REASONS = (
    "good",
    "the feed does not answer",
    "the answer is not positive, or too large for a price",
    "the price is older than the feed's heartbeat",
    "the second source has no good price",
    "the two sources are too far apart",
    "the L2 sequencer is down, or back for less than its grace time",
)
ALONE, FEED, TWAP_0, TWAP_1, WORTHLESS = range(5)
MAX_PRICE = 2**64 - 1
MAX_TICK = 443_636
RATIOS = (
    0xFFF97272373D413259A46990580E2139,
    0xFFF2E50F5F656932EF12357CF3C7FDCB,
    0xFFE5CACA7E10E4E61C3624EAA0941CCF,
    0xFFCB9843D60F6159C9DB58835C926643,
    0xFF973B41FA98C081472E6896DFB254BF,
    0xFF2EA16466C96A3843EC78B326B52860,
    0xFE5DEE046A99A2A811C461F1969C3052,
    0xFCBE86C7900A88AEDCFFC83B479AA3A3,
    0xF987A7253AC413176F2B074CF7815E53,
    0xF3392B0822B70005940C7A398E4B70F2,
    0xE7159475A2C29B7443B29C7FA6E889D8,
    0xD097F3BDFD2022B8845AD8F792AA5825,
    0xA9F746462D870FDF8A65DC1F90E061E4,
    0x70D869A156D2A1B890BB3DF62BAF32F6,
    0x31BE135F97D08FD981231505542FCFA5,
    0x9AA508B5B7A84E1C677DE54F3E99BC8,
    0x5D6AF8DEDB81196699C329225EE604,
    0x2216E584F5FA1EA926041BEDFE97,
    0x48A170391F7DC42444E8FA2,
)
"""floor(2^128 / 1.0001^(2^k)) for k of 0 to 18: written out, since the last one takes half a second to work out."""


@dataclass(frozen=True, slots=True)
class PriceSource:
    """One token's two sources, as ``Source`` of the contract; see ``deployment.TokenSource`` for what to choose."""

    token: str
    decimals: int
    feed: str
    heartbeat_s: int
    feed_decimals: int
    second: str
    second_s: int
    second_detail: int
    deviation_bps: int
    second_kind: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What ``latestRoundData`` returned; ``started_at`` matters for a sequencer feed only."""

    round_id: int
    answer: int
    started_at: int
    updated_at: int


Observed = tuple[int, int] | None
"""Tick cumulatives (window seconds ago, now) of a v3 pool; None when it does not answer."""


@dataclass(frozen=True, slots=True)
class FeedAnswers:
    """Everything the oracle would read, at one block: by token position."""

    first: Sequence[Answer | None]
    second: Sequence[Answer | Observed]
    sequencer: Answer | None = None


def read(answer: Answer | None, heartbeat_s: int, decimals: int, now: int) -> tuple[int, int]:
    """Return (price, verdict code) of one feed at block time ``now``."""
    if answer is None:
        return 0, UNREACHABLE
    if not 0 < answer.answer < 2**127:
        return 0, NOT_POSITIVE
    price = answer.answer * 10**8 // 10**decimals
    if not 0 < price <= MAX_PRICE:
        return 0, NOT_POSITIVE
    if answer.updated_at == 0 or answer.updated_at > now or now - answer.updated_at > heartbeat_s:
        return price, STALE
    return price, GOOD


def power(tick: int) -> int:
    """Return 1.0001^tick x 2^96 as the contract rounds it; abs(tick) <= 443,636."""
    ratio = 2**128
    for k in range(19):
        if abs(tick) >> k & 1:
            ratio = ratio * RATIOS[k] >> 128
    return (2**224 - 1) // ratio if tick > 0 else ratio >> 32


def average(source: PriceSource, observed: Observed, quote_price: int, quote_decimals: int) -> tuple[int, int]:
    """Return (price, code) of a v3 pool's time-weighted geometric mean, in the quote token's good price."""
    if observed is None or max(abs(observed[0]), abs(observed[1])) >= 2**56:
        return 0, UNREACHABLE
    tick = (observed[1] - observed[0]) // source.second_s  # Python rounds down, as the contract is made to
    tick = -tick if source.second_kind == TWAP_1 else tick
    if abs(tick) > MAX_TICK:
        return 0, UNREACHABLE
    raw = quote_price * power(tick) >> 64
    return (raw * 10**source.decimals // 10**quote_decimals) >> 32, GOOD


def price(i: int, sources: Sequence[PriceSource], evidence: FeedAnswers, now: int) -> tuple[int, int]:
    """Return (the feed's price, code by both sources) of token ``i``."""
    found, _, code = both(i, sources, evidence, now)
    return found, code


def both(i: int, sources: Sequence[PriceSource], evidence: FeedAnswers, now: int) -> tuple[int, int, int]:
    """Return (the feed's price, the second source's, code) of token ``i``; twice the feed's where there is no other.

    Who enters a vault pays on the higher of the two, who leaves is paid on the lower.
    """
    source = sources[i]
    if source.second_kind == WORTHLESS:
        return 1, 1, GOOD
    found, code = read(evidence.first[i], source.heartbeat_s, source.feed_decimals, now)
    if code != GOOD or source.second_kind == ALONE:
        return found, found, code
    second = evidence.second[i]
    if source.second_kind == FEED:
        answer = second if isinstance(second, Answer) else None
        other, code = read(answer, source.second_s, source.second_detail, now)
    else:
        j = source.second_detail
        base, code = read(evidence.first[j], sources[j].heartbeat_s, sources[j].feed_decimals, now)
        observed = second if isinstance(second, tuple) else None
        other, code = average(source, observed, base, sources[j].decimals) if code == GOOD else (0, code)
    if code != GOOD or not 0 < other <= MAX_PRICE:
        return found, found, SECOND_BAD
    return found, other, DEVIATES if abs(found - other) * BPS > source.deviation_bps * other else GOOD


def sequencer_code(answer: Answer | None, grace_s: int, now: int) -> int:
    """Return the verdict on an L2's uptime feed (answer 0 is up; ``started_at`` is when it last changed)."""
    found = judge(answer.answer if answer else None, answer.started_at if answer else 0, now, grace_s)
    return GOOD if found.uptime is Uptime.UP else SEQUENCER


def codes(
    sources: Sequence[PriceSource], evidence: FeedAnswers, now: int, grace_s: int | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return prices and verdict codes of all tokens at block time ``now``; ``grace_s`` None: no sequencer to ask."""
    rows = [price(i, sources, evidence, now) for i in range(len(sources))]
    down = grace_s is not None and sequencer_code(evidence.sequencer, grace_s, now) != GOOD
    return tuple(p for p, _ in rows), tuple(SEQUENCER if down else c for _, c in rows)


def verdicts(
    symbols: Sequence[str], prices: Sequence[int], found: Sequence[int], addresses: Sequence[str] | None = None
) -> list[Verdict]:
    """Return a failed verdict for every price that is not good; with ``addresses``, each names its token's."""
    rows = zip(symbols, prices, found, addresses or [""] * len(symbols), strict=True)
    return [
        Verdict(
            "oracle",
            ok=False,
            reason=f"{s}: {REASONS[c]}",
            figures={"price_e8": p, "code": c, **({"token": a} if a else {})},
        )
        for s, p, c, a in rows
        if c != GOOD
    ]
