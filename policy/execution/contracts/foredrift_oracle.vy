# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Prices of a portfolio's tokens from two sources each
@notice Prices are USD x 1e8. A price is good when the feed answers, answer > 0, its age is within that feed's own
        heartbeat, the L2 sequencer (where there is one) has been up for its grace time, and a second source (another
        feed, or the time-weighted price of a Uniswap v3 pool) agrees within `deviation_bps`. Both sides of the two are
        told: who enters a vault pays on the higher, who leaves is paid on the lower. A token given up is WORTHLESS: it
        has a price of one unit, whatever feeds say. Nothing here can be changed: a vault moves to other feeds by
        pointing, through its timelock, at a new oracle. No read reverts.
"""

struct Source:
    token: address
    decimals: uint256
    feed: address
    heartbeat_s: uint256  # a round older than this is stale
    feed_decimals: uint256
    second: address  # second feed, or v3 pool
    second_s: uint256  # its heartbeat, or the window of the average, seconds
    second_detail: uint256  # its decimals, or the index of the token the pool is quoted in
    deviation_bps: uint256  # most the two may differ, of the second
    second_kind: uint256  # ALONE, FEED, TWAP_0 (the token is the pool's token0), TWAP_1, WORTHLESS

MAX_TOKENS: constant(uint256) = 8
BPS: constant(uint256) = 10_000
LOW: constant(uint256) = 2**160 - 1
MAX_PRICE: constant(uint256) = 2**64 - 1
ALONE: constant(uint256) = 0  # no second source
FEED: constant(uint256) = 1
TWAP_0: constant(uint256) = 2
TWAP_1: constant(uint256) = 3
WORTHLESS: constant(uint256) = 4
MAX_TICK: constant(int256) = 443_636  # beyond 1.0001^this = 2^64 a pool is no price source

# verdict on a price
GOOD: constant(uint256) = 0
UNREACHABLE: constant(uint256) = 1
NOT_POSITIVE: constant(uint256) = 2
STALE: constant(uint256) = 3
SECOND_BAD: constant(uint256) = 4
DEVIATES: constant(uint256) = 5
SEQUENCER: constant(uint256) = 6

# floor(2^128 / 1.0001^(2^k)), k = 0 .. 18
RATIOS: constant(uint256[19]) = [
    340248342086729790484326174814286782777,
    340214320654664324051920982716015181259,
    340146287995602323631171512101879684303,
    340010263488231146823593991679159461443,
    339738377640345403697157401104375502015,
    339195258003219555707034227454543997024,
    338111622100601834656805679988414885970,
    335954724994790223023589805789778977699,
    331682121138379247127172139078559817299,
    323299236684853023288211250268160618738,
    307163716377032989948697243942600083928,
    277268403626896220162999269216087595045,
    225923453940442621947126027127485391332,
    149997214084966997727330242082538205942,
    66119101136024775622716233608466517925,
    12847376061809297530290974190478138312,
    485053260817066172746253684029974020,
    691415978906521570653435304214167,
    1404880482679654955896180642,
]

SEQUENCER_FEED: immutable(address)
SEQUENCER_GRACE: immutable(uint256)
COUNT: immutable(uint256)
A: immutable(uint256[MAX_TOKENS])  # token | decimals << 160
B: immutable(uint256[MAX_TOKENS])  # feed | heartbeat << 160 | feed decimals << 192
C: immutable(uint256[MAX_TOKENS])  # second | seconds << 160 | detail << 192 | deviation << 200 | kind << 216


@deploy
def __init__(_sources: DynArray[Source, MAX_TOKENS], _sequencer: address, _grace: uint256):
    SEQUENCER_FEED = _sequencer
    SEQUENCER_GRACE = _grace
    COUNT = len(_sources)
    a: uint256[MAX_TOKENS] = empty(uint256[MAX_TOKENS])
    b: uint256[MAX_TOKENS] = empty(uint256[MAX_TOKENS])
    c: uint256[MAX_TOKENS] = empty(uint256[MAX_TOKENS])
    for i: uint256 in range(len(_sources), bound=MAX_TOKENS):
        s: Source = _sources[i]
        assert s.token != empty(address), "source"
        assert s.feed != empty(address) or s.second_kind == WORTHLESS, "source"
        self._says(s.token, s.decimals, True)
        self._says(s.feed, s.feed_decimals, False)
        if s.second_kind == FEED:
            self._says(s.second, s.second_detail, False)
        assert s.decimals <= 18 and s.feed_decimals <= 18, "source"
        assert s.heartbeat_s > 0 and s.heartbeat_s < 2**32 and s.second_s < 2**32, "source"
        assert s.second_detail <= 18 and s.deviation_bps <= BPS and s.second_kind <= WORTHLESS, "source"
        if s.second_kind != ALONE and s.second_kind != WORTHLESS:
            assert s.second != empty(address) and s.second_s > 0 and s.deviation_bps > 0, "source"
        if s.second_kind == TWAP_0 or s.second_kind == TWAP_1:
            assert s.second_detail < len(_sources) and s.second_detail != i, "source"
        a[i] = convert(s.token, uint256) | (s.decimals << 160)
        b[i] = convert(s.feed, uint256) | (s.heartbeat_s << 160) | (s.feed_decimals << 192)
        c[i] = (
            convert(s.second, uint256)
            | (s.second_s << 160)
            | (s.second_detail << 192)
            | (s.deviation_bps << 200)
            | (s.second_kind << 216)
        )
    A = a
    B = b
    C = c


@internal
@view
def _says(account: address, expected: uint256, token: bool):
    """@dev What `decimals()` answers, where it answers, is what is configured."""
    ok: bool = False
    data: Bytes[32] = b""
    ok, data = raw_call(
        account, method_id("decimals()"), max_outsize=32, is_static_call=True, revert_on_failure=False
    )
    if ok and len(data) == 32:
        if token:
            assert convert(data, uint256) == expected, "token decimals"
        else:
            assert convert(data, uint256) == expected, "feed decimals"


@external
@view
def quotes() -> DynArray[uint256, MAX_TOKENS]:
    """@notice Per token: lower price | higher price << 64 | the first feed's own << 128 | verdict << 192; 0 is good."""
    out: DynArray[uint256, MAX_TOKENS] = []
    down: uint256 = self._sequencer_code()
    for i: uint256 in range(COUNT, bound=MAX_TOKENS):
        price: uint256 = 0
        other: uint256 = 0
        code: uint256 = 0
        price, other, code = self._price(i)
        out.append(
            min(price, other)
            | (max(price, other) << 64)
            | (price << 128)
            | ((code if down == GOOD else down) << 192)
        )
    return out


@external
@view
def prices() -> (DynArray[uint256, MAX_TOKENS], uint256):
    """@notice The feed's price of every token, 0 where it is not good, and the first verdict that is not GOOD (0)."""
    out: DynArray[uint256, MAX_TOKENS] = []
    first_bad: uint256 = self._sequencer_code()
    for i: uint256 in range(COUNT, bound=MAX_TOKENS):
        price: uint256 = 0
        other: uint256 = 0
        code: uint256 = first_bad
        if first_bad != SEQUENCER:
            price, other, code = self._price(i)
        if code != GOOD:
            price = 0
            if first_bad == GOOD:
                first_bad = code
        out.append(price)
    return out, first_bad


@external
@view
def tokens() -> DynArray[address, MAX_TOKENS]:
    """@notice The tokens priced, in order."""
    out: DynArray[address, MAX_TOKENS] = []
    for i: uint256 in range(COUNT, bound=MAX_TOKENS):
        out.append(convert(A[i] & LOW, address))
    return out


@external
@view
def quote(i: uint256) -> (uint256, uint256):
    """@notice Token `i`'s price as its feed gives it, and the verdict on it."""
    assert i < COUNT, "source"
    price: uint256 = 0
    other: uint256 = 0
    code: uint256 = 0
    price, other, code = self._price(i)
    sequencer_code: uint256 = self._sequencer_code()
    return price, code if sequencer_code == GOOD else sequencer_code


@external
@view
def sources() -> DynArray[Source, MAX_TOKENS]:
    """@notice The configured tokens in order; the first is the accounting asset."""
    rows: DynArray[Source, MAX_TOKENS] = []
    for i: uint256 in range(COUNT, bound=MAX_TOKENS):
        a: uint256 = A[i]
        b: uint256 = B[i]
        c: uint256 = C[i]
        rows.append(
            Source(
                token=convert(a & LOW, address),
                decimals=a >> 160,
                feed=convert(b & LOW, address),
                heartbeat_s=(b >> 160) & (2**32 - 1),
                feed_decimals=b >> 192,
                second=convert(c & LOW, address),
                second_s=(c >> 160) & (2**32 - 1),
                second_detail=(c >> 192) & 255,
                deviation_bps=(c >> 200) & (2**16 - 1),
                second_kind=c >> 216,
            )
        )
    return rows


@external
@view
def sequencer() -> (address, uint256):
    """@notice The L2 sequencer's uptime feed (empty on L1) and its grace time in seconds."""
    return SEQUENCER_FEED, SEQUENCER_GRACE


@internal
@view
def _sequencer_code() -> uint256:
    """@dev Chainlink's uptime feed: answer 0 is up; startedAt is when it last changed."""
    if SEQUENCER_FEED == empty(address):
        return GOOD
    ok: bool = False
    data: Bytes[160] = b""
    ok, data = raw_call(
        SEQUENCER_FEED, method_id("latestRoundData()"), max_outsize=160, is_static_call=True, revert_on_failure=False
    )
    if not ok or len(data) != 160:
        return SEQUENCER
    started: uint256 = extract32(data, 64, output_type=uint256)
    if extract32(data, 32, output_type=uint256) != 0 or started == 0 or started > block.timestamp:
        return SEQUENCER
    return GOOD if block.timestamp - started > SEQUENCER_GRACE else SEQUENCER


@internal
@view
def _read(feed: address, heartbeat: uint256, feed_decimals: uint256) -> (uint256, uint256):
    """@dev Price x 1e8 and verdict from `latestRoundData`; never reverts."""
    ok: bool = False
    data: Bytes[160] = b""
    ok, data = raw_call(
        feed, method_id("latestRoundData()"), max_outsize=160, is_static_call=True, revert_on_failure=False
    )
    if not ok or len(data) != 160:
        return 0, UNREACHABLE
    answer: int256 = extract32(data, 32, output_type=int256)
    updated: uint256 = extract32(data, 96, output_type=uint256)
    if answer <= 0 or answer >= 2**127:
        return 0, NOT_POSITIVE
    price: uint256 = convert(answer, uint256) * 10**8 // 10**feed_decimals
    if price == 0 or price > MAX_PRICE:
        return 0, NOT_POSITIVE
    if updated == 0 or updated > block.timestamp or block.timestamp - updated > heartbeat:
        return price, STALE
    return price, GOOD


@internal
@view
def _first(i: uint256) -> (uint256, uint256):
    b: uint256 = B[i]
    return self._read(convert(b & LOW, address), (b >> 160) & (2**32 - 1), b >> 192)


@internal
@view
def _price(i: uint256) -> (uint256, uint256, uint256):
    """@dev Prices x 1e8 of token `i` by the feed and by the second source, and the verdict on both; never reverts."""
    c: uint256 = C[i]
    kind: uint256 = c >> 216
    if kind == WORTHLESS:
        return 1, 1, GOOD
    price: uint256 = 0
    code: uint256 = 0
    price, code = self._first(i)
    if code != GOOD or kind == ALONE:
        return price, price, code
    other: uint256 = 0
    if kind == FEED:
        other, code = self._read(convert(c & LOW, address), (c >> 160) & (2**32 - 1), (c >> 192) & 255)
    else:
        other, code = self._average(i, c, kind)
    if code != GOOD or other == 0 or other > MAX_PRICE:
        return price, price, SECOND_BAD
    gap: uint256 = price - other if price > other else other - price
    return price, other, DEVIATES if gap * BPS > ((c >> 200) & (2**16 - 1)) * other else GOOD


@internal
@view
def _average(i: uint256, c: uint256, kind: uint256) -> (uint256, uint256):
    """@dev Time-weighted geometric mean price of token `i` in a Uniswap v3 pool, by `observe`, rounded down."""
    window: uint256 = (c >> 160) & (2**32 - 1)
    quote_index: uint256 = (c >> 192) & 255
    base: uint256 = 0
    code: uint256 = 0
    base, code = self._first(quote_index)
    if code != GOOD:
        return 0, code
    ok: bool = False
    data: Bytes[256] = b""
    ok, data = raw_call(
        convert(c & LOW, address),
        concat(
            method_id("observe(uint32[])"),
            convert(32, bytes32), convert(2, bytes32), convert(window, bytes32), empty(bytes32),
        ),
        max_outsize=256, is_static_call=True, revert_on_failure=False,
    )
    if not ok or len(data) < 160:
        return 0, UNREACHABLE
    older: int256 = extract32(data, 96, output_type=int256)
    newer: int256 = extract32(data, 128, output_type=int256)
    if max(abs(older), abs(newer)) >= 2**56:
        return 0, UNREACHABLE
    span: int256 = newer - older
    length: int256 = convert(window, int256)
    tick: int256 = span // length  # towards zero
    if span < 0 and tick * length != span:
        tick -= 1
    if kind == TWAP_1:
        tick = -tick
    if abs(tick) > MAX_TICK:
        return 0, UNREACHABLE
    raw: uint256 = (base * self._power(tick)) >> 64  # 1.0001^tick x 2^96 x base, less 64 bits
    unit: uint256 = 10 ** (A[i] >> 160)
    quote_unit: uint256 = 10 ** (A[quote_index] >> 160)
    return (raw * unit // quote_unit) >> 32, GOOD


@internal
@pure
def _power(tick: int256) -> uint256:
    """@dev 1.0001^tick x 2^96, rounded down; abs(tick) <= MAX_TICK."""
    steps: uint256 = convert(abs(tick), uint256)
    ratio: uint256 = 2**128
    ratios: uint256[19] = RATIOS
    for k: uint256 in range(19):
        if (steps >> k) & 1 == 1:
            ratio = (ratio * ratios[k]) >> 128
    if tick > 0:
        return (2**224 - 1) // ratio
    return ratio >> 32
