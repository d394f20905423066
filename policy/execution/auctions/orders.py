"""An order of the vault: its fields, the digest every venue has for it, and the bytes a filler hands in.

The vault derives the digest itself when the order is armed (contracts/foredrift_auctions.vy); what is here says the
same, so that the keeper can publish the order and recognise its fill. Every field but amounts and times is fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

ZERO = "0x" + "0" * 40
ORDER_TYPE = "(address,address,address,uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256,bytes32)"
ARM = f"arm({ORDER_TYPE})"
"""The vault's call that arms an order. A venue is allow-listed as the pair (venue, this)."""
MAX_OPEN_S = 3_600
"""Longest an order may be armed, seconds (contracts/foredrift_auctions.vy)."""
MPS = 10_000_000
"""Thousandths of a basis point in one: by this much per wei of tip a priority order's output grows."""

_OUTPUT = "address token,uint256 startAmount,uint256 endAmount,address recipient"
_INFO = (
    "OrderInfo(address reactor,address swapper,uint256 nonce,uint256 deadline,address additionalValidationContract,"
    "bytes additionalValidationData)"
)
_PERMITTED = "TokenPermissions(address token,uint256 amount)"
_DUTCH_OUTPUT = f"DutchOutput({_OUTPUT})"
_DUTCH = (
    "ExclusiveDutchOrder(OrderInfo info,uint256 decayStartTime,uint256 decayEndTime,address exclusiveFiller,"
    "uint256 exclusivityOverrideBps,address inputToken,uint256 inputStartAmount,uint256 inputEndAmount,"
    "DutchOutput[] outputs)"
)
_PRIORITY_INPUT = "PriorityInput(address token,uint256 amount,uint256 mpsPerPriorityFeeWei)"
_PRIORITY_OUTPUT = "PriorityOutput(address token,uint256 amount,uint256 mpsPerPriorityFeeWei,address recipient)"
_PRIORITY = (
    "PriorityOrder(OrderInfo info,address cosigner,uint256 auctionStartBlock,uint256 baselinePriorityFeeWei,"
    "PriorityInput input,PriorityOutput[] outputs)"
)
_PERMIT = "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,"
_GPV2 = (
    "Order(address sellToken,address buyToken,address receiver,uint256 sellAmount,uint256 buyAmount,uint32 validTo,"
    "bytes32 appData,uint256 feeAmount,string kind,bool partiallyFillable,string sellTokenBalance,"
    "string buyTokenBalance)"
)
_INFO_ABI = "(address,address,uint256,uint256,address,bytes)"
_DUTCH_ABI = (
    f"({_INFO_ABI},uint256,uint256,address,uint256,(address,uint256,uint256),(address,uint256,uint256,address)[])"
)
_PRIORITY_ABI = (
    f"({_INFO_ABI},address,uint256,uint256,(address,uint256,uint256),(address,uint256,uint256,address)[],(uint256),"
    "bytes)"
)


class VenueKind(StrEnum):
    """How an order is filled: a batch by solvers, a falling ask, or the highest tip of one block."""

    COW = "cow"
    DUTCH = "dutch"
    PRIORITY = "priority"


@dataclass(frozen=True, slots=True)
class Venues:
    """Where a chain has them: CoW's settlement contract, Permit2, the UniswapX reactors; empty where it has none."""

    settlement: str = ZERO
    permit2: str = ZERO
    dutch: str = ZERO
    priority: str = ZERO

    def of(self, kind: VenueKind) -> str:
        """Return the contract that fills orders of ``kind``; empty address where there is none."""
        return {VenueKind.COW: self.settlement, VenueKind.DUTCH: self.dutch, VenueKind.PRIORITY: self.priority}[kind]

    def kind(self, venue: str) -> VenueKind:
        """Return the kind of orders the contract at ``venue`` fills; KeyError for another one."""
        known = {self.of(kind).lower(): kind for kind in VenueKind if self.of(kind) != ZERO}
        return known[venue.lower()]


@dataclass(frozen=True, slots=True)
class Order:
    """What ``arm`` takes; amounts are raw token units, times unix seconds.

    ``start``: dutch: what it begins to ask; priority: thousandths of a basis point more per wei of the filler's tip.
    ``starts``: dutch: when the ask begins to fall; priority: first block. ``ends``: dutch: when it is at ``least``.
    ``nonce``: the vault's plan nonce, which the order uses up. ``charge_ppb``: most it may lose, billionths of NAV.
    """

    kind: VenueKind
    venue: str
    sell: str
    buy: str
    amount: int
    least: int
    expiry: int
    nonce: int
    charge_ppb: int
    start: int = 0
    starts: int = 0
    ends: int = 0
    app: bytes = b"\0" * 32

    def encoded(self) -> tuple[object, ...]:
        """Return the fields in the contract's order."""
        return (
            *(self.venue, self.sell, self.buy, self.amount, self.least, self.start, self.starts, self.ends),
            *(self.expiry, self.nonce, self.charge_ppb, self.app),
        )

    def asks(self, at: int) -> int:
        """Return the least it takes at unix second ``at``, raw units: a dutch order's ask falls, others' is fixed."""
        if self.kind is not VenueKind.DUTCH or at >= self.ends:
            return self.least
        if at <= self.starts:
            return self.start
        return self.start - (self.start - self.least) * (at - self.starts) // (self.ends - self.starts)


@dataclass(frozen=True, slots=True)
class Domains:
    """EIP-712 domain separators of a chain's venues, as the contracts say them."""

    cow: bytes = b"\0" * 32
    permit2: bytes = b"\0" * 32


def digest(order: Order, vault: str, domains: Domains) -> bytes:
    """Return the digest the venue asks the vault about: CoW's of its order, Permit2's of a UniswapX order."""
    if order.kind is VenueKind.COW:
        return _typed(domains.cow, _gpv2(order, vault))
    permitted = _hash(["bytes32", "address", "uint256"], _name(_PERMITTED), order.sell, order.amount)
    types = ["bytes32", "bytes32", "address", "uint256", "uint256", "bytes32"]
    kind = _DUTCH_PERMIT if order.kind is VenueKind.DUTCH else _PRIORITY_PERMIT
    return _typed(
        domains.permit2,
        _hash(types, _name(kind), permitted, order.venue, order.nonce, order.expiry, witness(order, vault)),
    )


def witness(order: Order, vault: str) -> bytes:
    """Return the hash of a UniswapX order's fields, by which its reactor and its order service name it."""
    return _dutch_hash(order, vault) if order.kind is VenueKind.DUTCH else _priority_hash(order, vault)


def reactor_order(order: Order, vault: str) -> bytes:
    """Return the order as a UniswapX reactor takes it in ``execute``; its signature may be empty, the vault answers."""
    info = (order.venue, vault, order.nonce, order.expiry, ZERO, b"")
    if order.kind is VenueKind.DUTCH:
        sold = (order.sell, order.amount, order.amount)
        bought = [(order.buy, order.start, order.least, vault)]
        return encode([_DUTCH_ABI], [(info, order.starts, order.ends, ZERO, 0, sold, bought)])
    sold = (order.sell, order.amount, 0)
    bought = [(order.buy, order.least, order.start, vault)]
    return encode([_PRIORITY_ABI], [(info, ZERO, order.starts, 0, sold, bought, (0,), b"")])


def cow_uid(order_digest: bytes, vault: str, expiry: int) -> bytes:
    """Return the name CoW knows an order by: digest, owner, end of validity."""
    return order_digest + bytes.fromhex(vault[2:]) + expiry.to_bytes(4, "big")


def cow_fields(order: Order, vault: str) -> dict[str, str | int | bool]:
    """Return the order as CoW's documented API writes it."""
    return {
        "sellToken": to_checksum_address(order.sell),
        "buyToken": to_checksum_address(order.buy),
        "receiver": to_checksum_address(vault),
        "sellAmount": str(order.amount),
        "buyAmount": str(order.least),
        "validTo": order.expiry,
        "appData": "0x" + order.app.hex(),
        "feeAmount": "0",
        "kind": "sell",
        "partiallyFillable": False,
        "sellTokenBalance": "erc20",
        "buyTokenBalance": "erc20",
    }


_DUTCH_PERMIT = f"{_PERMIT}ExclusiveDutchOrder witness){_DUTCH_OUTPUT}{_DUTCH}{_INFO}{_PERMITTED}"
_PRIORITY_PERMIT = f"{_PERMIT}PriorityOrder witness){_INFO}{_PRIORITY_INPUT}{_PRIORITY}{_PRIORITY_OUTPUT}{_PERMITTED}"


def _gpv2(order: Order, vault: str) -> bytes:
    types = ["bytes32", *["address"] * 3, *["uint256"] * 3, "bytes32", "uint256", "bytes32", "bool", *["bytes32"] * 2]
    what = (order.sell, order.buy, vault, order.amount, order.least, order.expiry, order.app, 0)
    return _hash(types, _name(_GPV2), *what, _name("sell"), False, _name("erc20"), _name("erc20"))


def _info_hash(order: Order, vault: str) -> bytes:
    types = ["bytes32", "address", "address", "uint256", "uint256", "address", "bytes32"]
    return _hash(types, _name(_INFO), order.venue, vault, order.nonce, order.expiry, ZERO, keccak(b""))


def _dutch_hash(order: Order, vault: str) -> bytes:
    one = ["bytes32", "address", "uint256", "uint256", "address"]
    outputs = keccak(_hash(one, _name(_DUTCH_OUTPUT), order.buy, order.start, order.least, vault))
    types = ["bytes32", "bytes32", "uint256", "uint256", "address", "uint256", "address", "uint256", "uint256"]
    what = (order.starts, order.ends, ZERO, 0, order.sell, order.amount, order.amount)
    kind = _name(f"{_DUTCH}{_DUTCH_OUTPUT}{_INFO}")
    return _hash([*types, "bytes32"], kind, _info_hash(order, vault), *what, outputs)


def _priority_hash(order: Order, vault: str) -> bytes:
    one = ["bytes32", "address", "uint256", "uint256"]
    outputs = keccak(_hash([*one, "address"], _name(_PRIORITY_OUTPUT), order.buy, order.least, order.start, vault))
    sold = _hash(one, _name(_PRIORITY_INPUT), order.sell, order.amount, 0)
    types = ["bytes32", "bytes32", "address", "uint256", "uint256", "bytes32", "bytes32"]
    kind = _name(f"{_PRIORITY}{_INFO}{_PRIORITY_INPUT}{_PRIORITY_OUTPUT}")
    return _hash(types, kind, _info_hash(order, vault), ZERO, order.starts, 0, sold, outputs)


def _name(text: str) -> bytes:
    return bytes(keccak(text=text))


def _hash(types: list[str], *values: object) -> bytes:
    return bytes(keccak(encode(types, values)))


def _typed(domain: bytes, body: bytes) -> bytes:
    return bytes(keccak(b"\x19\x01" + domain + body))
