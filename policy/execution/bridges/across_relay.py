"""What Across' pools log of a deposit, its fill and its refund, and the hash by which the destination knows it.

Field order and hash are those of SpokePool 4.1 (contracts/interfaces/V3SpokePoolInterface.sol, ``V3RelayData``): the
hash is that of ``abi.encode(relay data, destination chain id)``. Addresses are words of 32 bytes there.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from policy.execution.bridges.events import Log, data_of, event_topic, topics_of

DEPOSITED = event_topic(
    "FundsDeposited(bytes32,bytes32,uint256,uint256,uint256,uint256,uint32,uint32,uint32,bytes32,bytes32,bytes32,bytes)"
)
FILLED = event_topic(
    "FilledRelay(bytes32,bytes32,uint256,uint256,uint256,uint256,uint256,uint32,uint32,bytes32,bytes32,bytes32,bytes32,"
    "bytes32,(bytes32,bytes32,uint256,uint8))"
)
SLOW_ASKED = event_topic(
    "RequestedSlowFill(bytes32,bytes32,uint256,uint256,uint256,uint256,uint32,uint32,bytes32,bytes32,bytes32,bytes32)"
)
REFUNDED = event_topic(
    "ExecutedRelayerRefundRoot(uint256,uint256,uint256[],uint32,uint32,address,address[],bool,address)"
)
RELAY_TYPE = "(bytes32,bytes32,bytes32,bytes32,bytes32,uint256,uint256,uint256,uint256,uint32,uint32,bytes)"
_DEPOSIT_DATA = (
    "bytes32",
    "bytes32",
    "uint256",
    "uint256",
    "uint32",
    "uint32",
    "uint32",
    "bytes32",
    "bytes32",
    "bytes",
)
_EXECUTION = "(bytes32,bytes32,uint256,uint8)"
_FILL_DATA = (
    *("bytes32", "bytes32", "uint256", "uint256", "uint256", "uint32", "uint32"),
    *("bytes32", "bytes32", "bytes32", "bytes32", _EXECUTION),
)
_NO_MESSAGE = bytes(32)


@dataclass(frozen=True, slots=True)
class Relay:
    """A deposit as pools know it: who, what, from where. Amounts are raw units of their own tokens, addresses words."""

    depositor: bytes
    recipient: bytes
    exclusive: bytes
    input_token: bytes
    output_token: bytes
    input_amount: int
    output_amount: int
    origin: int
    deposit_id: int
    fill_deadline: int
    exclusivity: int
    message: bytes = b""

    @property
    def fields(self) -> tuple[object, ...]:
        """The fields in the contract's order."""
        return (
            *(self.depositor, self.recipient, self.exclusive, self.input_token, self.output_token),
            *(self.input_amount, self.output_amount, self.origin, self.deposit_id),
            *(self.fill_deadline, self.exclusivity, self.message),
        )

    def digest(self, destination: int) -> str:
        """Return the hash under which the pool on chain ``destination`` keeps its status."""
        return "0x" + keccak(encode([RELAY_TYPE, "uint256"], [self.fields, destination])).hex()


@dataclass(frozen=True, slots=True)
class Payout:
    """A deposit paid out: to whom in the end, how many raw units of the token there; ``slow``: by the pool itself."""

    relay: Relay
    recipient: bytes
    amount: int
    slow: bool


def deposit_of(log: Log, origin: int) -> tuple[Relay, int]:
    """Return the deposit in a log of the pool on chain ``origin``, and the chain it goes to."""
    _, destination, deposit_id, depositor = topics_of(log)
    row = data_of(log, *_DEPOSIT_DATA)
    tokens, amounts, (_, deadline, exclusivity, recipient, exclusive, message) = row[:2], row[2:4], row[4:]
    who = bytes.fromhex(depositor[2:]), recipient, exclusive
    numbers = int(deposit_id, 16), deadline, exclusivity
    return _relay(who, tokens, amounts, origin, numbers, message), int(destination, 16)


def fill_of(log: Log) -> Payout | None:
    """Return the fill in a log; None where a message came with it, which ours never has."""
    _, origin, deposit_id, _ = topics_of(log)
    row = data_of(log, *_FILL_DATA)
    tokens, amounts = row[:2], row[2:4]
    _, deadline, exclusivity, exclusive, depositor, recipient, message, execution = row[4:]
    if message != _NO_MESSAGE:
        return None
    numbers = int(deposit_id, 16), deadline, exclusivity
    relay = _relay((depositor, recipient, exclusive), tokens, amounts, int(origin, 16), numbers, b"")
    paid_to, _, amount, kind = execution
    return Payout(relay, paid_to, amount, slow=kind == SLOW_KIND)


SLOW_KIND = 2
"""``FillType.SlowFill`` of the contract."""


def refunds_of(log: Log, vault: str) -> tuple[str, list[int]]:
    """Return the token of an executed refund leaf, and what it paid to ``vault``, raw units."""
    _, amounts, token, who, _, _ = data_of(log, "uint256", "uint256[]", "address", "address[]", "bool", "address")
    pairs = zip(amounts, who, strict=True)
    return str(token), [int(amount) for amount, to in pairs if str(to).lower() == vault.lower()]


def _relay(
    who: tuple[bytes, bytes, bytes],
    tokens: tuple[bytes, bytes],
    amounts: tuple[int, int],
    origin: int,
    numbers: tuple[int, int, int],
    message: bytes,
) -> Relay:
    """Return a relay of depositor, recipient, exclusive relayer; tokens; amounts; origin; id, deadline, exclusivity."""
    (depositor, recipient, exclusive), (deposit_id, deadline, exclusivity) = who, numbers
    return Relay(
        *(depositor, recipient, exclusive), tokens[0], tokens[1], amounts[0], amounts[1], origin,
        deposit_id, deadline, exclusivity, message,
    )  # fmt: skip
