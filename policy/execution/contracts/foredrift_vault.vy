# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title Foredrift reference vault
@notice A portfolio of several tokens with two faces. The keeper moves the weights with one atomic `rebalance` inside
        the mandate; that, the roles and the owner's changes are in this contract. Investors use ERC-4626 (shares in
        the accounting asset, token 0; `share` of ERC-7575) and can always leave in kind: that is the code of
        `investors`, fixed at creation, which this contract runs on its own storage (all declare the same modules in
        the same order). Selling through auctions and signed orders (ERC-1271) is the code of `auctions`, fixed and run
        alike, as is sending cash to the owner's vaults on other chains: `ports`. Values are USD x 1e18 from the oracle; NAV is in raw units of the accounting asset.
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
exports: (roles.__interface__, book.__interface__)

struct Leg:
    token_in: address
    token_out: address
    amount_in: uint256  # the most that may leave
    min_out: uint256  # the least that must arrive
    target: address
    data: Bytes[512]

struct Terms:
    hold_s: uint256  # how long bought shares are held; the longest heartbeat of a feed at least
    entry_bps: uint256  # stays in the vault, as the exit fee does
    exit_bps: uint256

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

event Swept:
    token: indexed(address)
    receiver: indexed(address)
    amount: uint256

struct Books:
    rows: DynArray[uint256, book.MAX_TOKENS]
    quotes: DynArray[uint256, book.MAX_TOKENS]
    before: DynArray[uint256, book.MAX_TOKENS]
    usd_before: uint256
    turnover: uint256

investors: public(immutable(address))
auctions: public(immutable(address))
ports: public(immutable(address))
# arm, disarm, offer, venues, isValidSignature
AUCTIONS: constant(bytes4[5]) = [
    0x08ab5edd, 0x83985082, 0xc028df06, 0x9ea06156, 0x1626ba7e,
]
# depart, settle, set_beneficiary, set_rate, set_route, set_slack, route, port
PORTS: constant(bytes4[8]) = [
    0x13f64d24, 0x3c685b3c, 0xcff2fffd, 0x0593cf4b, 0x5f093b4a, 0x6195f048, 0xb980c78f, 0x26b3c68b,
]


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
    _budgets: limits.Budgets,
    _terms: Terms,
    _calls: DynArray[address, 8],
    _selectors: DynArray[bytes4, 8],
    _holders: DynArray[address, 32],
    _investors: address,
    _auctions: address,
    _ports: address,
):
    """
    @param _tokens, _decimals, _targets In order; the first is the accounting asset. Targets sum to 10,000
    @param _calls, _selectors Allow-listed pairs (target, selector) at the start
    @param _holders Accounts that may hold shares; empty means anyone
    @param _investors The code of the investors' half
    @param _auctions The code of orders; it sells nothing at a venue that is no allow-listed call
    @param _ports The code of departures; it sends nothing before the owner has set a route
    """
    assert _investors.codesize > 0 and _auctions.codesize > 0 and _ports.codesize > 0, "investors"
    investors = _investors
    auctions = _auctions
    ports = _ports
    roles._set_up(_owner, _keeper, _guardian, _delay)
    shares._set_up(_name, _symbol, _holders)
    book._set_tokens(_tokens, _decimals, _targets)
    book._set_oracle(_oracle)
    limits._set_mandate(_mandate)
    limits._set_budgets(_budgets)
    assert _terms.hold_s <= 7 * 86_400 and _terms.entry_bps <= 300 and _terms.exit_bps <= 300, "terms"
    shares._terms = _terms.hold_s | (_terms.entry_bps << 32) | (_terms.exit_bps << 48)
    assert len(_calls) == len(_selectors), "calls"
    for i: uint256 in range(len(_calls), bound=8):
        limits._set_call(_calls[i], _selectors[i], True)


# ---------------------------------------------------------------- investor face


@external
@payable
@raw_return
def __default__() -> Bytes[1024]:
    """@notice Everything else: the code of `investors`, `auctions` or `ports` on this vault's storage."""
    code: address = investors
    if len(msg.data) >= 4:
        called: bytes4 = convert(slice(msg.data, 0, 4), bytes4)
        if called in AUCTIONS:
            code = auctions
        elif called in PORTS:
            code = ports
    return raw_call(code, msg.data, max_outsize=1024, is_delegate_call=True)


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
    assert limits._offer & limits.U64 != nonce + 1, "armed"
    mandate: uint256 = limits._mandate
    assert len(legs) > 0 and len(legs) <= (mandate >> 32) & 255, "legs"
    if nonce > 0:
        assert block.timestamp >= ((clock >> 128) & limits.U64) + ((mandate >> 40) & limits.U32), "cooldown"
        assert (clock >> 64) & limits.U64 != block.number, "cooldown"
    assert plan_hash == keccak256(abi_encode(legs, nonce, deadline, min_nav, self, chain.id)), "plan hash"
    limits._clock = (nonce + 1) | (block.number << 64) | (block.timestamp << 128) | ((clock >> 192) << 192)

    b: Books = empty(Books)
    b.rows = book._tokens()
    b.quotes = book._quotes(len(b.rows))
    book._remember(b.quotes)
    b.before = book._balances(b.rows)
    b.usd_before = book._total(b.rows, b.before, b.quotes)
    assert b.usd_before > 0, "empty"
    held: DynArray[uint256, book.MAX_TOKENS] = b.before
    for leg: Leg in legs:
        i: uint256 = 0
        j: uint256 = 0
        i, j = self._pair(b.rows, leg.token_in, leg.token_out, leg.target)
        assert (b.quotes[i] | b.quotes[j]) >> 192 == 0, "oracle"
        self._swap(leg)
        in_left: uint256 = book._balance(b.rows[i])
        out_now: uint256 = book._balance(b.rows[j])
        if (b.rows[i] >> book.CLAIMED) & 1 != 0:
            # what is set aside for claims is not the keeper's to sell
            assert staticcall IERC20(leg.token_in).balanceOf(self) >= book.set_aside[leg.token_in], "spent"
        assert in_left <= held[i] and held[i] - in_left <= leg.amount_in, "spent"
        assert out_now >= held[j] and out_now - held[j] >= leg.min_out, "min out"
        spent: uint256 = held[i] - in_left
        got: uint256 = out_now - held[j]
        sold: uint256 = book._value(b.rows[i], spent, (b.quotes[i] >> book.FEED) & book.U64)
        bought: uint256 = book._value(b.rows[j], got, (b.quotes[j] >> book.FEED) & book.U64) * book.BPS
        assert bought >= sold * (book.BPS - (mandate & limits.U16)), "leg value"
        assert bought <= sold * (book.BPS + (mandate >> 240)), "leg gain"
        b.turnover += sold
        held[i] = in_left
        held[j] = out_now
        log LegExecuted(
            nonce=nonce, token_in=leg.token_in, token_out=leg.token_out, spent=spent, got=got, target=leg.target
        )
    return self._settle(plan_hash, nonce, min_nav, mandate, (clock >> 128) & limits.U64, b)


@internal
@view
def _pair(
    rows: DynArray[uint256, book.MAX_TOKENS], token_in: address, token_out: address, target: address
) -> (uint256, uint256):
    """@dev Positions of the two tokens in the portfolio; a token (or the vault) is never a call target."""
    n: uint256 = len(rows)
    i: uint256 = n
    j: uint256 = n
    for k: uint256 in range(n, bound=book.MAX_TOKENS):
        token: address = convert(rows[k] & book.LOW, address)
        if token == token_in:
            i = k
        if token == token_out:
            j = k
        assert token != target, "target"
    assert i < n and j < n and i != j, "pair"
    assert target != self, "target"
    return i, j


@internal
def _swap(leg: Leg):
    """@dev Exact approval, allow-listed call, approval back to 0."""
    assert len(leg.data) >= 4, "target"
    assert limits.call_allowed[leg.target][convert(slice(leg.data, 0, 4), bytes4)], "target"
    assert extcall IERC20(leg.token_in).approve(leg.target, leg.amount_in, default_return_value=True), "approve"
    raw_call(leg.target, leg.data)
    if staticcall IERC20(leg.token_in).allowance(self, leg.target) != 0:
        assert extcall IERC20(leg.token_in).approve(leg.target, 0, default_return_value=True), "approve"


@internal
def _settle(
    plan_hash: bytes32, nonce: uint256, min_nav: uint256, mandate: uint256, last_plan: uint256, b: Books
) -> DynArray[int256, book.MAX_TOKENS]:
    """@dev Turnover, NAV floor, loss budgets and progress over the whole plan; records it."""
    after: DynArray[uint256, book.MAX_TOKENS] = book._balances(b.rows)
    usd_after: uint256 = book._total(b.rows, after, b.quotes)
    loss: uint256 = 0
    if usd_after < b.usd_before:
        loss = ((b.usd_before - usd_after) * limits.PPB + b.usd_before - 1) // b.usd_before
    if limits._spend(mandate, loss):
        roles._pause(roles.BY_BUDGET, self)
    nav_after: uint256 = book._nav(b.rows, after, b.quotes, book.FEED)
    distance_before: uint256 = book._distance(b.rows, b.before, b.quotes, b.usd_before)
    distance_after: uint256 = book._distance(b.rows, after, b.quotes, usd_after)
    fine: bool = b.turnover * book.BPS <= ((mandate >> 16) & limits.U16) * b.usd_before
    if not (fine and nav_after >= min_nav and distance_after <= distance_before):
        if not self._held_before(after, b, mandate, min_nav, last_plan):
            assert fine, "turnover"
            assert nav_after >= min_nav, "nav floor"
            raise "progress"
    prices: DynArray[uint256, book.MAX_TOKENS] = []
    deltas: DynArray[int256, book.MAX_TOKENS] = []
    for i: uint256 in range(len(after), bound=book.MAX_TOKENS):
        deltas.append(convert(after[i], int256) - convert(b.before[i], int256))
        prices.append((b.quotes[i] >> book.FEED) & book.U64)
    log Rebalanced(
        nonce=nonce,
        plan_hash=plan_hash,
        keeper=msg.sender,
        nav_before=book._nav(b.rows, b.before, b.quotes, book.FEED),
        nav_after=nav_after,
        loss_ppb=loss,
        turnover=b.turnover,
        distance_before=distance_before,
        distance_after=distance_after,
        balances=after,
        prices=prices,
    )
    return deltas


@internal
@view
def _held_before(
    after: DynArray[uint256, book.MAX_TOKENS], b: Books, mandate: uint256, min_nav: uint256, last_plan: uint256
) -> bool:
    """
    @dev Whether what the plan did keeps turnover, floor and progress on the balances from before one of the last
         flows: the ones it was made on, before somebody came or left. The newest first; only balances younger than the
         last plan count
    """
    for k: uint256 in range(limits.FLOWS):
        word: uint256 = limits._flows[limits._place(limits._clock, k)]
        if word >> 224 <= last_plan or block.timestamp - (word >> 224) > limits.FLOW_AGE_S:
            break
        old: DynArray[uint256, book.MAX_TOKENS] = []
        new: DynArray[uint256, book.MAX_TOKENS] = []
        for i: uint256 in range(len(after), bound=book.MAX_TOKENS):
            was: uint256 = limits._unpacked(word, i)
            if was + after[i] < b.before[i]:
                break
            old.append(was)
            new.append(was + after[i] - b.before[i])
        if len(new) < len(after):
            continue
        usd: uint256 = book._total(b.rows, old, b.quotes)
        usd_new: uint256 = book._total(b.rows, new, b.quotes)
        if usd == 0 or usd_new == 0 or b.turnover * book.BPS > ((mandate >> 16) & limits.U16) * usd:
            continue
        if book._nav(b.rows, new, b.quotes, book.FEED) < min_nav:
            continue
        if book._distance(b.rows, new, b.quotes, usd_new) <= book._distance(b.rows, old, b.quotes, usd):
            return True
    return False


@external
def doubt(seconds: uint256):
    """
    @notice Close deposits and oracle-priced exits for a while (0 by the guardian or the owner: open them again): the market denies the oracle. The
            in-kind exit stays open.
    """
    until: uint256 = block.timestamp + seconds
    if msg.sender != roles.guardian and msg.sender != roles.owner:
        assert convert(msg.sender, uint256) == roles._desk & roles.KEEPER, "keeper"
        assert until >= limits.doubted_until, "keeper"
    assert seconds <= limits.MAX_DOUBT_S, "doubt"
    limits.doubted_until = until
    log limits.Doubted(by=msg.sender, until=until)


# ---------------------------------------------------------------- the owner's changes


@external
def resume():
    """@notice Open a paused vault again; what was lost in the running windows still counts. Through the timelock."""
    roles._resume()
    limits._forgive()


@external
def set_tokens(
    tokens: DynArray[address, book.MAX_TOKENS],
    scales: DynArray[uint256, book.MAX_TOKENS],
    targets_bps: DynArray[uint256, book.MAX_TOKENS],
    _oracle: address,
):
    """
    @notice Retire and add tokens, with an oracle that prices the new set; through the timelock. The accounting asset
            stays first. A token leaves only when no more than dust of it is left: set its target to 0 and sell it,
            within the rules of every plan, before.
    """
    roles._only_self()
    book._replace_tokens(tokens, scales, targets_bps, _oracle)
    limits._forget_flows()
    limits._offer = 0


@external
@nonreentrant
def sweep(token: address, receiver: address):
    """@notice Send away a token that never was in the portfolio, an airdrop; through the timelock."""
    roles._only_self()
    assert not book.was_held[token] and receiver != empty(address), "held"
    amount: uint256 = staticcall IERC20(token).balanceOf(self)
    assert extcall IERC20(token).transfer(receiver, amount, default_return_value=True), "transfer"
    log Swept(token=token, receiver=receiver, amount=amount)
