# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title Foredrift reference vault: its port, where cash leaves for the owner's vaults on other chains
@notice A route names bridge, token, destination and recipient, and is set through the timelock. The keeper names a
        route and an amount: this code writes the bridge's call itself, so that whoever holds the keeper's key can send
        nothing to anybody but the owner's own vaults, pay a bridge no more than the route's ceiling, and move no more
        in any window than the rate. What is on its way belongs to no chain, so a departure needs one beneficiary who
        holds all shares, and while a route is open nobody else may. Arrivals and refunds are plain transfers and need
        no code. The vault runs this on its own storage; the contract that carries it holds nothing and can be shared.
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

struct Route:
    kind: uint256  # 1 CCTP v2, 2 Across v3, 3 LayerZero OFT; 0 closes the route
    target: address  # the bridge's contract that is called
    token: address  # of the portfolio
    destination: uint256  # CCTP domain, chain id or endpoint id
    recipient: address  # the owner's vault there
    output: address  # the token there
    output_decimals: uint256  # of the token there
    max_one: uint256  # raw units of one departure
    max_transit: uint256  # raw units on their way at a time
    fee_bps: uint256  # most the bridge may keep
    speed: uint256  # least finality, seconds before a refund, or gas there

struct SendParam:
    eid: uint32
    to: bytes32
    amount: uint256
    least: uint256
    options: Bytes[32]
    compose: Bytes[1]
    command: Bytes[1]

struct MessagingFee:
    native: uint256
    token: uint256

event RouteSet:
    id: indexed(uint256)
    route: Route

event RateSet:
    window_s: uint256
    budget: uint256

event BeneficiarySet:
    account: indexed(address)

event SlackSet:
    slack_bps: DynArray[uint256, book.MAX_TOKENS]

event Departed:
    id: indexed(uint256)
    nonce: indexed(uint256)
    saga: indexed(bytes32)
    amount: uint256
    least: uint256  # raw units of the token there

event Settled:
    id: indexed(uint256)
    amount: uint256
    returned: bool

CCTP: constant(uint256) = 1
ACROSS: constant(uint256) = 2
OFT: constant(uint256) = 3
MAX_FEE: constant(uint256) = 300  # bp
UNIT_DECIMALS: constant(uint256) = 6  # the rate counts millionths of a token


@external
@payable
@nonreentrant
def depart(
    id: uint256, amount: uint256, fee: uint256, speed: uint256, deadline: uint256, nonce: uint256, saga: bytes32
):
    """
    @notice Send `amount` of the route's token to the owner's vault there; uses up a plan nonce.
    @param fee Most the bridge may keep, raw units
    @param speed CCTP: least finality (1000 fast, 2000 final); Across: unix seconds until when it may be filled; OFT: gas there
    @param saga Names the transfer in the records of whoever sends it
    @dev What OFT's messengers ask for in native coin comes with the call; the rest goes back to the keeper.
    """
    roles._only_keeper()
    assert block.timestamp <= deadline, "deadline"
    clock: uint256 = limits._clock
    assert nonce == clock & limits.U64, "nonce"
    assert limits._offer & limits.U64 != nonce + 1, "armed"
    if nonce > 0:
        assert block.timestamp >= ((clock >> 128) & limits.U64) + ((limits._mandate >> 40) & limits.U32), "cooldown"
        assert (clock >> 64) & limits.U64 != block.number, "cooldown"
    limits._clock = (nonce + 1) | (block.number << 64) | (block.timestamp << 128) | ((clock >> 192) << 192)
    self._only_beneficiary()

    first: uint256 = routes._routes[id][0]
    second: uint256 = routes._routes[id][1]
    kind: uint256 = (first >> 160) & routes.U4
    assert kind != 0, "route"
    assert amount > 0 and amount <= second >> 160, "amount"
    assert fee < amount and fee * book.BPS <= amount * ((first >> 176) & routes.U16), "bridge fee"
    start: uint256 = 0
    if kind == ACROSS:
        start = block.timestamp
    assert speed >= start + (first >> 224) and speed <= routes.U32, "speed"
    third: uint256 = routes._routes[id][2]
    fourth: uint256 = routes._routes[id][3]
    assert (fourth >> 160) + amount <= third >> 160, "transit"
    routes._routes[id][3] = fourth + (amount << 160)
    decimals: uint256 = (first >> 164) & routes.U6
    routes._spend(self._scaled(amount, decimals, UNIT_DECIMALS))
    least: uint256 = self._scaled(amount - fee, decimals, (first >> 170) & routes.U6)

    token: IERC20 = IERC20(convert(second & routes.LOW, address))
    target: address = convert(first & routes.LOW, address)
    before: uint256 = staticcall token.balanceOf(self)
    # what is set aside for claims is not the keeper's to send
    assert before >= amount + book.set_aside[token.address], "held"
    assert extcall token.approve(target, amount, default_return_value=True), "approve"
    self._send(first, third & routes.LOW, fourth & routes.LOW, token.address, amount, fee, least, speed)
    if staticcall token.allowance(self, target) != 0:
        assert extcall token.approve(target, 0, default_return_value=True), "approve"
    assert staticcall token.balanceOf(self) + amount == before, "spent"
    log Departed(id=id, nonce=nonce, saga=saga, amount=amount, least=least)


@external
def settle(id: uint256, amount: uint256, returned: bool):
    """
    @notice It arrived there, or came back: free the route's limit of what is on its way. Moves nothing; a keeper who
            lies gains the next part of the rate, no more.
    """
    assert convert(msg.sender, uint256) == roles._desk & roles.KEEPER or msg.sender == roles.owner, "keeper"
    fourth: uint256 = routes._routes[id][3]
    assert amount <= fourth >> 160, "transit"
    routes._routes[id][3] = fourth - (amount << 160)
    log Settled(id=id, amount=amount, returned=returned)


@internal
@view
def _only_beneficiary():
    """@dev One account holds every share, and no manager is due any."""
    account: uint256 = shares._gate >> 8
    assert account != 0 and shares.totalSupply == shares.balanceOf[convert(account, address)], "beneficiary"
    assert (shares._terms >> 64) & routes.U32 == 0, "fees"


@internal
@pure
def _scaled(amount: uint256, decimals: uint256, wanted: uint256) -> uint256:
    """@dev An amount in units of other decimals, rounded up: more is counted, and more is asked for."""
    if decimals > wanted:
        scale: uint256 = 10 ** (decimals - wanted)
        return (amount + scale - 1) // scale
    return amount * 10 ** (wanted - decimals)


@internal
@payable
def _send(
    first: uint256, recipient: uint256, output: uint256, token: address,
    amount: uint256, fee: uint256, least: uint256, speed: uint256,
):
    """@dev The bridge's own call: anybody may deliver it there, the recipient gets no message with it."""
    kind: uint256 = (first >> 160) & routes.U4
    target: address = convert(first & routes.LOW, address)
    destination: uint256 = (first >> 192) & routes.U32
    if kind == OFT:
        options: Bytes[32] = concat(b"\x00\x03\x01\x00\x11\x01", convert(convert(speed, uint128), bytes16))
        raw_call(
            target,
            abi_encode(
                SendParam(
                    eid=convert(destination, uint32), to=convert(recipient, bytes32), amount=amount,
                    least=amount - fee, options=options, compose=b"", command=b"",
                ),
                MessagingFee(native=msg.value, token=0),
                msg.sender,
                method_id=method_id("send((uint32,bytes32,uint256,uint256,bytes,bytes,bytes),(uint256,uint256),address)"),
            ),
            value=msg.value,
        )
        return
    assert msg.value == 0, "value"
    if kind == CCTP:
        raw_call(
            target,
            abi_encode(
                amount, destination, recipient, token, empty(bytes32), fee, speed,
                method_id=method_id("depositForBurn(uint256,uint32,bytes32,address,bytes32,uint256,uint32)"),
            ),
        )
    else:
        raw_call(
            target,
            abi_encode(
                self, recipient, token, output, amount, least, destination, empty(address),
                block.timestamp, speed, empty(uint256), b"",
                method_id=method_id(
                    "depositV3(address,address,address,address,uint256,uint256,uint256,address,uint32,uint32,uint32,bytes)"
                ),
            ),
        )


# ---------------------------------------------------------------- the owner's changes


@external
def set_beneficiary(account: address):
    """@notice Name who alone may hold shares, and holds all of them now; nobody, once no route is open. Timelock."""
    roles._only_self()
    if account == empty(address):
        assert routes._rate >> 128 == 0, "route"
    else:
        assert shares.totalSupply == shares.balanceOf[account], "beneficiary"
    shares._gate = (shares._gate & 1) | (convert(account, uint256) << 8)
    log BeneficiarySet(account=account)


@external
def set_rate(window_s: uint256, budget: uint256):
    """@notice The most that may leave over all routes in ANY window, in millionths of a whole token. Timelock."""
    roles._only_self()
    routes._set_rate(window_s, budget)
    log RateSet(window_s=window_s, budget=budget)


@external
def set_route(id: uint256, r: Route):
    """
    @notice Open, change or close a route; through the timelock. What is on its way stays counted. A bridge is never a
            call of a plan, from then on.
    """
    roles._only_self()
    assert id < routes.MAX_ROUTES and r.kind <= OFT, "route"
    fourth: uint256 = (routes._routes[id][3] >> 160) << 160
    if r.kind == 0:
        routes._rate &= ~(1 << (128 + id))
        routes._routes[id] = [0, 0, 0, fourth]
    else:
        assert shares._gate >> 8 != 0, "beneficiary"
        assert r.recipient != empty(address) and r.output != empty(address), "recipient"
        assert r.output_decimals <= 18, "decimals"
        assert r.destination <= routes.U32 and (r.kind != ACROSS or r.destination != chain.id), "destination"
        assert r.max_one <= routes.U96 and r.max_transit <= routes.U96, "amount"
        assert r.fee_bps <= MAX_FEE, "bridge fee"
        assert r.speed <= routes.U32, "speed"
        assert r.target.codesize > 0 and r.target != self and r.target != book.oracle, "target"
        assert limits._listed[r.target] == 0 or limits._listed[r.target] == limits.BRIDGE, "target"
        limits._listed[r.target] = limits.BRIDGE
        decimals: uint256 = self._decimals(r.token, r.target)
        routes._rate |= 1 << (128 + id)
        routes._routes[id] = [
            convert(r.target, uint256) | (r.kind << 160) | (decimals << 164) | (r.output_decimals << 170)
            | (r.fee_bps << 176) | (r.destination << 192) | (r.speed << 224),
            convert(r.token, uint256) | (r.max_one << 160),
            convert(r.recipient, uint256) | (r.max_transit << 160),
            convert(r.output, uint256) | fourth,
        ]
    log RouteSet(id=id, route=r)


@internal
@view
def _decimals(token: address, target: address) -> uint256:
    """@dev Decimals of a token of the portfolio; no token of it is a bridge."""
    rows: DynArray[uint256, book.MAX_TOKENS] = book._tokens()
    found: uint256 = 256
    for row: uint256 in rows:
        here: address = convert(row & book.LOW, address)
        assert here != target, "target"
        if here == token:
            found = (row >> 160) & 255
    assert found < 256, "token"
    return found


@external
def set_slack(slack_bps: DynArray[uint256, book.MAX_TOKENS]):
    """
    @notice How far each weight may lie from its target before it counts as distance: a corridor in place of a point,
            0 as at first for none. Another set of tokens starts without. Through the timelock.
    """
    roles._only_self()
    n: uint256 = (book._rows[0] >> 184) & 255
    assert len(slack_bps) == n, "slack"
    for i: uint256 in range(n, bound=book.MAX_TOKENS):
        assert slack_bps[i] <= book.BPS, "slack"
        book._rows[i] = (book._rows[i] & ~(routes.U16 << book.SLACK)) | (slack_bps[i] << book.SLACK)
    log SlackSet(slack_bps=slack_bps)


# ---------------------------------------------------------------- views


@external
@view
def route(id: uint256) -> (Route, uint256):
    """@notice A route, and raw units on their way over it."""
    w: uint256[4] = routes._routes[id]
    return Route(
        kind=(w[0] >> 160) & routes.U4,
        target=convert(w[0] & routes.LOW, address),
        token=convert(w[1] & routes.LOW, address),
        destination=(w[0] >> 192) & routes.U32,
        recipient=convert(w[2] & routes.LOW, address),
        output=convert(w[3] & routes.LOW, address),
        output_decimals=(w[0] >> 170) & routes.U6,
        max_one=w[1] >> 160,
        max_transit=w[2] >> 160,
        fee_bps=(w[0] >> 176) & routes.U16,
        speed=w[0] >> 224,
    ), w[3] >> 160


@external
@view
def port() -> (address, uint256, uint256, uint256, uint256, uint256, uint256, DynArray[uint256, book.MAX_TOKENS]):
    """
    @notice The one beneficiary, or nobody; window (seconds), the most that may leave in ANY window, number of the last
            window with a departure, what left in the window before it and in it (millionths of a token); bit i set:
            route i is open; each token's slack in basis points
    """
    slack: DynArray[uint256, book.MAX_TOKENS] = []
    for i: uint256 in range((book._rows[0] >> 184) & 255, bound=book.MAX_TOKENS):
        slack.append((book._rows[i] >> book.SLACK) & routes.U16)
    rate: uint256 = routes._rate
    sent: uint256 = routes._sent
    return (
        convert(shares._gate >> 8, address),
        rate & routes.U32,
        (rate >> 32) & routes.U96,
        sent & routes.U32,
        (sent >> 32) & routes.U96,
        sent >> 128,
        rate >> 128,
        slack,
    )
