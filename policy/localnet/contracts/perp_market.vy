# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A linear perpetual future, marked by a price feed; for local chains and tests
@notice Cash margin, one position an account (signed, x 1e18). Fills are at the feed's price and a spread, a taker fee on
        top; longs pay shorts `funding` (per eight hours, x 1e18) while it is positive, continuously. An account must have
        `initial_bps` of its notional after a trade or withdrawal; below `maintenance_bps` anyone closes it, and what is
        left of its margin is kept. The market itself is the other side, from what it holds.
"""

from ethereum.ercs import IERC20

interface Feed:
    def latestRoundData() -> (uint80, int256, uint256, uint256, uint80): view

struct Account:
    margin: int256  # raw units of cash, settled to `price` and `index`
    size: int256
    price: int256  # USD x 1e8
    index: int256

event Traded:
    account: indexed(address)
    size: int256
    price: uint256
    fee: uint256

event Liquidated:
    account: indexed(address)
    size: int256
    left: int256

BPS: constant(int256) = 10_000
WAD: constant(int256) = 10**18
EIGHT_HOURS: constant(int256) = 28_800

CASH: public(immutable(address))
FEED: public(immutable(address))
UNIT: immutable(int256)
admin: public(address)
funding: public(int256)
spread_bps: public(int256)
fee_bps: public(int256)
initial_bps: public(int256)
maintenance_bps: public(int256)
halted: public(bool)
_accounts: HashMap[address, Account]
_index: int256  # USD x 1e8 paid a unit long since the beginning, x 1e18
_at: uint256


@deploy
def __init__(_cash: address, _decimals: uint256, _feed: address):
    CASH = _cash
    UNIT = convert(10**_decimals, int256)
    FEED = _feed
    self.admin = msg.sender
    self.spread_bps = 1
    self.fee_bps = 5
    self.initial_bps = 500
    self.maintenance_bps = 250
    self._at = block.timestamp


@external
def set_terms(funding: int256, spread_bps: int256, fee_bps: int256, halted: bool):
    """@notice Change funding and fees, or refuse trades."""
    assert msg.sender == self.admin, "admin"
    self._accrue()
    self.funding = funding
    self.spread_bps = spread_bps
    self.fee_bps = fee_bps
    self.halted = halted


@internal
@view
def _price() -> int256:
    round: uint80 = 0
    answer: int256 = 0
    started: uint256 = 0
    updated: uint256 = 0
    answered: uint80 = 0
    round, answer, started, updated, answered = staticcall Feed(FEED).latestRoundData()
    assert answer > 0, "price"
    return answer


@internal
@view
def _indexed(price: int256) -> int256:
    elapsed: int256 = convert(block.timestamp - self._at, int256)
    return self._index + self.funding * price * elapsed // EIGHT_HOURS


@internal
def _accrue():
    self._index = self._indexed(self._price())
    self._at = block.timestamp


@internal
@view
def _settled(who: address) -> Account:
    """@dev The account with its profit and funding up to now in its margin."""
    a: Account = self._accounts[who]
    price: int256 = self._price()
    index: int256 = self._indexed(price)
    moved: int256 = a.size * (price - a.price) // WAD - a.size * (index - a.index) // WAD // WAD  # USD x 1e8
    a.margin += moved * UNIT // 10**8
    a.price = price
    a.index = index
    return a


@internal
@view
def _notional(size: int256, price: int256) -> int256:
    return abs(size) * price // WAD * UNIT // 10**8


@external
@view
def account(who: address) -> (int256, int256, uint256):
    """@notice Size, equity and maintenance margin (raw units of cash)."""
    a: Account = self._settled(who)
    need: int256 = self._notional(a.size, a.price) * self.maintenance_bps // BPS
    return a.size, a.margin, convert(need, uint256)


@external
@view
def terms() -> (int256, int256, int256, int256, int256, bool):
    """@notice Funding, spread, fee, initial and maintenance margin in bps, and whether trades are refused."""
    return self.funding, self.spread_bps, self.fee_bps, self.initial_bps, self.maintenance_bps, self.halted


@external
def deposit(amount: uint256):
    """@notice Put margin in."""
    assert extcall IERC20(CASH).transferFrom(msg.sender, self, amount, default_return_value=True), "transfer"
    self._accounts[msg.sender].margin += convert(amount, int256)


@external
def withdraw(amount: uint256):
    """@notice Take margin out, down to the initial one."""
    self._accrue()
    a: Account = self._settled(msg.sender)
    a.margin -= convert(amount, int256)
    self._enough(a)
    self._accounts[msg.sender] = a
    assert extcall IERC20(CASH).transfer(msg.sender, amount, default_return_value=True), "transfer"


@internal
@view
def _enough(a: Account):
    assert a.margin * BPS >= self._notional(a.size, a.price) * self.initial_bps, "initial margin"


@external
def trade(size: int256, limit: uint256) -> (uint256, uint256):
    """@notice Change the position by `size`, not worse than `limit` (USD x 1e18); the fill and the fee in cash."""
    assert not self.halted, "halted"
    self._accrue()
    a: Account = self._settled(msg.sender)
    side: int256 = 1 if size > 0 else -1
    fill: int256 = a.price * 10**10 * (BPS + side * self.spread_bps) // BPS
    if size > 0:
        assert convert(fill, uint256) <= limit, "limit"
    else:
        assert convert(fill, uint256) >= limit, "limit"
    fee: int256 = self._notional(size, a.price) * self.fee_bps // BPS
    a.margin -= abs(size) * abs(fill - a.price * 10**10) // WAD * UNIT // WAD + fee
    grows: bool = abs(a.size + size) > abs(a.size)
    a.size += size
    if grows:
        self._enough(a)
    assert a.margin >= 0, "initial margin"
    self._accounts[msg.sender] = a
    log Traded(account=msg.sender, size=size, price=convert(fill, uint256), fee=convert(fee, uint256))
    return convert(fill, uint256), convert(fee, uint256)


@external
def liquidate(who: address):
    """@notice Close an account below its maintenance margin; what is left of the margin is kept by the market."""
    self._accrue()
    a: Account = self._settled(who)
    need: int256 = self._notional(a.size, a.price) * self.maintenance_bps // BPS
    assert a.size != 0 and a.margin < need, "healthy"
    log Liquidated(account=who, size=a.size, left=a.margin)
    a.size = 0
    a.margin = 0
    self._accounts[who] = a
