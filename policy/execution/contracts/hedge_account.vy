# pragma version 0.4.3
# pragma evm-version cancun
"""
@title An account that keeps the delta of a book near a wanted level, by spot and a perpetual
@notice It holds cash and the underlying, and one position at a perpetual market. The keeper may make plans of a few
        legs; whole or not at all. Whatever the keeper sends, the chain holds it to this: the net delta (spot + perpetual
        + the book's, told by a delta source, less what is wanted) gets nearer to zero and does not cross it by more than
        `cross_bps` of NAV; where the source is not good, the hedge itself may besides not grow; each leg fills near the
        oracle's price, losses stay within a budget that refills over a window, the margin stays above a floor and what
        lies at the venue below a ceiling. The owner changes things and takes money out through the timelock. Values are
        USD x 1e18, deltas units of the underlying x 1e18; NAV in raw units of cash.
"""

from ethereum.ercs import IERC20

import roles

initializes: roles
exports: roles.__interface__

interface Oracle:
    def quotes() -> DynArray[uint256, 8]: view

interface Source:
    def exposure() -> (int256, uint256, uint256): view

interface Perp:
    def deposit(amount: uint256): nonpayable
    def withdraw(amount: uint256): nonpayable
    def trade(size: int256, limit: uint256) -> (uint256, uint256): nonpayable
    def account(who: address) -> (int256, int256, uint256): view

struct Leg:
    token_in: address
    token_out: address
    amount_in: uint256  # perpetual: cash put in as margin before the trade
    min_out: uint256  # perpetual: cash taken out after it
    target: address
    data: Bytes[512]  # perpetual: abi of (size, limit price x 1e18)

struct Limits:
    leg_loss_bps: uint256  # most a leg may fill worse than the oracle, fees included
    cross_bps: uint256  # of NAV: how far a plan may go beyond the wanted delta
    max_hedge_bps: uint256  # of NAV: beyond it the hedge may only shrink
    margin_bps: uint256  # least equity at the venue over its notional when the position grows
    venue_bps: uint256  # of NAV: most equity at the venue when money is put in
    cooldown_s: uint256
    budget_ppb: uint256  # losses in billionths of NAV ...
    window_s: uint256  # ... that refill over this time: at most twice the budget in any such stretch

event HedgeLeg:
    nonce: indexed(uint256)
    target: indexed(address)
    size: int256  # of the underlying, x 1e18
    price: uint256  # USD x 1e18, fees included
    cash: int256  # change of cash, raw units
    fee: uint256  # of the perpetual, raw units of cash

event Hedged:
    nonce: indexed(uint256)
    plan_hash: indexed(bytes32)
    keeper: indexed(address)
    before: Standing
    after: Standing
    book: int256  # the book's delta less what is wanted
    price: uint256  # USD x 1e8
    loss_ppb: uint256

event LimitsSet:
    limits: Limits

event SourceSet:
    source: address
    wanted: int256

event CallSet:
    target: indexed(address)
    selector: indexed(bytes4)
    allowed: bool

event Withdrawn:
    token: indexed(address)
    receiver: indexed(address)
    amount: uint256

struct Standing:
    cash: uint256  # raw units
    spot: uint256  # raw units
    size: int256  # of the perpetual
    equity: int256  # raw units of cash at the venue
    nav: uint256  # raw units of cash

BPS: constant(uint256) = 10_000
PPB: constant(uint256) = 10**9
U64: constant(uint256) = 2**64 - 1
E10: constant(uint256) = 10**10
WAD: constant(uint256) = 10**18
MAX_LEGS: constant(uint256) = 3

CASH: public(immutable(address))
ASSET: public(immutable(address))
ORACLE: public(immutable(address))
PERP: public(immutable(address))
CASH_UNIT: immutable(uint256)
ASSET_UNIT: immutable(uint256)
source: public(address)
wanted: public(int256)
limits: public(Limits)
call_allowed: public(HashMap[address, HashMap[bytes4, bool]])
lost_ppb: public(uint256)  # as of the last plan
_nonce: uint256
_last: uint256


@deploy
def __init__(
    _owner: address,
    _keeper: address,
    _guardian: address,
    _delay: uint256,
    _cash: address,
    _cash_decimals: uint256,
    _asset: address,
    _asset_decimals: uint256,
    _oracle: address,
    _perp: address,
    _source: address,
    _wanted: int256,
    _limits: Limits,
    _calls: DynArray[address, 8],
    _selectors: DynArray[bytes4, 8],
):
    """
    @param _oracle Prices cash at 0 and the underlying at 1
    """
    assert _cash != _asset and _oracle.codesize > 0 and _perp.codesize > 0, "set up"
    assert _cash_decimals <= 18 and _asset_decimals <= 18, "set up"
    CASH = _cash
    ASSET = _asset
    ORACLE = _oracle
    PERP = _perp
    CASH_UNIT = 10**_cash_decimals
    ASSET_UNIT = 10**_asset_decimals
    roles._set_up(_owner, _keeper, _guardian, _delay)
    self._set_source(_source, _wanted)
    self._set_limits(_limits)
    assert len(_calls) == len(_selectors), "calls"
    for i: uint256 in range(len(_calls), bound=8):
        self._set_call(_calls[i], _selectors[i], True)


@internal
def _set_source(_source: address, _wanted: int256):
    assert _source.codesize > 0 and abs(_wanted) < 2**127, "source"
    self.source = _source
    self.wanted = _wanted
    log SourceSet(source=_source, wanted=_wanted)


@internal
def _set_limits(l: Limits):
    assert l.leg_loss_bps <= 1_000 and l.cross_bps <= BPS and l.max_hedge_bps <= 10 * BPS, "limits"
    assert l.margin_bps <= BPS and l.venue_bps <= BPS and l.cooldown_s <= 86_400, "limits"
    assert l.budget_ppb <= PPB and l.window_s > 0 and l.window_s <= 365 * 86_400, "limits"
    self.limits = l
    log LimitsSet(limits=l)


@internal
def _set_call(target: address, selector: bytes4, allowed: bool):
    # a token or the market itself as a target could move money past every check
    assert target != CASH and target != ASSET and target != PERP and target != self, "target"
    self.call_allowed[target][selector] = allowed
    log CallSet(target=target, selector=selector, allowed=allowed)


@external
def set_source(_source: address, _wanted: int256):
    """@notice Take the book's delta from elsewhere, or want another net delta; through the timelock."""
    roles._only_self()
    self._set_source(_source, _wanted)


@external
def set_limits(l: Limits):
    """@notice Change the keeper's limits; through the timelock."""
    roles._only_self()
    self._set_limits(l)


@external
def set_call(target: address, selector: bytes4, allowed: bool):
    """@notice Allow or forbid a (target, selector) pair; through the timelock."""
    roles._only_self()
    self._set_call(target, selector, allowed)


@external
def resume():
    """@notice Let the keeper trade again; through the timelock. What was lost still counts."""
    roles._resume()


@external
@nonreentrant
def withdraw(token: address, amount: uint256, receiver: address):
    """@notice Take tokens out; through the timelock."""
    roles._only_self()
    assert receiver != empty(address), "receiver"
    assert extcall IERC20(token).transfer(receiver, amount, default_return_value=True), "transfer"
    log Withdrawn(token=token, receiver=receiver, amount=amount)


@external
@nonreentrant
def withdraw_margin(amount: uint256):
    """@notice Take margin back from the venue into this account; through the timelock."""
    roles._only_self()
    extcall Perp(PERP).withdraw(amount)


@external
@view
def clock() -> (uint256, uint256):
    """@notice Next plan nonce, and time of the last plan."""
    return self._nonce, self._last


@external
@view
def standing() -> (Standing, int256, uint256, uint256, uint256, uint256, uint256):
    """
    @notice What the account holds, the book's delta less what is wanted, when it was posted and the verdict on it;
            prices of cash and underlying, USD x 1e8, 0 where either is not good, and the venue's maintenance margin.
            Without prices the venue is not asked: size, equity, margin and NAV are 0.
    """
    cash_price: uint256 = 0
    price: uint256 = 0
    cash_price, price = self._prices()
    book: int256 = 0
    at: uint256 = 0
    verdict: uint256 = 0
    book, at, verdict = staticcall Source(self.source).exposure()
    s: Standing = empty(Standing)
    maintenance: uint256 = 0
    s, maintenance = self._standing(cash_price, price)
    return s, book - self.wanted, at, verdict, cash_price, price, maintenance


@internal
@view
def _prices() -> (uint256, uint256):
    """@dev The feeds' prices of cash and underlying, both 0 where either is not good."""
    found: DynArray[uint256, 8] = staticcall Oracle(ORACLE).quotes()
    if (found[0] | found[1]) >> 192 != 0:
        return 0, 0
    return (found[0] >> 128) & U64, (found[1] >> 128) & U64


@internal
@view
def _standing(cash_price: uint256, price: uint256) -> (Standing, uint256):
    """@dev What is held, and the maintenance margin."""
    s: Standing = empty(Standing)
    s.cash = staticcall IERC20(CASH).balanceOf(self)
    s.spot = staticcall IERC20(ASSET).balanceOf(self)
    maintenance: uint256 = 0
    if price > 0:
        s.size, s.equity, maintenance = staticcall Perp(PERP).account(self)
        total: int256 = convert(s.cash + s.spot * price * CASH_UNIT // (ASSET_UNIT * cash_price), int256) + s.equity
        s.nav = convert(max(total, 0), uint256)
    return s, maintenance


@internal
@view
def _in_cash(units: uint256, cash_price: uint256, price: uint256) -> uint256:
    """@dev Worth of `units` (x 1e18) of the underlying in raw units of cash."""
    return units * price * CASH_UNIT // (WAD * cash_price)


@external
@nonreentrant
def rebalance(
    legs: DynArray[Leg, MAX_LEGS], plan_hash: bytes32, nonce: uint256, deadline: uint256, min_nav: uint256
):
    """
    @notice Execute one plan, whole or not at all.
    @param plan_hash keccak256 of abi.encode(legs, nonce, deadline, min_nav, this account, chain id)
    @param min_nav Least NAV after the plan, raw units of cash
    """
    roles._only_keeper()
    l: Limits = self.limits
    assert block.timestamp <= deadline, "deadline"
    assert nonce == self._nonce, "nonce"
    assert len(legs) > 0, "legs"
    assert nonce == 0 or block.timestamp >= self._last + l.cooldown_s, "cooldown"
    assert plan_hash == keccak256(abi_encode(legs, nonce, deadline, min_nav, self, chain.id)), "plan hash"
    self._nonce = nonce + 1
    refilled: uint256 = l.budget_ppb * (block.timestamp - self._last) // l.window_s
    self._last = block.timestamp

    cash_price: uint256 = 0
    price: uint256 = 0
    cash_price, price = self._prices()
    assert price > 0 and cash_price > 0, "oracle"
    book: int256 = 0
    at: uint256 = 0
    verdict: uint256 = 0
    book, at, verdict = staticcall Source(self.source).exposure()
    book -= self.wanted
    before: Standing = empty(Standing)
    after: Standing = empty(Standing)
    maintenance: uint256 = 0
    before, maintenance = self._standing(cash_price, price)
    assert before.nav > 0, "empty"
    for leg: Leg in legs:
        if leg.target == PERP:
            self._perp(leg, nonce, cash_price, price, l.leg_loss_bps)
        else:
            self._spot(leg, nonce, cash_price, price, l.leg_loss_bps)
    after, maintenance = self._standing(cash_price, price)
    self._judge(before, after, book, verdict, cash_price, price, l)
    assert after.nav >= min_nav, "nav floor"
    loss: uint256 = 0
    if after.nav < before.nav:
        loss = ((before.nav - after.nav) * PPB + before.nav - 1) // before.nav
    lost: uint256 = max(self.lost_ppb, refilled) - refilled + loss
    assert lost <= l.budget_ppb, "loss budget"
    self.lost_ppb = lost
    log Hedged(
        nonce=nonce,
        plan_hash=plan_hash,
        keeper=msg.sender,
        before=before,
        after=after,
        book=book,
        price=price,
        loss_ppb=loss,
    )


@internal
@view
def _judge(
    before: Standing, after: Standing, book: int256, verdict: uint256, cash_price: uint256, price: uint256, l: Limits
):
    """@dev The rules on where a plan may lead."""
    held: int256 = convert(before.spot * WAD // ASSET_UNIT, int256) + before.size
    holds: int256 = convert(after.spot * WAD // ASSET_UNIT, int256) + after.size
    net: int256 = held + book
    left: int256 = holds + book
    assert abs(left) <= abs(net), "progress"
    if (left > 0) != (net > 0):
        beyond: uint256 = self._in_cash(convert(abs(left), uint256), cash_price, price)
        assert beyond * BPS <= l.cross_bps * before.nav, "crossing"
    if verdict != 0:
        assert abs(holds) <= abs(held) and (holds == 0 or (holds > 0) == (held > 0)), "stale"
    if abs(holds) > abs(held):
        size: uint256 = self._in_cash(convert(abs(holds), uint256), cash_price, price)
        assert size * BPS <= l.max_hedge_bps * after.nav, "size"
    if abs(after.size) > abs(before.size):
        notional: uint256 = self._in_cash(convert(abs(after.size), uint256), cash_price, price)
        assert after.equity >= 0 and convert(after.equity, uint256) * BPS >= l.margin_bps * notional, "margin"
    if after.cash < before.cash and after.equity > before.equity:
        assert convert(after.equity, uint256) * BPS <= l.venue_bps * after.nav, "venue"


@internal
def _spot(leg: Leg, nonce: uint256, cash_price: uint256, price: uint256, loss_bps: uint256):
    """@dev Swap cash for the underlying or back, by an allowed call, with measured balances."""
    buys: bool = leg.token_in == CASH
    assert (buys and leg.token_out == ASSET) or (leg.token_in == ASSET and leg.token_out == CASH), "pair"
    assert len(leg.data) >= 4 and self.call_allowed[leg.target][convert(slice(leg.data, 0, 4), bytes4)], "target"
    cash: uint256 = staticcall IERC20(CASH).balanceOf(self)
    spot: uint256 = staticcall IERC20(ASSET).balanceOf(self)
    assert extcall IERC20(leg.token_in).approve(leg.target, leg.amount_in, default_return_value=True), "approve"
    raw_call(leg.target, leg.data)
    assert extcall IERC20(leg.token_in).approve(leg.target, 0, default_return_value=True), "approve"
    cash_now: uint256 = staticcall IERC20(CASH).balanceOf(self)
    spot_now: uint256 = staticcall IERC20(ASSET).balanceOf(self)
    spent: uint256 = 0
    got: uint256 = 0
    paid: uint256 = 0  # in cash, at the oracle's price
    worth: uint256 = 0
    size: int256 = convert(spot_now, int256) - convert(spot, int256)
    if buys:
        assert cash_now <= cash and spot_now >= spot, "spent"
        spent = cash - cash_now
        got = spot_now - spot
        paid = spent
        worth = got * price * CASH_UNIT // (ASSET_UNIT * cash_price)
    else:
        assert spot_now <= spot and cash_now >= cash, "spent"
        spent = spot - spot_now
        got = cash_now - cash
        paid = spent * price * CASH_UNIT // (ASSET_UNIT * cash_price)
        worth = got
    assert spent <= leg.amount_in, "spent"
    assert got >= leg.min_out and got > 0, "min out"
    assert worth * BPS >= paid * (BPS - loss_bps), "leg value"
    moved: uint256 = convert(abs(size), uint256)
    in_cash: int256 = convert(cash_now, int256) - convert(cash, int256)
    log HedgeLeg(
        nonce=nonce,
        target=leg.target,
        size=size * convert(WAD // ASSET_UNIT, int256),
        price=convert(abs(in_cash), uint256) * cash_price * E10 // CASH_UNIT * ASSET_UNIT // moved,
        cash=in_cash,
        fee=0,
    )


@internal
def _perp(leg: Leg, nonce: uint256, cash_price: uint256, price: uint256, loss_bps: uint256):
    """@dev Put margin in, trade, take margin out: what the venue holds may change only by its fill and fee."""
    assert leg.token_in == CASH and leg.token_out == PERP, "pair"
    assert len(leg.data) == 64, "data"
    size: int256 = convert(convert(slice(leg.data, 0, 32), bytes32), int256)
    limit: uint256 = convert(convert(slice(leg.data, 32, 32), bytes32), uint256)
    cash: uint256 = staticcall IERC20(CASH).balanceOf(self)
    was: int256 = 0
    equity: int256 = 0
    now: int256 = 0
    equity_now: int256 = 0
    maintenance: uint256 = 0
    was, equity, maintenance = staticcall Perp(PERP).account(self)
    if leg.amount_in > 0:
        assert extcall IERC20(CASH).approve(PERP, leg.amount_in, default_return_value=True), "approve"
        extcall Perp(PERP).deposit(leg.amount_in)
        assert extcall IERC20(CASH).approve(PERP, 0, default_return_value=True), "approve"
    fill: uint256 = 0
    fee: uint256 = 0
    if size != 0:
        fill, fee = extcall Perp(PERP).trade(size, limit)
    if leg.min_out > 0:
        extcall Perp(PERP).withdraw(leg.min_out)
    cash_now: uint256 = staticcall IERC20(CASH).balanceOf(self)
    now, equity_now, maintenance = staticcall Perp(PERP).account(self)
    assert now == was + size, "filled"
    assert cash_now + leg.amount_in == cash + leg.min_out, "spent"
    notional: uint256 = self._in_cash(convert(abs(size), uint256), cash_price, price)
    lost: int256 = convert(cash, int256) + equity - convert(cash_now, int256) - equity_now
    assert lost <= 1 or convert(lost, uint256) * BPS <= notional * loss_bps, "leg value"
    log HedgeLeg(
        nonce=nonce,
        target=PERP,
        size=size,
        price=fill,
        cash=convert(cash_now, int256) - convert(cash, int256),
        fee=fee,
    )
