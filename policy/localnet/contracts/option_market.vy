# pragma version 0.4.3
# pragma evm-version cancun
"""
@title European options against a price feed, collateralised and settled in cash; for local chains and tests
@notice The admin lists series and posts their volatilities; anyone buys at the price of volatility + spread and sells at
        that of volatility - spread, priced by wad_math without interest. Accounts hold cash; one that is short keeps
        `short_bps` of the underlying's price a unit short, besides what its positions are worth to it. After expiry a
        series is settled once at the feed's price.
"""

from ethereum.ercs import IERC20

import wad_math

interface Feed:
    def latestRoundData() -> (uint80, int256, uint256, uint256, uint80): view

struct Series:
    call: bool
    strike: uint256  # USD x 1e18
    expiry: uint256
    vol: uint256  # a year, x 1e18
    settled: uint256  # payoff a unit, USD x 1e18, plus one; 0 before

event Traded:
    account: indexed(address)
    series: indexed(uint256)
    size: int256
    price: uint256

event Posted:
    series: indexed(uint256)
    vol: uint256

WAD: constant(int256) = 10**18
BPS: constant(int256) = 10_000
MAX_SERIES: constant(uint256) = 8
YEAR_S: constant(int256) = 365 * 86_400

CASH: public(immutable(address))
FEED: public(immutable(address))
UNIT: immutable(int256)
admin: public(address)
spread: public(uint256)  # of volatility, x 1e18
short_bps: public(int256)
series: public(DynArray[Series, MAX_SERIES])
size: public(HashMap[address, HashMap[uint256, int256]])
cash: public(HashMap[address, int256])  # raw units


@deploy
def __init__(_cash: address, _decimals: uint256, _feed: address):
    CASH = _cash
    UNIT = convert(10**_decimals, int256)
    FEED = _feed
    self.admin = msg.sender
    self.spread = 10**16
    self.short_bps = 1_500


@external
def add_series(call: bool, strike: uint256, expiry: uint256, vol: uint256):
    """@notice List an option."""
    assert msg.sender == self.admin, "admin"
    assert strike > 0 and strike < 2**100 and expiry > block.timestamp and vol > self.spread, "series"
    assert vol <= 5 * 10**18, "series"
    self.series.append(Series(call=call, strike=strike, expiry=expiry, vol=vol, settled=0))


@external
def post_vol(i: uint256, vol: uint256):
    """@notice Post the volatility of a series."""
    assert msg.sender == self.admin, "admin"
    assert vol > self.spread and vol <= 5 * 10**18, "vol"
    self.series[i].vol = vol
    log Posted(series=i, vol=vol)


@internal
@view
def _spot() -> int256:
    round: uint80 = 0
    answer: int256 = 0
    started: uint256 = 0
    updated: uint256 = 0
    answered: uint80 = 0
    round, answer, started, updated, answered = staticcall Feed(FEED).latestRoundData()
    assert answer > 0, "price"
    return answer * 10**10


@internal
@view
def _worth(s: Series, vol: uint256) -> int256:
    if s.settled > 0:
        return convert(s.settled - 1, int256)
    tau: int256 = 0
    if s.expiry > block.timestamp:
        tau = convert(s.expiry - block.timestamp, int256) * WAD // YEAR_S
    price: int256 = 0
    delta: int256 = 0
    price, delta = wad_math._option(self._spot(), convert(s.strike, int256), convert(vol, int256), tau, s.call)
    return price


@external
@view
def mark(i: uint256) -> uint256:
    """@notice Price of a unit of series `i` at its volatility, USD x 1e18."""
    return convert(self._worth(self.series[i], self.series[i].vol), uint256)


@external
def deposit(amount: uint256):
    """@notice Put cash in."""
    assert extcall IERC20(CASH).transferFrom(msg.sender, self, amount, default_return_value=True), "transfer"
    self.cash[msg.sender] += convert(amount, int256)


@external
def withdraw(amount: uint256):
    """@notice Take cash out that no short position needs."""
    self.cash[msg.sender] -= convert(amount, int256)
    self._enough(msg.sender)
    assert extcall IERC20(CASH).transfer(msg.sender, amount, default_return_value=True), "transfer"


@external
@view
def equity(who: address) -> int256:
    """@notice Cash and positions at their marks, raw units of cash."""
    total: int256 = 0
    need: int256 = 0
    total, need = self._account(who)
    return total


@internal
@view
def _account(who: address) -> (int256, int256):
    total: int256 = self.cash[who]
    need: int256 = 0
    spot: int256 = self._spot()
    for i: uint256 in range(len(self.series), bound=MAX_SERIES):
        held: int256 = self.size[who][i]
        if held != 0:
            s: Series = self.series[i]
            total += held * self._worth(s, s.vol) // WAD * UNIT // WAD
            if held < 0 and s.settled == 0:
                need -= held * spot // WAD * UNIT // WAD * self.short_bps // BPS
    return total, need


@internal
@view
def _enough(who: address):
    total: int256 = 0
    need: int256 = 0
    total, need = self._account(who)
    assert total >= need and self.cash[who] >= 0, "collateral"


@external
def trade(i: uint256, size: int256, limit: uint256):
    """@notice Buy (or sell, negative) `size` units x 1e18 of series `i`, not worse than `limit` a unit (USD x 1e18)."""
    s: Series = self.series[i]
    assert s.settled == 0 and s.expiry > block.timestamp, "expired"
    price: uint256 = 0
    if size > 0:
        price = convert(self._worth(s, s.vol + self.spread), uint256)
        assert price <= limit, "limit"
    else:
        price = convert(self._worth(s, s.vol - self.spread), uint256)
        assert price >= limit, "limit"
    self.cash[msg.sender] -= size * convert(price, int256) // WAD * UNIT // WAD
    self.size[msg.sender][i] += size
    self._enough(msg.sender)
    log Traded(account=msg.sender, series=i, size=size, price=price)


@external
def settle(i: uint256):
    """@notice Fix the payoff of a series that has expired, once."""
    s: Series = self.series[i]
    assert s.settled == 0 and block.timestamp >= s.expiry, "running"
    self.series[i].settled = convert(self._worth(s, s.vol), uint256) + 1


@external
def claim(i: uint256):
    """@notice Turn a settled position into cash."""
    s: Series = self.series[i]
    assert s.settled > 0, "running"
    self.cash[msg.sender] += self.size[msg.sender][i] * convert(s.settled - 1, int256) // WAD * UNIT // WAD
    self.size[msg.sender][i] = 0
