# pragma version 0.4.3
"""
@title Tokens of the portfolio, their mandated weights and their prices
@notice Prices are USD x 1e8. A price is good when the feed answers, answer > 0, its age is within that feed's own
        heartbeat, the L2 sequencer (where there is one) has been up for its grace time, and a second source (another
        feed, or the time-weighted price of a Uniswap v3 pool) agrees within `deviation_bps`. Each last good price is
        kept, so that views never fail.
"""

interface IERC20:
    def balanceOf(account: address) -> uint256: view

# As configured and shown; on chain a token takes three words:
# A = token | decimals << 160 | target_bps << 168          B = feed | heartbeat << 160 | feed decimals << 192
# C = second | seconds << 160 | (feed decimals or index of the quote token) << 192 | deviation << 200 | kind << 216
struct Source:
    token: address
    decimals: uint256
    target_bps: uint256
    feed: address
    heartbeat_s: uint256  # a round older than this is stale
    feed_decimals: uint256
    second: address  # second feed, or v3 pool
    second_s: uint256  # its heartbeat, or the window of the average, seconds
    second_detail: uint256  # its decimals, or the index of the token the pool is quoted in
    deviation_bps: uint256  # most the two may differ, of the second
    second_kind: uint256  # ALONE, FEED, TWAP_0 (the token is the pool's token0), TWAP_1

event SourceSet:
    index: indexed(uint256)
    source: Source

event TargetsSet:
    targets_bps: DynArray[uint256, MAX_TOKENS]

MAX_TOKENS: constant(uint256) = 8
BPS: constant(uint256) = 10_000
LOW: constant(uint256) = 2**160 - 1
PRICE_BITS: constant(uint256) = 64
PRICE_MASK: constant(uint256) = 2**64 - 1
ALONE: constant(uint256) = 0
FEED: constant(uint256) = 1
TWAP_0: constant(uint256) = 2
TWAP_1: constant(uint256) = 3
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

_count: uint256
_a: uint256[MAX_TOKENS]
_b: uint256[MAX_TOKENS]
_c: uint256[MAX_TOKENS]
_last: uint256[2]  # last good prices, four to a word


@deploy
def __init__(_sources: DynArray[Source, MAX_TOKENS], _sequencer: address, _grace: uint256):
    SEQUENCER_FEED = _sequencer
    SEQUENCER_GRACE = _grace
    total: uint256 = 0
    for source: Source in _sources:
        self._set(self._count, source)
        self._count += 1
        total += source.target_bps
    assert self._count >= 2 and total == BPS, "targets"


@internal
def _set(i: uint256, s: Source):
    assert s.token != empty(address) and s.feed != empty(address), "source"
    assert s.decimals <= 18 and s.feed_decimals <= 18 and s.target_bps <= BPS, "source"
    assert s.heartbeat_s > 0 and s.heartbeat_s < 2**32 and s.second_s < 2**32, "source"
    assert s.second_detail <= 18 and s.deviation_bps <= BPS and s.second_kind <= TWAP_1, "source"
    if s.second_kind != ALONE:
        assert s.second != empty(address) and s.second_s > 0 and s.deviation_bps > 0, "source"
    if s.second_kind >= TWAP_0:
        assert s.second_detail < MAX_TOKENS and s.second_detail != i, "source"
    for j: uint256 in range(self._count, bound=MAX_TOKENS):
        if j != i:
            assert convert(self._a[j] & LOW, address) != s.token, "source"
    self._a[i] = convert(s.token, uint256) | (s.decimals << 160) | (s.target_bps << 168)
    self._b[i] = convert(s.feed, uint256) | (s.heartbeat_s << 160) | (s.feed_decimals << 192)
    self._c[i] = (
        convert(s.second, uint256)
        | (s.second_s << 160)
        | (s.second_detail << 192)
        | (s.deviation_bps << 200)
        | (s.second_kind << 216)
    )
    log SourceSet(index=i, source=s)


@external
def set_source(i: uint256, source: Source):
    """@notice Replace the feeds of token `i`, or append a token with target 0; through the timelock."""
    assert msg.sender == self, "timelock"
    assert i <= self._count and i < MAX_TOKENS, "source"
    if i == self._count:
        assert source.target_bps == 0, "source"
        self._set(i, source)
        self._count += 1
    else:
        assert convert(source.token, uint256) | (source.decimals << 160) == self._a[i] & (2**168 - 1), "source"
        assert source.target_bps == self._a[i] >> 168, "source"
        self._set(i, source)


@external
def set_targets(targets_bps: DynArray[uint256, MAX_TOKENS]):
    """@notice Set the mandated weights, which sum to 10,000; through the timelock: the keeper cannot move them."""
    assert msg.sender == self, "timelock"
    assert len(targets_bps) == self._count, "targets"
    total: uint256 = 0
    for i: uint256 in range(self._count, bound=MAX_TOKENS):
        total += targets_bps[i]
        self._a[i] = (self._a[i] & (2**168 - 1)) | (targets_bps[i] << 168)
    assert total == BPS, "targets"
    log TargetsSet(targets_bps=targets_bps)


@external
@view
def sources() -> DynArray[Source, MAX_TOKENS]:
    """@notice The configured tokens in order; the first is the accounting asset."""
    rows: DynArray[Source, MAX_TOKENS] = []
    for i: uint256 in range(self._count, bound=MAX_TOKENS):
        a: uint256 = self._a[i]
        b: uint256 = self._b[i]
        c: uint256 = self._c[i]
        rows.append(
            Source(
                token=convert(a & LOW, address),
                decimals=(a >> 160) & 255,
                target_bps=a >> 168,
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


@external
@view
def quote(i: uint256) -> (uint256, uint256, uint256):
    """@notice Token `i`'s price now, the verdict on it (0 good) and the last good price."""
    assert i < self._count, "source"
    price: uint256 = 0
    code: uint256 = self._sequencer_code()
    if code == GOOD:
        price, code = self._price(i)
    return price, code, self._last_good(i)


@internal
@view
def _last_good(i: uint256) -> uint256:
    return (self._last[i // 4] >> (PRICE_BITS * (i % 4))) & PRICE_MASK


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
    if price == 0 or price > PRICE_MASK:
        return 0, NOT_POSITIVE
    if updated == 0 or updated > block.timestamp or block.timestamp - updated > heartbeat:
        return price, STALE
    return price, GOOD


@internal
@view
def _first(i: uint256) -> (uint256, uint256):
    b: uint256 = self._b[i]
    return self._read(convert(b & LOW, address), (b >> 160) & (2**32 - 1), b >> 192)


@internal
@view
def _price(i: uint256) -> (uint256, uint256):
    """@dev Price x 1e8 of token `i` and the verdict of both sources; never reverts."""
    price: uint256 = 0
    code: uint256 = 0
    price, code = self._first(i)
    c: uint256 = self._c[i]
    if code != GOOD or c == 0:
        return price, code
    kind: uint256 = c >> 216
    other: uint256 = 0
    if kind == FEED:
        other, code = self._read(convert(c & LOW, address), (c >> 160) & (2**32 - 1), (c >> 192) & 255)
    elif kind != ALONE:
        other, code = self._average(i, c, kind)
    else:
        return price, GOOD
    if code != GOOD or other == 0:
        return price, SECOND_BAD
    gap: uint256 = price - other if price > other else other - price
    return price, DEVIATES if gap * BPS > ((c >> 200) & (2**16 - 1)) * other else GOOD


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
    unit: uint256 = 10 ** ((self._a[i] >> 160) & 255)
    quote_unit: uint256 = 10 ** ((self._a[quote_index] >> 160) & 255)
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


@internal
@view
def _prices() -> (DynArray[uint256, MAX_TOKENS], uint256):
    """@dev All prices and the first verdict that is not good; where one is not, last good prices stand in."""
    prices: DynArray[uint256, MAX_TOKENS] = []
    worst: uint256 = self._sequencer_code()
    for i: uint256 in range(self._count, bound=MAX_TOKENS):
        price: uint256 = 0
        code: uint256 = worst
        if worst != SEQUENCER:
            price, code = self._price(i)
        if code != GOOD:
            price = self._last_good(i)
            if worst == GOOD:
                worst = code
        prices.append(price)
    return prices, worst


@internal
def _remember(prices: DynArray[uint256, MAX_TOKENS]):
    """@dev Keep `prices`, all good, as the last good ones."""
    words: uint256[2] = empty(uint256[2])
    for i: uint256 in range(len(prices), bound=MAX_TOKENS):
        words[i // 4] |= prices[i] << (PRICE_BITS * (i % 4))
    self._last[0] = words[0]
    if len(prices) > 4:
        self._last[1] = words[1]


@internal
@view
def _balances() -> DynArray[uint256, MAX_TOKENS]:
    out: DynArray[uint256, MAX_TOKENS] = []
    for i: uint256 in range(self._count, bound=MAX_TOKENS):
        out.append(staticcall IERC20(convert(self._a[i] & LOW, address)).balanceOf(self))
    return out


@internal
@view
def _value(i: uint256, amount: uint256, price: uint256) -> uint256:
    """@dev USD x 1e18 of `amount` raw units, rounded down."""
    return amount * price * 10**10 // 10 ** ((self._a[i] >> 160) & 255)


@internal
@view
def _total(balances: DynArray[uint256, MAX_TOKENS], prices: DynArray[uint256, MAX_TOKENS]) -> uint256:
    """@dev USD x 1e18 of the whole portfolio."""
    total: uint256 = 0
    for i: uint256 in range(self._count, bound=MAX_TOKENS):
        total += self._value(i, balances[i], prices[i])
    return total


@internal
@view
def _in_asset(usd: uint256, asset_price: uint256) -> uint256:
    """@dev USD x 1e18 in raw units of the accounting asset (token 0), rounded down; 0 without a price."""
    if asset_price == 0:
        return 0
    return usd * 10 ** ((self._a[0] >> 160) & 255) // (asset_price * 10**10)


@internal
@view
def _distance(
    balances: DynArray[uint256, MAX_TOKENS], prices: DynArray[uint256, MAX_TOKENS], total: uint256
) -> uint256:
    """@dev Sum over tokens of abs(weight - target) x 1e9, each rounded down; 0 to 2e9."""
    distance: uint256 = 0
    for i: uint256 in range(self._count, bound=MAX_TOKENS):
        held: uint256 = self._value(i, balances[i], prices[i]) * BPS
        wanted: uint256 = (self._a[i] >> 168) * total
        gap: uint256 = held - wanted if held > wanted else wanted - held
        distance += gap * 10**9 // (total * BPS)
    return distance


@external
def poke():
    """@notice Store the current prices as last good ones; refused unless all are good."""
    prices: DynArray[uint256, MAX_TOKENS] = []
    code: uint256 = 0
    prices, code = self._prices()
    assert code == GOOD, "oracle"
    self._remember(prices)
