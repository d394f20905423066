# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title Foredrift reference vault
@notice A portfolio of several tokens with two faces: investors use ERC-4626 (shares in the accounting asset, token 0;
        `share` of ERC-7575) and can always leave in kind; the keeper moves the weights with one atomic `rebalance`
        inside the mandate. Values are USD x 1e18 from the oracle; NAV is in raw units of the accounting asset.
"""

from ethereum.ercs import IERC20

import roles
import shares
import book
import limits

initializes: roles
initializes: shares
initializes: book
initializes: limits
exports: (roles.__interface__, shares.__interface__, book.__interface__, limits.__interface__)

struct Leg:
    token_in: address
    token_out: address
    amount_in: uint256  # the most that may leave
    min_out: uint256  # the least that must arrive
    target: address
    data: Bytes[512]

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

event LegExecuted:
    nonce: indexed(uint256)
    token_in: address
    token_out: address
    spent: uint256
    got: uint256
    target: address

event Rebalanced:
    nonce: indexed(uint256)
    plan_hash: indexed(bytes32)
    keeper: indexed(address)
    nav_before: uint256
    nav_after: uint256
    loss_ppb: uint256
    turnover: uint256  # USD x 1e18
    distance_before: uint256  # sum of abs(weight - target) x 1e9
    distance_after: uint256
    balances: DynArray[uint256, book.MAX_TOKENS]
    prices: DynArray[uint256, book.MAX_TOKENS]

VIRTUAL_SHARES: constant(uint256) = 10**6  # with 1 virtual unit of assets: an inflation attack costs 1e6 x its gain
SLACK: constant(uint256) = 9  # NAV is rounded down by less than this many raw units; who pays in pays on NAV rounded up

ASSET: immutable(address)


@deploy
def __init__(
    _name: String[64],
    _symbol: String[32],
    _owner: address,
    _keeper: address,
    _guardian: address,
    _delay: uint256,
    _tokens: DynArray[address, book.MAX_TOKENS],
    _decimals: DynArray[uint256, book.MAX_TOKENS],
    _targets: DynArray[uint256, book.MAX_TOKENS],
    _oracle: address,
    _mandate: limits.Mandate,
    _calls: DynArray[address, 8],
    _selectors: DynArray[bytes4, 8],
    _holders: DynArray[address, 32],
):
    """
    @param _tokens, _decimals, _targets In order; the first is the accounting asset. Targets sum to 10,000
    @param _calls, _selectors Allow-listed pairs (target, selector) at the start
    @param _holders Accounts that may hold shares; empty means anyone
    """
    roles.__init__(_owner, _keeper, _guardian, _delay)
    shares.__init__(_name, _symbol, convert(_decimals[0] + 6, uint8), _holders)
    book.__init__(_tokens, _decimals, _targets, _oracle)
    ASSET = _tokens[0]
    limits._set_mandate(_mandate)
    assert len(_calls) == len(_selectors), "calls"
    for i: uint256 in range(len(_calls), bound=8):
        limits._set_call(_calls[i], _selectors[i], True)


# ---------------------------------------------------------------- manager face


@external
@nonreentrant
def rebalance(
    legs: DynArray[Leg, limits.MAX_LEGS], plan_hash: bytes32, nonce: uint256, deadline: uint256, min_nav: uint256
) -> DynArray[int256, book.MAX_TOKENS]:
    """
    @notice Execute one plan, whole or not at all.
    @param plan_hash keccak256 of abi.encode(legs, nonce, deadline, min_nav, vault, chain id)
    @param min_nav Least NAV after the plan, raw units of the accounting asset
    @return Change of every token balance, raw units
    """
    roles._only_keeper()
    assert block.timestamp <= deadline, "deadline"
    clock: uint256 = limits._clock
    assert nonce == clock & limits.U64, "nonce"
    assert clock >> 192 != block.number, "flow"
    mandate: uint256 = limits._mandate
    assert len(legs) > 0 and len(legs) <= (mandate >> 32) & 255, "legs"
    if nonce > 0:
        assert block.timestamp >= ((clock >> 128) & limits.U64) + ((mandate >> 40) & limits.U32), "cooldown"
        assert (clock >> 64) & limits.U64 != block.number, "cooldown"
    assert plan_hash == keccak256(abi_encode(legs, nonce, deadline, min_nav, self, chain.id)), "plan hash"
    prices: DynArray[uint256, book.MAX_TOKENS] = []
    code: uint256 = 0
    prices, code = book._prices()
    assert code == book.GOOD, "oracle"

    limits._clock = (nonce + 1) | (block.number << 64) | (block.timestamp << 128) | ((clock >> 192) << 192)
    book._remember(prices)
    before: DynArray[uint256, book.MAX_TOKENS] = book._balances()
    usd_before: uint256 = book._total(before, prices)
    assert usd_before > 0, "empty"
    held: DynArray[uint256, book.MAX_TOKENS] = before
    turnover: uint256 = 0
    for leg: Leg in legs:
        i: uint256 = 0
        j: uint256 = 0
        i, j = self._pair(leg.token_in, leg.token_out, leg.target)
        in_left: uint256 = 0
        out_now: uint256 = 0
        in_left, out_now = self._swap(leg)
        assert in_left <= held[i] and held[i] - in_left <= leg.amount_in, "spent"
        assert out_now >= held[j] and out_now - held[j] >= leg.min_out, "min out"
        spent: uint256 = held[i] - in_left
        got: uint256 = out_now - held[j]
        sold: uint256 = book._value(i, spent, prices[i])
        floor_usd: uint256 = sold * (book.BPS - (mandate & limits.U16))
        assert book._value(j, got, prices[j]) * book.BPS >= floor_usd, "leg value"
        turnover += sold
        held[i] = in_left
        held[j] = out_now
        log LegExecuted(
            nonce=nonce, token_in=leg.token_in, token_out=leg.token_out, spent=spent, got=got, target=leg.target
        )
    assert turnover * book.BPS <= ((mandate >> 16) & limits.U16) * usd_before, "turnover"
    return self._settle(plan_hash, nonce, min_nav, mandate, before, prices, usd_before, turnover)


@internal
@view
def _pair(token_in: address, token_out: address, target: address) -> (uint256, uint256):
    """@dev Positions of the two tokens in the portfolio; a token (or the vault) is never a call target."""
    n: uint256 = book.COUNT
    i: uint256 = n
    j: uint256 = n
    for k: uint256 in range(n, bound=book.MAX_TOKENS):
        token: address = book._token(k)
        if token == token_in:
            i = k
        if token == token_out:
            j = k
        assert token != target, "target"
    assert i < n and j < n and i != j, "pair"
    assert target != self, "target"
    return i, j


@internal
def _swap(leg: Leg) -> (uint256, uint256):
    """@dev Exact approval, allow-listed call, approval back to 0; the two balances afterwards."""
    assert len(leg.data) >= 4, "target"
    assert limits.call_allowed[leg.target][convert(slice(leg.data, 0, 4), bytes4)], "target"
    assert extcall IERC20(leg.token_in).approve(leg.target, leg.amount_in, default_return_value=True), "approve"
    raw_call(leg.target, leg.data)
    if staticcall IERC20(leg.token_in).allowance(self, leg.target) != 0:
        assert extcall IERC20(leg.token_in).approve(leg.target, 0, default_return_value=True), "approve"
    return (
        staticcall IERC20(leg.token_in).balanceOf(self),
        staticcall IERC20(leg.token_out).balanceOf(self),
    )


@internal
def _settle(
    plan_hash: bytes32,
    nonce: uint256,
    min_nav: uint256,
    mandate: uint256,
    before: DynArray[uint256, book.MAX_TOKENS],
    prices: DynArray[uint256, book.MAX_TOKENS],
    usd_before: uint256,
    turnover: uint256,
) -> DynArray[int256, book.MAX_TOKENS]:
    """@dev NAV floor, loss budget and progress over the whole plan; records it."""
    after: DynArray[uint256, book.MAX_TOKENS] = book._balances()
    usd_after: uint256 = book._total(after, prices)
    nav_after: uint256 = book._in_asset(usd_after, prices[0])
    assert nav_after >= min_nav, "nav floor"
    loss: uint256 = 0
    if usd_after < usd_before:
        loss = ((usd_before - usd_after) * limits.PPB + usd_before - 1) // usd_before
    assert limits._lost((mandate >> 72) & limits.U32) + loss <= mandate >> 104, "loss budget"
    limits._add_loss((mandate >> 72) & limits.U32, loss)
    distance_before: uint256 = book._distance(before, prices, usd_before)
    distance_after: uint256 = book._distance(after, prices, usd_after)
    assert distance_after <= distance_before, "progress"
    log Rebalanced(
        nonce=nonce,
        plan_hash=plan_hash,
        keeper=msg.sender,
        nav_before=book._in_asset(usd_before, prices[0]),
        nav_after=nav_after,
        loss_ppb=loss,
        turnover=turnover,
        distance_before=distance_before,
        distance_after=distance_after,
        balances=after,
        prices=prices,
    )
    deltas: DynArray[int256, book.MAX_TOKENS] = []
    for i: uint256 in range(len(after), bound=book.MAX_TOKENS):
        deltas.append(convert(after[i], int256) - convert(before[i], int256))
    return deltas


# ---------------------------------------------------------------- investor face


@internal
@view
def _nav() -> (uint256, uint256, DynArray[uint256, book.MAX_TOKENS]):
    """@dev NAV at good or last good prices, the verdict on the prices, the prices."""
    prices: DynArray[uint256, book.MAX_TOKENS] = []
    code: uint256 = 0
    prices, code = book._prices()
    return book._in_asset(book._total(book._balances(), prices), prices[0]), code, prices


@internal
@view
def _to_shares(assets: uint256, nav: uint256, up: bool) -> uint256:
    return self._scale(assets, shares.totalSupply + VIRTUAL_SHARES, nav + 1, up)


@internal
@view
def _to_assets(amount: uint256, nav: uint256, up: bool) -> uint256:
    return self._scale(amount, nav + 1, shares.totalSupply + VIRTUAL_SHARES, up)


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
    return not roles._paused() and (limits._clock >> 64) & limits.U64 != block.number


@internal
def _enter_block() -> uint256:
    """@dev Gate of every oracle-priced deposit and exit; returns NAV at good prices."""
    assert not roles._paused(), "paused"
    clock: uint256 = limits._clock
    assert (clock >> 64) & limits.U64 != block.number, "flow"
    nav: uint256 = 0
    code: uint256 = 0
    prices: DynArray[uint256, book.MAX_TOKENS] = []
    nav, code, prices = self._nav()
    assert code == book.GOOD, "oracle"
    book._remember(prices)
    limits._clock = (clock & (2**192 - 1)) | (block.number << 192)
    return nav


@internal
def _take(assets: uint256, amount: uint256, receiver: address):
    before: uint256 = staticcall IERC20(ASSET).balanceOf(self)
    assert extcall IERC20(ASSET).transferFrom(msg.sender, self, assets, default_return_value=True), "transfer"
    assert staticcall IERC20(ASSET).balanceOf(self) == before + assets, "received"
    shares._mint(receiver, amount)
    log Deposit(sender=msg.sender, owner=receiver, assets=assets, shares=amount)


@internal
def _give(assets: uint256, amount: uint256, receiver: address, owner: address):
    shares._spend(owner, msg.sender, amount)
    shares._burn(owner, amount)
    before: uint256 = staticcall IERC20(ASSET).balanceOf(self)
    assert before >= assets, "cash"
    assert extcall IERC20(ASSET).transfer(receiver, assets, default_return_value=True), "transfer"
    assert staticcall IERC20(ASSET).balanceOf(self) == before - assets, "sent"
    log Withdraw(sender=msg.sender, receiver=receiver, owner=owner, assets=assets, shares=amount)


@external
@nonreentrant
def deposit(assets: uint256, receiver: address) -> uint256:
    """@notice Pay `assets`, receive shares rounded down."""
    amount: uint256 = self._to_shares(assets, self._enter_block() + SLACK, False)
    self._take(assets, amount, receiver)
    return amount


@external
@nonreentrant
def mint(amount: uint256, receiver: address) -> uint256:
    """@notice Receive `amount` shares, pay assets rounded up."""
    assets: uint256 = self._to_assets(amount, self._enter_block() + SLACK, True)
    self._take(assets, amount, receiver)
    return assets


@external
@nonreentrant
def withdraw(assets: uint256, receiver: address, owner: address) -> uint256:
    """@notice Receive `assets`, burn shares rounded up."""
    amount: uint256 = self._to_shares(assets, self._enter_block(), True)
    self._give(assets, amount, receiver, owner)
    return amount


@external
@nonreentrant
def redeem(amount: uint256, receiver: address, owner: address) -> uint256:
    """@notice Burn `amount` shares, receive assets rounded down."""
    assets: uint256 = self._to_assets(amount, self._enter_block(), False)
    self._give(assets, amount, receiver, owner)
    return assets


@external
@nonreentrant
def redeemInKind(amount: uint256, receiver: address, owner: address, skip: uint256 = 0) -> DynArray[
    uint256, book.MAX_TOKENS
]:
    """
    @notice Leave with a pro-rata part of every token, rounded down. Needs no oracle, no keeper, and works when paused.
    @param skip Bit i set: leave token i behind, for one whose transfers fail. It stays with the other holders
    @return Raw amount sent of every token
    """
    supply: uint256 = shares.totalSupply + VIRTUAL_SHARES
    shares._spend(owner, msg.sender, amount)
    shares._burn(owner, amount)
    amounts: DynArray[uint256, book.MAX_TOKENS] = []
    for i: uint256 in range(book.COUNT, bound=book.MAX_TOKENS):
        part: uint256 = 0
        if (skip >> i) & 1 == 0:
            token: IERC20 = IERC20(book._token(i))
            part = staticcall token.balanceOf(self) * amount // supply
            if part > 0:
                assert extcall token.transfer(receiver, part, default_return_value=True), "transfer"
        amounts.append(part)
    log RedeemedInKind(sender=msg.sender, receiver=receiver, owner=owner, shares=amount, amounts=amounts)
    return amounts


@external
@view
def asset() -> address:
    """@notice The accounting asset, token 0."""
    return ASSET


@external
@view
def share() -> address:
    """@notice ERC-7575: the share token is the vault itself."""
    return self


@external
@view
def totalAssets() -> uint256:
    """@notice NAV in the accounting asset; at last good prices while the oracle is not good. Never reverts."""
    return self._nav()[0]


@external
@view
def convertToShares(assets: uint256) -> uint256:
    return self._to_shares(assets, self._nav()[0], False)


@external
@view
def convertToAssets(amount: uint256) -> uint256:
    return self._to_assets(amount, self._nav()[0], False)


@external
@view
def previewDeposit(assets: uint256) -> uint256:
    return self._to_shares(assets, self._nav()[0] + SLACK, False)


@external
@view
def previewMint(amount: uint256) -> uint256:
    return self._to_assets(amount, self._nav()[0] + SLACK, True)


@external
@view
def previewWithdraw(assets: uint256) -> uint256:
    return self._to_shares(assets, self._nav()[0], True)


@external
@view
def previewRedeem(amount: uint256) -> uint256:
    return self._to_assets(amount, self._nav()[0], False)


@internal
@view
def _room(receiver: address) -> uint256:
    """@dev 0 where nothing may be deposited now, else no limit short of the arithmetic's own."""
    if not self._open() or not shares._may_hold(receiver) or self._nav()[1] != book.GOOD:
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
    nav: uint256 = 0
    code: uint256 = 0
    prices: DynArray[uint256, book.MAX_TOKENS] = []
    nav, code, prices = self._nav()
    if code != book.GOOD or not self._open():
        return 0, 0
    cash: uint256 = staticcall IERC20(ASSET).balanceOf(self)
    held: uint256 = shares.balanceOf[owner]
    return min(self._to_assets(held, nav, False), cash), min(held, self._to_shares(cash, nav, False))


@external
@view
def maxWithdraw(owner: address) -> uint256:
    """@notice Limited by the cash at hand; `redeemInKind` is not."""
    return self._exit(owner)[0]


@external
@view
def maxRedeem(owner: address) -> uint256:
    """@notice Limited by the cash at hand; `redeemInKind` is not."""
    return self._exit(owner)[1]


@external
@view
def supportsInterface(id: bytes4) -> bool:
    """@notice ERC-165: ERC-165, ERC-20, ERC-4626 and ERC-7575."""
    return id in [0x01ffc9a7, 0x36372b07, 0x87dfe5a0, 0x2f0a18c5]
