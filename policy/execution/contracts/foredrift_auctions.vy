# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title Foredrift reference vault: orders that others fill
@notice The keeper arms one order at a time; a venue asks the vault by ERC-1271 whether it signed it. The vault writes
        every field of an order itself, so its receiver is the vault and its digest is the venue's own for exactly these
        amounts: a CoW order (GPv2) or a UniswapX order through Permit2. An order keeps the whole mandate at the moment
        it is filled, at its worst price and the oracle's prices of then; what it may lose was charged to the loss
        budgets beforehand. A plan cannot run while an order is armed, nor can anybody enter or leave at oracle prices
        while one may be filled, for a filler acts between the two halves of the swap. The vault runs this code on its
        own storage; the contract that carries it holds nothing and can be shared by many vaults.
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

interface Settlement:
    def domainSeparator() -> bytes32: view
    def vaultRelayer() -> address: view

interface Permit2:
    def DOMAIN_SEPARATOR() -> bytes32: view

struct Order:
    venue: address  # CoW's settlement contract, or a UniswapX reactor
    sell: address
    buy: address
    amount: uint256  # sold whole or not at all
    least: uint256  # the least that may arrive
    start: uint256  # dutch: what it begins to ask; priority: thousandths of bp more per wei of the filler's tip
    starts: uint256  # dutch: when the ask begins to fall, unix seconds; priority: first block
    ends: uint256  # dutch: when it has fallen to `least`, unix seconds
    expiry: uint256  # unix seconds
    nonce: uint256  # of plans; an order uses one up
    charge_ppb: uint256  # most it may lose, billionths of NAV
    app: bytes32  # CoW's appData

event Armed:
    nonce: indexed(uint256)
    digest: indexed(bytes32)
    venue: indexed(address)
    sell: address
    buy: address
    amount: uint256
    least: uint256
    expiry: uint256
    charge_ppb: uint256

event Disarmed:
    nonce: indexed(uint256)
    digest: indexed(bytes32)
    filled: bool

MAGIC: constant(bytes4) = 0x1626ba7e
MAX_OPEN_S: constant(uint256) = 3_600
COW: constant(uint256) = 0
DUTCH: constant(uint256) = 1
PRIORITY: constant(uint256) = 2
TAIL: constant(uint256) = 2**96 - 1
ARM: constant(bytes4) = 0x08ab5edd  # a venue is listed as the call (venue, selector of `arm`)

GPV2_ORDER: constant(bytes32) = keccak256(
    "Order(address sellToken,address buyToken,address receiver,uint256 sellAmount,uint256 buyAmount,uint32 validTo,bytes32 appData,uint256 feeAmount,string kind,bool partiallyFillable,string sellTokenBalance,string buyTokenBalance)"
)
PERMITTED: constant(bytes32) = keccak256("TokenPermissions(address token,uint256 amount)")
ORDER_INFO: constant(bytes32) = keccak256(
    "OrderInfo(address reactor,address swapper,uint256 nonce,uint256 deadline,address additionalValidationContract,bytes additionalValidationData)"
)
DUTCH_OUTPUT: constant(bytes32) = keccak256(
    "DutchOutput(address token,uint256 startAmount,uint256 endAmount,address recipient)"
)
DUTCH_ORDER: constant(bytes32) = keccak256(
    "ExclusiveDutchOrder(OrderInfo info,uint256 decayStartTime,uint256 decayEndTime,address exclusiveFiller,uint256 exclusivityOverrideBps,address inputToken,uint256 inputStartAmount,uint256 inputEndAmount,DutchOutput[] outputs)DutchOutput(address token,uint256 startAmount,uint256 endAmount,address recipient)OrderInfo(address reactor,address swapper,uint256 nonce,uint256 deadline,address additionalValidationContract,bytes additionalValidationData)"
)
DUTCH_PERMIT: constant(bytes32) = keccak256(
    "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,ExclusiveDutchOrder witness)DutchOutput(address token,uint256 startAmount,uint256 endAmount,address recipient)ExclusiveDutchOrder(OrderInfo info,uint256 decayStartTime,uint256 decayEndTime,address exclusiveFiller,uint256 exclusivityOverrideBps,address inputToken,uint256 inputStartAmount,uint256 inputEndAmount,DutchOutput[] outputs)OrderInfo(address reactor,address swapper,uint256 nonce,uint256 deadline,address additionalValidationContract,bytes additionalValidationData)TokenPermissions(address token,uint256 amount)"
)
PRIORITY_INPUT: constant(bytes32) = keccak256(
    "PriorityInput(address token,uint256 amount,uint256 mpsPerPriorityFeeWei)"
)
PRIORITY_OUTPUT: constant(bytes32) = keccak256(
    "PriorityOutput(address token,uint256 amount,uint256 mpsPerPriorityFeeWei,address recipient)"
)
PRIORITY_ORDER: constant(bytes32) = keccak256(
    "PriorityOrder(OrderInfo info,address cosigner,uint256 auctionStartBlock,uint256 baselinePriorityFeeWei,PriorityInput input,PriorityOutput[] outputs)OrderInfo(address reactor,address swapper,uint256 nonce,uint256 deadline,address additionalValidationContract,bytes additionalValidationData)PriorityInput(address token,uint256 amount,uint256 mpsPerPriorityFeeWei)PriorityOutput(address token,uint256 amount,uint256 mpsPerPriorityFeeWei,address recipient)"
)
PRIORITY_PERMIT: constant(bytes32) = keccak256(
    "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,PriorityOrder witness)OrderInfo(address reactor,address swapper,uint256 nonce,uint256 deadline,address additionalValidationContract,bytes additionalValidationData)PriorityInput(address token,uint256 amount,uint256 mpsPerPriorityFeeWei)PriorityOrder(OrderInfo info,address cosigner,uint256 auctionStartBlock,uint256 baselinePriorityFeeWei,PriorityInput input,PriorityOutput[] outputs)PriorityOutput(address token,uint256 amount,uint256 mpsPerPriorityFeeWei,address recipient)TokenPermissions(address token,uint256 amount)"
)

# CoW's settlement contract and the UniswapX reactors; empty where a chain has none
VENUES: immutable(address[3])
RELAYER: immutable(address)
COW_DOMAIN: immutable(bytes32)
PERMIT2: immutable(address)
PERMIT2_DOMAIN: immutable(bytes32)


@deploy
def __init__(_settlement: address, _permit2: address, _dutch: address, _priority: address):
    VENUES = [_settlement, _dutch, _priority]
    PERMIT2 = _permit2
    assert _permit2 != empty(address) or (_dutch == empty(address) and _priority == empty(address)), "venues"
    relayer: address = empty(address)
    domain: bytes32 = empty(bytes32)
    if _settlement != empty(address):
        relayer = staticcall Settlement(_settlement).vaultRelayer()
        domain = staticcall Settlement(_settlement).domainSeparator()
    RELAYER = relayer
    COW_DOMAIN = domain
    domain = empty(bytes32)
    if _permit2 != empty(address):
        domain = staticcall Permit2(_permit2).DOMAIN_SEPARATOR()
    PERMIT2_DOMAIN = domain


@external
@nonreentrant
def arm(order: Order) -> bytes32:
    """
    @notice Offer to sell within the mandate; the order then uses up its plan nonce. What it may lose is charged now;
            whether it keeps the mandate is asked when it is filled.
    @return The digest the venue asks about
    """
    roles._only_keeper()
    clock: uint256 = limits._clock
    mandate: uint256 = limits._mandate
    assert order.nonce == clock & limits.U64, "nonce"
    assert limits._offer & limits.U64 != order.nonce + 1, "armed"
    assert block.timestamp >= ((clock >> 128) & limits.U64) + ((mandate >> 40) & limits.U32), "cooldown"
    assert (clock >> 64) & limits.U64 != block.number, "cooldown"
    assert order.expiry >= block.timestamp and order.expiry <= block.timestamp + MAX_OPEN_S, "deadline"
    assert order.amount > 0 and order.amount <= book.MOST and order.least <= book.MOST, "amount"
    assert order.charge_ppb <= limits.PPB, "loss budget"
    assert order.venue != empty(address) and limits.call_allowed[order.venue][ARM], "target"
    venue: uint256 = 0
    for known: address in VENUES:
        if known == order.venue:
            break
        venue += 1
    assert venue < 3, "target"
    i: uint256 = 0
    j: uint256 = 0
    i, j = self._pair(order.sell, order.buy)
    digest: bytes32 = self._digest(order, venue)

    limits._clock = order.nonce | (block.number << 64) | (block.timestamp << 128) | ((clock >> 192) << 192)
    limits._offer = (
        (order.nonce + 1)
        | (order.expiry << limits.EXPIRY)
        | (order.charge_ppb << 104)
        | (i << 136)
        | (j << 144)
        | (venue << 152)
        | ((convert(msg.sender, uint256) & TAIL) << 160)
    )
    limits._offer_digest = digest
    limits._offer_amounts = order.amount | (order.least << 128)
    limits._offer_losses = limits._losses
    if limits._spend(mandate, order.charge_ppb):
        roles._pause(roles.BY_BUDGET, self)
    spender: address = self._spender(venue)
    if staticcall IERC20(order.sell).allowance(self, spender) != 0:
        assert extcall IERC20(order.sell).approve(spender, 0, default_return_value=True), "approve"
    assert extcall IERC20(order.sell).approve(spender, order.amount, default_return_value=True), "approve"
    log Armed(
        nonce=order.nonce,
        digest=digest,
        venue=order.venue,
        sell=order.sell,
        buy=order.buy,
        amount=order.amount,
        least=order.least,
        expiry=order.expiry,
        charge_ppb=order.charge_ppb,
    )
    return digest


@external
@nonreentrant
def disarm() -> bool:
    """
    @notice End the armed order, filled or not, and use up its nonce. The charge of one that was not filled is given
            back. Nothing a token or venue does can stop this.
    @return Whether it was filled
    """
    roles._only_keeper()
    clock: uint256 = limits._clock
    nonce: uint256 = clock & limits.U64
    word: uint256 = limits._offer
    assert word & limits.U64 == nonce + 1, "not armed"
    filled: bool = self._filled(word)
    time: uint256 = (clock >> 128) & limits.U64
    if filled:
        time = block.timestamp
    else:
        limits._losses = limits._offer_losses
    limits._clock = (nonce + 1) | (block.number << 64) | (time << 128) | ((clock >> 192) << 192)
    ok: bool = raw_call(
        convert(book._rows[(word >> 136) & 255] & book.LOW, address),
        abi_encode(self._spender((word >> 152) & 255), empty(uint256), method_id=method_id("approve(address,uint256)")),
        revert_on_failure=False,
    )
    log Disarmed(nonce=nonce, digest=limits._offer_digest, filled=filled)
    return filled


@external
@view
@nonreentrant
def isValidSignature(digest: bytes32, signature: Bytes[1024]) -> bytes4:
    """
    @notice ERC-1271: whether this is the digest of the armed order, and the order keeps the mandate now. Pausing, taking
            the keeper's key away, and a price that has moved beyond what was charged make it void.
    """
    word: uint256 = limits._offer
    desk: uint256 = roles._desk
    assert word & limits.U64 == (limits._clock & limits.U64) + 1 and digest == limits._offer_digest, "not armed"
    assert block.timestamp <= (word >> limits.EXPIRY) & limits.U40, "deadline"
    assert desk & TAIL == word >> 160, "keeper"
    assert not roles._paused(), "paused"
    self._keeps_mandate()
    return MAGIC


@external
@view
def offer() -> (uint256, bytes32, uint256, uint256, uint256, uint256, uint256, uint256, uint256, bool, bool):
    """
    @notice The last order: plan nonce + 1, digest, amount, least, expiry, loss charged (billionths), positions of the
            tokens sold and bought, venue (0 CoW, 1 dutch, 2 priority), whether it is armed still, and whether the venue
            says that it was filled. All 0 and false where there is none, or it was made void
    """
    word: uint256 = limits._offer
    amounts: uint256 = limits._offer_amounts
    return (
        word & limits.U64,
        limits._offer_digest,
        amounts & book.MOST,
        amounts >> 128,
        (word >> limits.EXPIRY) & limits.U40,
        (word >> 104) & limits.U32,
        (word >> 136) & 255,
        (word >> 144) & 255,
        (word >> 152) & 255,
        word & limits.U64 == (limits._clock & limits.U64) + 1,
        word != 0 and self._filled(word),
    )


@external
@view
def venues() -> (address, address, address, address, address):
    """@notice CoW's settlement contract and relayer, the dutch and the priority reactor, Permit2; empty where none."""
    return VENUES[COW], RELAYER, VENUES[DUTCH], VENUES[PRIORITY], PERMIT2


@internal
@view
def _pair(sell: address, buy: address) -> (uint256, uint256):
    rows: DynArray[uint256, book.MAX_TOKENS] = book._tokens()
    n: uint256 = len(rows)
    i: uint256 = n
    j: uint256 = n
    for k: uint256 in range(n, bound=book.MAX_TOKENS):
        token: address = convert(rows[k] & book.LOW, address)
        if token == sell:
            i = k
        if token == buy:
            j = k
    assert i < n and j < n and i != j, "pair"
    return i, j


@internal
@view
def _spender(venue: uint256) -> address:
    return RELAYER if venue == COW else PERMIT2


@internal
@view
def _keeps_mandate():
    """@dev The armed order, filled whole at its worst price now: by the rules of a plan, and its own charge."""
    word: uint256 = limits._offer
    i: uint256 = (word >> 136) & 255
    j: uint256 = (word >> 144) & 255
    amount: uint256 = limits._offer_amounts & book.MOST
    least: uint256 = limits._offer_amounts >> 128
    mandate: uint256 = limits._mandate
    rows: DynArray[uint256, book.MAX_TOKENS] = book._tokens()
    quotes: DynArray[uint256, book.MAX_TOKENS] = book._quotes(len(rows))
    balances: DynArray[uint256, book.MAX_TOKENS] = book._balances(rows)
    assert (quotes[i] | quotes[j]) >> 192 == 0, "oracle"
    assert balances[i] >= amount, "spent"
    usd: uint256 = book._total(rows, balances, quotes)
    assert usd > 0, "empty"
    sold: uint256 = book._value(rows[i], amount, (quotes[i] >> book.FEED) & book.U64)
    bought: uint256 = book._value(rows[j], least, (quotes[j] >> book.FEED) & book.U64)
    assert bought * book.BPS >= sold * (book.BPS - (mandate & limits.U16)), "leg value"
    assert sold * book.BPS <= ((mandate >> 16) & limits.U16) * usd, "turnover"
    distance: uint256 = book._distance(rows, balances, quotes, usd)
    balances[i] -= amount
    balances[j] += least
    after: uint256 = book._total(rows, balances, quotes)
    if after < usd:
        assert ((usd - after) * limits.PPB + usd - 1) // usd <= (word >> 104) & limits.U32, "loss budget"
    assert after > 0 and book._distance(rows, balances, quotes, after) <= distance, "progress"


@internal
@view
def _filled(word: uint256) -> bool:
    """@dev What the venue says; one that does not answer counts as filled, so that no charge is given back in doubt."""
    ok: bool = False
    data: Bytes[32] = b""
    if (word >> 152) & 255 == COW:
        uid: Bytes[56] = concat(
            limits._offer_digest,
            convert(self, bytes20),
            convert(convert((word >> limits.EXPIRY) & limits.U32, uint32), bytes4),
        )
        ok, data = raw_call(
            VENUES[COW],
            abi_encode(uid, method_id=method_id("filledAmount(bytes)")),
            max_outsize=32, is_static_call=True, revert_on_failure=False,
        )
        return not ok or len(data) != 32 or convert(data, uint256) != 0
    nonce: uint256 = (word & limits.U64) - 1
    ok, data = raw_call(
        PERMIT2,
        abi_encode(self, nonce >> 8, method_id=method_id("nonceBitmap(address,uint256)")),
        max_outsize=32, is_static_call=True, revert_on_failure=False,
    )
    return not ok or len(data) != 32 or (convert(data, uint256) >> (nonce & 255)) & 1 != 0


@internal
@view
def _digest(o: Order, venue: uint256) -> bytes32:
    """@dev The venue's own EIP-712 digest of the order with every other field as the vault wants it."""
    body: bytes32 = empty(bytes32)
    if venue == COW:
        body = keccak256(
            abi_encode(
                GPV2_ORDER, o.sell, o.buy, self, o.amount, o.least, o.expiry, o.app, empty(uint256),
                keccak256("sell"), False, keccak256("erc20"), keccak256("erc20"),
            )
        )
        return keccak256(concat(b"\x19\x01", COW_DOMAIN, body))
    info: bytes32 = keccak256(
        abi_encode(ORDER_INFO, o.venue, self, o.nonce, o.expiry, empty(address), keccak256(b""))
    )
    kind: bytes32 = DUTCH_PERMIT
    if venue == DUTCH:
        body = keccak256(
            abi_encode(
                DUTCH_ORDER, info, o.starts, o.ends, empty(address), empty(uint256), o.sell, o.amount, o.amount,
                keccak256(keccak256(abi_encode(DUTCH_OUTPUT, o.buy, o.start, o.least, self))),
            )
        )
    else:
        kind = PRIORITY_PERMIT
        body = keccak256(
            abi_encode(
                PRIORITY_ORDER, info, empty(address), o.starts, empty(uint256),
                keccak256(abi_encode(PRIORITY_INPUT, o.sell, o.amount, empty(uint256))),
                keccak256(keccak256(abi_encode(PRIORITY_OUTPUT, o.buy, o.least, o.start, self))),
            )
        )
    permitted: bytes32 = keccak256(abi_encode(PERMITTED, o.sell, o.amount))
    body = keccak256(abi_encode(kind, permitted, o.venue, o.nonce, o.expiry, body))
    return keccak256(concat(b"\x19\x01", PERMIT2_DOMAIN, body))
