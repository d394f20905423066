# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title Foredrift reference vault: the investors' half
@notice ERC-4626 in the accounting asset (token 0), the in-kind exit, claims, fees, and the share token. The vault runs
        this code on its own storage; the contract that carries it holds nothing and can be shared by many vaults.
        Who enters pays on the higher, who leaves is paid on the lower of each token's two prices, and both pay a fee
        that stays with the holders.
"""

from ethereum.ercs import IERC20

import roles
import shares
import book
import limits
import routes

initializes: roles
initializes: shares
initializes: book
initializes: limits
initializes: routes
exports: (shares.__interface__, limits.__interface__)

event Deposit:
    sender: indexed(address)
    owner: indexed(address)
    assets: uint256
    shares: uint256

event Withdraw:
    sender: indexed(address)
    receiver: indexed(address)
    owner: indexed(address)
    assets: uint256
    shares: uint256

event RedeemedInKind:
    sender: indexed(address)
    receiver: indexed(address)
    owner: indexed(address)
    shares: uint256
    amounts: DynArray[uint256, book.MAX_TOKENS]

event ClaimMade:
    token: indexed(address)
    account: indexed(address)
    amount: uint256

event ClaimPaid:
    token: indexed(address)
    account: indexed(address)
    receiver: indexed(address)
    amount: uint256

event FeesPaid:
    recipient: indexed(address)
    shares: uint256

event TermsSet:
    hold_s: uint256
    entry_bps: uint256
    exit_bps: uint256

event FeesSet:
    management_bps: uint256
    performance_bps: uint256
    recipient: indexed(address)

struct State:
    rows: DynArray[uint256, book.MAX_TOKENS]
    balances: DynArray[uint256, book.MAX_TOKENS]
    quotes: DynArray[uint256, book.MAX_TOKENS]
    good: bool  # whether flows may be priced
    supply: uint256  # with the fee shares that are due, and the virtual ones
    due: uint256  # fee shares
    mark: uint256  # the high-water mark after them

VIRTUAL_SHARES: constant(uint256) = 10**6  # with 1 virtual unit of assets: an inflation attack costs 1e6 x its gain
SLACK: constant(uint256) = 9  # NAV is rounded down by less than this many raw units; who pays in pays on NAV rounded up
BPS: constant(uint256) = 10_000
U16: constant(uint256) = 2**16 - 1
U40: constant(uint256) = 2**40 - 1
YEAR: constant(uint256) = 31_557_600
ONE: constant(uint256) = 10**24  # of the high-water mark: NAV per share x 1e24, raw units
MAX_HOLD: constant(uint256) = 7 * 86_400
MAX_FLOW_FEE: constant(uint256) = 300  # bp, each way
MAX_MANAGEMENT: constant(uint256) = 500  # bp a year
MAX_PERFORMANCE: constant(uint256) = 3_000  # bp of what NAV per share gains above its high-water mark

high_water: public(uint256)
fee_recipient: public(address)
claims: public(HashMap[address, HashMap[address, uint256]])  # token -> account -> part of what is set aside


# ---------------------------------------------------------------- prices and fees


@internal
@view
def _state() -> State:
    s: State = empty(State)
    s.rows = book._tokens()
    s.balances = book._balances(s.rows)
    s.quotes = book._quotes(len(s.rows))
    s.good = book._all_good(s.rows, s.balances, s.quotes)
    s.supply = shares.totalSupply
    s.mark = self.high_water
    terms: uint256 = shares._terms
    s.due = self._management(terms, s.supply)
    s.supply += s.due + VIRTUAL_SHARES
    if s.good and (terms >> 80) & U16 != 0:
        price: uint256 = self._scale(ONE, self._nav(s, book.FEED) + 1, s.supply, False)
        if price > s.mark:
            if s.mark != 0 and s.supply < 2**128:
                # what the holders gained, in shares at the price after the fee
                cut: uint256 = min(price, 2**112) - min(s.mark, 2**112)
                cut = cut * ((terms >> 80) & U16) // BPS
                more: uint256 = self._scale(s.supply, cut, max(price - cut, 1), False)
                s.due += more
                s.supply += more
                price -= cut
            s.mark = price
    return s


@internal
@view
def _management(terms: uint256, supply: uint256) -> uint256:
    """@dev Shares due for the time since fees were last paid: they then are that part of all."""
    bps: uint256 = (terms >> 64) & U16
    if bps == 0:
        return 0
    part: uint256 = bps * min(block.timestamp - (terms >> 96), YEAR)
    return self._scale(supply, part, BPS * YEAR - part, False)


@internal
@view
def _nav(s: State, side: uint256) -> uint256:
    return book._nav(s.rows, s.balances, s.quotes, side)


@internal
def _pay_fees(due: uint256, mark: uint256):
    terms: uint256 = shares._terms
    if (terms >> 64) & (2**32 - 1) != 0:
        shares._terms = (terms & (2**96 - 1)) | (block.timestamp << 96)
        self.high_water = mark
        if due > 0:
            shares._mint(self.fee_recipient, due)
            log FeesPaid(recipient=self.fee_recipient, shares=due)


@internal
@pure
def _scale(x: uint256, numerator: uint256, denominator: uint256, up: bool) -> uint256:
    """@dev x * numerator / denominator; what does not fit a word stays at the largest one."""
    if x != 0 and numerator > max_value(uint256) // x:
        return max_value(uint256)
    product: uint256 = x * numerator
    result: uint256 = product // denominator
    if up and result * denominator != product:
        result += 1
    return result


@internal
@view
def _open() -> bool:
    """@dev Whether oracle-priced deposits and exits may happen at all in this block."""
    return (
        not roles._paused()
        and (limits._clock >> 64) & limits.U64 != block.number
        and block.timestamp >= limits.doubted_until
        and not limits._live()
    )


@internal
def _enter() -> State:
    """@dev Gate of every oracle-priced deposit and exit."""
    assert not roles._paused(), "paused"
    assert (limits._clock >> 64) & limits.U64 != block.number, "flow"
    assert block.timestamp >= limits.doubted_until, "doubted"
    assert not limits._live(), "armed"
    s: State = self._state()
    assert s.good, "oracle"
    book._remember(s.quotes)
    limits._note_flow(s.balances)
    self._pay_fees(s.due, s.mark)
    return s


@internal
@view
def _shares_for(s: State, assets: uint256) -> uint256:
    """@dev Shares for a deposit of `assets`."""
    fee: uint256 = self._scale(assets, (shares._terms >> 32) & U16, BPS, True)
    return self._scale(assets - fee, s.supply, self._nav(s, book.HIGHER) + SLACK + 1, False)


@internal
@view
def _cost_of(s: State, amount: uint256) -> uint256:
    """@dev Assets to pay for `amount` shares."""
    net: uint256 = self._scale(amount, self._nav(s, book.HIGHER) + SLACK + 1, s.supply, True)
    return self._scale(net, BPS, BPS - ((shares._terms >> 32) & U16), True)


@internal
@view
def _burnt_for(s: State, assets: uint256) -> uint256:
    """@dev Shares to burn for `assets`."""
    gross: uint256 = self._scale(assets, BPS, self._kept(), True)
    return self._scale(gross, s.supply, self._nav(s, book.LOWER) + 1, True)


@internal
@view
def _worth_of(s: State, amount: uint256) -> uint256:
    """@dev Assets for `amount` shares."""
    gross: uint256 = self._scale(amount, self._nav(s, book.LOWER) + 1, s.supply, False)
    return self._scale(gross, self._kept(), BPS, False)


@internal
@view
def _kept() -> uint256:
    """@dev What the exit fee leaves of 10,000."""
    return BPS - ((shares._terms >> 48) & U16)


# ---------------------------------------------------------------- ERC-4626


@internal
def _take(assets: uint256, amount: uint256, receiver: address):
    assert assets != 0 and amount != 0, "zero"
    token: IERC20 = IERC20(self._asset())
    before: uint256 = staticcall token.balanceOf(self)
    assert extcall token.transferFrom(msg.sender, self, assets, default_return_value=True), "transfer"
    assert staticcall token.balanceOf(self) == before + assets, "received"
    shares._buy(receiver, amount)
    log Deposit(sender=msg.sender, owner=receiver, assets=assets, shares=amount)


@internal
def _give(cash: uint256, assets: uint256, amount: uint256, receiver: address, owner: address):
    assert assets != 0 and amount != 0, "zero"
    shares._spend(owner, msg.sender, amount)
    shares._burn(owner, amount)
    assert cash >= assets, "cash"
    token: IERC20 = IERC20(self._asset())
    before: uint256 = staticcall token.balanceOf(self)
    assert extcall token.transfer(receiver, assets, default_return_value=True), "transfer"
    assert staticcall token.balanceOf(self) == before - assets, "sent"
    log Withdraw(sender=msg.sender, receiver=receiver, owner=owner, assets=assets, shares=amount)


@external
@nonreentrant
def deposit(assets: uint256, receiver: address) -> uint256:
    """@notice Pay `assets`, receive shares rounded down."""
    s: State = self._enter()
    amount: uint256 = self._shares_for(s, assets)
    self._take(assets, amount, receiver)
    return amount


@external
@nonreentrant
def mint(amount: uint256, receiver: address) -> uint256:
    """@notice Receive `amount` shares, pay assets rounded up."""
    s: State = self._enter()
    assets: uint256 = self._cost_of(s, amount)
    self._take(assets, amount, receiver)
    return assets


@external
@nonreentrant
def withdraw(assets: uint256, receiver: address, owner: address) -> uint256:
    """@notice Receive `assets`, burn shares rounded up."""
    s: State = self._enter()
    amount: uint256 = self._burnt_for(s, assets)
    self._give(s.balances[0], assets, amount, receiver, owner)
    return amount


@external
@nonreentrant
def redeem(amount: uint256, receiver: address, owner: address) -> uint256:
    """@notice Burn `amount` shares, receive assets rounded down."""
    s: State = self._enter()
    assets: uint256 = self._worth_of(s, amount)
    self._give(s.balances[0], assets, amount, receiver, owner)
    return assets


@external
@nonreentrant
def redeemInKind(amount: uint256, receiver: address, owner: address, skip: uint256 = 0) -> DynArray[
    uint256, book.MAX_TOKENS
]:
    """
    @notice Leave with a pro-rata part of every token, less the exit fee, rounded down. Needs no oracle, no keeper, and
            works when paused.
    @param skip Bit i set: token i cannot be moved now; its part is set aside for `receiver`, who can `claim` it later
    @return Raw amount sent of every token
    """
    assert amount != 0, "zero"
    assert receiver not in [empty(address), self], "receiver"
    terms: uint256 = shares._terms
    due: uint256 = self._management(terms, shares.totalSupply)
    self._pay_fees(due, self.high_water)
    supply: uint256 = shares.totalSupply + VIRTUAL_SHARES
    shares._spend(owner, msg.sender, amount)
    shares._burn(owner, amount)
    rows: DynArray[uint256, book.MAX_TOKENS] = book._tokens()
    held: DynArray[uint256, book.MAX_TOKENS] = book._balances(rows)
    limits._note_flow(held)
    amounts: DynArray[uint256, book.MAX_TOKENS] = []
    for i: uint256 in range(len(rows), bound=book.MAX_TOKENS):
        part: uint256 = held[i] * amount // supply * self._kept() // BPS
        token: address = convert(rows[i] & book.LOW, address)
        if part > 0:
            if (skip >> i) & 1 == 0:
                assert extcall IERC20(token).transfer(receiver, part, default_return_value=True), "transfer"
            else:
                book._rows[i] |= 1 << book.CLAIMED
                book.set_aside[token] += part
                self.claims[token][receiver] += part
                log ClaimMade(token=token, account=receiver, amount=part)
                part = 0
        amounts.append(part)
    log RedeemedInKind(sender=msg.sender, receiver=receiver, owner=owner, shares=amount, amounts=amounts)
    return amounts


@external
@nonreentrant
def claim(token: address, receiver: address) -> uint256:
    """@notice Take what was set aside for the caller of a token that could not be moved; its part if some was lost."""
    mine: uint256 = self.claims[token][msg.sender]
    assert mine != 0, "zero"
    aside: uint256 = book.set_aside[token]
    amount: uint256 = self._scale(mine, min(staticcall IERC20(token).balanceOf(self), aside), aside, False)
    self.claims[token][msg.sender] = 0
    book.set_aside[token] = aside - mine
    assert extcall IERC20(token).transfer(receiver, amount, default_return_value=True), "transfer"
    log ClaimPaid(token=token, account=msg.sender, receiver=receiver, amount=amount)
    return amount


@internal
@view
def _asset() -> address:
    return convert(book._rows[0] & book.LOW, address)


@external
@view
def asset() -> address:
    """@notice The accounting asset, token 0."""
    return self._asset()


@external
@view
def share() -> address:
    """@notice ERC-7575: the share token is the vault itself."""
    return self


@external
@view
def decimals() -> uint8:
    """@notice Of the shares: six more than the accounting asset has."""
    return convert(((book._rows[0] >> 160) & 255) + 6, uint8)


@external
@view
def totalAssets() -> uint256:
    """@notice NAV in the accounting asset; at last good prices while the oracle is not good. Never reverts."""
    return self._nav(self._state(), book.FEED)


@external
@view
def convertToShares(assets: uint256) -> uint256:
    s: State = self._state()
    return self._scale(assets, s.supply, self._nav(s, book.FEED) + 1, False)


@external
@view
def convertToAssets(amount: uint256) -> uint256:
    s: State = self._state()
    return self._scale(amount, self._nav(s, book.FEED) + 1, s.supply, False)


@external
@view
def previewDeposit(assets: uint256) -> uint256:
    return self._shares_for(self._state(), assets)


@external
@view
def previewMint(amount: uint256) -> uint256:
    return self._cost_of(self._state(), amount)


@external
@view
def previewWithdraw(assets: uint256) -> uint256:
    return self._burnt_for(self._state(), assets)


@external
@view
def previewRedeem(amount: uint256) -> uint256:
    return self._worth_of(self._state(), amount)


@internal
@view
def _room(receiver: address) -> uint256:
    """@dev 0 where nothing may be deposited now, else no limit short of the arithmetic's own."""
    if not self._open() or not shares._may_hold(receiver) or not self._state().good:
        return 0
    return 2**128


@external
@view
def maxDeposit(receiver: address) -> uint256:
    return self._room(receiver)


@external
@view
def maxMint(receiver: address) -> uint256:
    return self._room(receiver)


@internal
@view
def _exit(owner: address) -> (uint256, uint256):
    """@dev Most assets and most shares `owner` can take out in cash now; 0 while the oracle is not good."""
    s: State = self._state()
    if not s.good or not self._open():
        return 0, 0
    cash: uint256 = s.balances[0]
    free: uint256 = shares._free(owner)
    gross: uint256 = self._scale(cash, BPS, self._kept(), False)
    amount: uint256 = min(free, self._scale(gross, s.supply, self._nav(s, book.LOWER) + 1, False))
    if self._worth_of(s, amount) == 0:
        amount = 0
    return min(self._worth_of(s, free), cash), amount


@external
@view
def maxWithdraw(owner: address) -> uint256:
    """@notice Limited by the cash at hand and by the hold; `redeemInKind` by the hold alone."""
    return self._exit(owner)[0]


@external
@view
def maxRedeem(owner: address) -> uint256:
    """@notice Limited by the cash at hand and by the hold; `redeemInKind` by the hold alone."""
    return self._exit(owner)[1]


@external
@view
def supportsInterface(id: bytes4) -> bool:
    """@notice ERC-165: ERC-165, ERC-20, ERC-4626 and ERC-7575."""
    return id in [0x01ffc9a7, 0x36372b07, 0x87dfe5a0, 0x2f0a18c5]


# ---------------------------------------------------------------- terms


@external
@view
def terms() -> (uint256, uint256, uint256, uint256, uint256):
    """@notice Hold in seconds; entry, exit, management (a year) and performance fee in basis points."""
    t: uint256 = shares._terms
    return t & shares.U32, (t >> 32) & U16, (t >> 48) & U16, (t >> 64) & U16, (t >> 80) & U16


@external
def set_terms(hold_s: uint256, entry_bps: uint256, exit_bps: uint256):
    """@notice Set how long bought shares are held and what entering and leaving costs; through the timelock."""
    assert msg.sender == self, "timelock"
    assert hold_s <= MAX_HOLD and entry_bps <= MAX_FLOW_FEE and exit_bps <= MAX_FLOW_FEE, "terms"
    shares._terms = ((shares._terms >> 64) << 64) | hold_s | (entry_bps << 32) | (exit_bps << 48)
    log TermsSet(hold_s=hold_s, entry_bps=entry_bps, exit_bps=exit_bps)


@external
def set_fees(management_bps: uint256, performance_bps: uint256, recipient: address):
    """@notice Set what the manager is paid in shares, from now on; through the timelock."""
    assert msg.sender == self, "timelock"
    assert management_bps <= MAX_MANAGEMENT and performance_bps <= MAX_PERFORMANCE, "terms"
    assert management_bps + performance_bps == 0 or recipient not in [empty(address), self], "terms"
    s: State = self._state()
    self._pay_fees(s.due, s.mark)
    self.fee_recipient = recipient
    shares._terms = (
        (shares._terms & (2**64 - 1)) | (management_bps << 64) | (performance_bps << 80) | (block.timestamp << 96)
    )
    self.high_water = 0
    if performance_bps != 0:
        assert s.good, "oracle"
        self.high_water = self._state().mark
    log FeesSet(management_bps=management_bps, performance_bps=performance_bps, recipient=recipient)


@external
@nonreentrant
def pay_fees():
    """@notice Pay the manager the shares that are due; refused while the oracle is not good."""
    s: State = self._state()
    assert s.good, "oracle"
    self._pay_fees(s.due, s.mark)
