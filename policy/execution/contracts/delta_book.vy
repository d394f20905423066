# pragma version 0.4.3
# pragma evm-version cancun
"""
@title What a book of options and pool positions is exposed to, as a hedge on chain may believe it
@notice Two modes. Without lines the keeper of this book posts the delta itself: bounded in size, in its change at once
        and by the hour, and in its age. With lines the owner has set (through the timelock) the delta is computed here
        from the oracle's price and volatilities the keeper posts, each bounded in the same way: 57,000 gas an option,
        so at most 8 lines. Either way the answer carries a verdict, and nothing reverts for a bad price. Deltas are in
        units of the underlying x 1e18, USD prices, volatilities a year and liquidity x 1e18.
"""

import roles
import wad_math

initializes: roles
exports: roles.__interface__

interface Oracle:
    def quote(i: uint256) -> (uint256, uint256): view

struct Line:
    kind: uint256  # CALL, PUT, POOL, LINEAR
    quantity: int256  # signed units; liquidity of a pool position
    strike: uint256  # lower price of a pool position
    last: uint256  # expiry, Unix seconds; upper price of a pool position

struct Bounds:
    max_age_s: uint256  # older posts are STALE
    max_delta: uint256  # of a posted delta, either sign
    delta_step: uint256  # most a posted delta changes at once ...
    delta_per_hour: uint256  # ... and besides by the hour since the last post, a day's worth at most
    vol_step: uint256  # the same of a volatility
    vol_per_hour: uint256

event Posted:
    delta: int256
    vols: DynArray[uint256, MAX_LINES]

event LinesSet:
    lines: DynArray[Line, MAX_LINES]
    vols: DynArray[uint256, MAX_LINES]

event BoundsSet:
    bounds: Bounds

MAX_LINES: constant(uint256) = 8
CALL: constant(uint256) = 0
PUT: constant(uint256) = 1
POOL: constant(uint256) = 2
LINEAR: constant(uint256) = 3
MAX_VOL: constant(uint256) = 5 * 10**18
YEAR_S: constant(int256) = 365 * 86_400
WAD: constant(int256) = 10**18
E10: constant(uint256) = 10**10

# verdict on an exposure
GOOD: constant(uint256) = 0
STALE: constant(uint256) = 1
NO_PRICE: constant(uint256) = 2
EXPIRED: constant(uint256) = 3  # a line is past its expiry: the owner settles and removes it

ORACLE: public(immutable(address))
INDEX: public(immutable(uint256))  # of the underlying in the oracle
posted: public(int256)
updated_at: public(uint256)
bounds: public(Bounds)
_lines: DynArray[Line, MAX_LINES]
_vols: DynArray[uint256, MAX_LINES]


@deploy
def __init__(
    _owner: address,
    _keeper: address,
    _guardian: address,
    _delay: uint256,
    _oracle: address,
    _index: uint256,
    _bounds: Bounds,
    _rows: DynArray[Line, MAX_LINES],
    _volatilities: DynArray[uint256, MAX_LINES],
    _delta: int256,
):
    assert _oracle.codesize > 0, "oracle"
    ORACLE = _oracle
    INDEX = _index
    roles._set_up(_owner, _keeper, _guardian, _delay)
    self._set_bounds(_bounds)
    self._set_lines(_rows, _volatilities)
    assert convert(abs(_delta), uint256) <= _bounds.max_delta, "delta"
    self.posted = _delta


@internal
def _set_bounds(b: Bounds):
    assert b.max_age_s > 0 and b.max_age_s <= 86_400 and b.max_delta < 2**127, "bounds"
    assert b.delta_step < 2**127 and b.delta_per_hour < 2**127, "bounds"
    assert b.vol_step <= MAX_VOL and b.vol_per_hour <= MAX_VOL, "bounds"
    self.bounds = b
    log BoundsSet(bounds=b)


@internal
def _set_lines(rows: DynArray[Line, MAX_LINES], vols: DynArray[uint256, MAX_LINES]):
    assert len(rows) == len(vols), "vols"
    for i: uint256 in range(len(rows), bound=MAX_LINES):
        r: Line = rows[i]
        assert r.kind <= LINEAR and convert(abs(r.quantity), uint256) < 2**100, "line"
        if r.kind <= PUT:
            assert r.strike > 0 and r.strike < 2**100 and r.last > block.timestamp, "line"
            assert vols[i] > 0 and vols[i] <= MAX_VOL, "vols"
        elif r.kind == POOL:
            assert r.strike > 0 and r.last > r.strike and r.last < 2**100 and r.quantity >= 0, "line"
    self._lines = rows
    self._vols = vols
    self.updated_at = block.timestamp
    log LinesSet(lines=rows, vols=vols)


@external
def set_lines(rows: DynArray[Line, MAX_LINES], vols: DynArray[uint256, MAX_LINES]):
    """@notice Replace the lines and their volatilities; through the timelock. None: the posted mode."""
    roles._only_self()
    self._set_lines(rows, vols)


@external
def set_bounds(b: Bounds):
    """@notice Change the bounds; through the timelock."""
    roles._only_self()
    self._set_bounds(b)


@external
def resume():
    """@notice Let posts be made again; through the timelock."""
    roles._resume()


@internal
@view
def _room(step: uint256, per_hour: uint256) -> uint256:
    return step + per_hour * min(block.timestamp - self.updated_at, 86_400) // 3_600


@external
def post(delta: int256):
    """@notice Post the delta of the whole book; where no lines are set."""
    roles._only_keeper()
    b: Bounds = self.bounds
    assert len(self._lines) == 0, "lines"
    assert convert(abs(delta), uint256) <= b.max_delta, "delta"
    assert convert(abs(delta - self.posted), uint256) <= self._room(b.delta_step, b.delta_per_hour), "step"
    self.posted = delta
    self.updated_at = block.timestamp
    log Posted(delta=delta, vols=[])


@external
def post_vols(vols: DynArray[uint256, MAX_LINES]):
    """@notice Post the volatility of every line, in order; 0 for a pool position or a linear line."""
    roles._only_keeper()
    b: Bounds = self.bounds
    rows: DynArray[Line, MAX_LINES] = self._lines
    old: DynArray[uint256, MAX_LINES] = self._vols
    assert len(rows) > 0 and len(vols) == len(rows), "lines"
    room: uint256 = self._room(b.vol_step, b.vol_per_hour)
    for i: uint256 in range(len(rows), bound=MAX_LINES):
        if rows[i].kind <= PUT:
            assert vols[i] > 0 and vols[i] <= MAX_VOL, "vols"
            assert max(vols[i], old[i]) - min(vols[i], old[i]) <= room, "step"
    self._vols = vols
    self.updated_at = block.timestamp
    log Posted(delta=0, vols=vols)


@external
@view
def lines() -> (DynArray[Line, MAX_LINES], DynArray[uint256, MAX_LINES]):
    """@notice The lines and their volatilities."""
    return self._lines, self._vols


@external
@view
def exposure() -> (int256, uint256, uint256):
    """@notice Delta of the book, when it or its volatilities were posted last, and the verdict: 0 is good."""
    verdict: uint256 = GOOD
    if block.timestamp > self.updated_at + self.bounds.max_age_s or roles._paused():
        verdict = STALE
    rows: DynArray[Line, MAX_LINES] = self._lines
    if len(rows) == 0:
        return self.posted, self.updated_at, verdict
    price: uint256 = 0
    code: uint256 = 0
    price, code = staticcall Oracle(ORACLE).quote(INDEX)
    if code != 0 or price == 0:
        return 0, self.updated_at, NO_PRICE
    vols: DynArray[uint256, MAX_LINES] = self._vols
    spot: int256 = convert(price * E10, int256)
    total: int256 = 0
    for i: uint256 in range(len(rows), bound=MAX_LINES):
        if rows[i].kind <= PUT and rows[i].last <= block.timestamp:
            verdict = EXPIRED
        total += self._delta(rows[i], vols[i], spot)
    return total, self.updated_at, verdict


@internal
@view
def _delta(r: Line, vol: uint256, spot: int256) -> int256:
    if r.kind == LINEAR:
        return r.quantity
    if r.kind == POOL:
        # liquidity x (1 / sqrt(price in range) - 1 / sqrt(upper)): whitepaper v3, 6.29
        inside: uint256 = min(max(convert(spot, uint256), r.strike), r.last)
        low: int256 = WAD * WAD // convert(isqrt(inside * 10**18), int256)
        high: int256 = WAD * WAD // convert(isqrt(r.last * 10**18), int256)
        return r.quantity * (low - high) // WAD
    if r.last <= block.timestamp:
        return 0  # settled in cash: no exposure
    tau: int256 = convert(r.last - block.timestamp, int256) * WAD // YEAR_S
    d1: int256 = 0
    sd: int256 = 0
    d1, sd = wad_math._d1(spot, convert(r.strike, int256), convert(vol, int256), tau)
    delta: int256 = wad_math._normal_cdf(d1)
    if r.kind == PUT:
        delta -= WAD
    return r.quantity * delta // WAD
