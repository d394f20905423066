"""What a simulated bridge and port hold on one chain, as immutable values, and the rules of their calls.

Three kinds, as the real ones are: ``simulated-mint`` (burnt here, minted there by whoever brings the attested message),
``simulated-message`` (the same with a native fee, never expiring) and ``simulated-fill`` (a relayer pays there before
a deadline, else the money comes home). A call returns the book after it and what it moved, or why it is denied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any

from policy.execution.bridges.base import Departure, PortRoute

ATTESTER = "simulated attester"
BPS = 10_000


@dataclass(frozen=True, slots=True)
class SimDeparture:
    """A departure as the origin's book keeps it; ``fee``: raw units of the origin that the bridge keeps."""

    saga_id: str
    route: int
    kind: str
    nonce: int
    chain_id: int
    vault: str
    token: str
    destination: int
    recipient: str
    output_token: str
    amount: int
    fee: int
    least: int
    block: int
    time: int
    tx_hash: str
    fill_deadline: int = 0

    @property
    def message_id(self) -> str:
        """The name of this departure on the other chain; a second departure of one saga has another."""
        words = f"{self.chain_id}|{self.vault.lower()}|{self.nonce}|{self.saga_id}|{self.tx_hash}"
        return "0x" + sha256(words.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SimCredit:
    """Money credited to a vault: of a delivery, a fill or a refund."""

    message_id: str
    saga_id: str
    recipient: str
    token: str
    amount: int
    block: int


@dataclass(frozen=True, slots=True)
class SimMessage:
    """What is delivered: the destination checks ``proof`` and the block it expires at (0: never)."""

    message_id: str
    saga_id: str
    recipient: str
    token: str
    amount: int
    expires_block: int
    proof: str = ""

    def signed(self) -> SimMessage:
        """Return the message with the attester's proof."""
        return replace(self, proof=self.seal())

    def seal(self) -> str:
        """Return the proof that belongs to the message's fields."""
        body = {**asdict(self), "proof": ""}
        return sha256((ATTESTER + json.dumps(body, sort_keys=True)).encode()).hexdigest()

    def encoded(self) -> bytes:
        """Return the message as a delivery carries it."""
        return json.dumps(asdict(self), sort_keys=True).encode()


def message_of(raw: bytes) -> SimMessage:
    """Return the message that :meth:`SimMessage.encoded` wrote."""
    return SimMessage(**json.loads(raw))


@dataclass(frozen=True, slots=True)
class BridgeBook:
    """Everything bridges hold on one chain: routes of the port, departures, credits, pauses, counters in transit.

    ``decimals``: of every token by address, so that both sides are read and none is assumed. ``peers``: the kinds
    and origins this chain accepts messages from.
    """

    routes: Mapping[int, PortRoute] = field(default_factory=dict)
    departed: Mapping[str, SimDeparture] = field(default_factory=dict)
    received: Mapping[str, SimCredit] = field(default_factory=dict)
    returned: Mapping[str, SimCredit] = field(default_factory=dict)
    transit: Mapping[int, int] = field(default_factory=dict)
    settled: tuple[str, ...] = ()
    decimals: Mapping[str, int] = field(default_factory=dict)
    peers: tuple[tuple[str, int], ...] = ()
    fee_pips: int = 0
    per_message_limit: int = 10**30
    inbound_limit: int = 10**30
    paused: bool = False
    moves: tuple[tuple[Any, ...], ...] = ()  # (block, kind, raw units, time where known): cash that no transfer moved
    cash: str = ""  # address of the token that moves


def bridge_fee(book: BridgeBook, amount: int) -> int:
    """Return what the bridge keeps of ``amount``, raw units, rounded up against us."""
    return -(-amount * book.fee_pips // 1_000_000)


def depart(
    book: BridgeBook, departure: Departure, made: SimDeparture, held: int, limits: tuple[bool, int]
) -> BridgeBook | str:
    """Return the book after a departure, or why the port denies it. ``limits``: vault paused, plan nonce wanted."""
    paused, wanted = limits
    row = book.routes.get(departure.route)
    if paused or book.paused:
        return "paused"
    if row is None:
        return "no route"
    if departure.nonce != wanted:
        return "plan nonce"
    if made.time > departure.deadline:
        return "deadline"
    if not 0 < departure.amount <= min(row.max_one, book.per_message_limit, held):
        return "amount"
    if book.transit.get(row.route, 0) + departure.amount > row.max_in_transit:
        return "in transit"
    if departure.max_fee * BPS > departure.amount * row.max_fee_bps:
        return "fee ceiling"
    if made.fee > departure.max_fee:
        return "fee"
    return replace(
        book,
        departed={**book.departed, made.message_id: made},
        transit={**book.transit, row.route: book.transit.get(row.route, 0) + departure.amount},
    )


def receive(book: BridgeBook, message: SimMessage, block: int) -> tuple[BridgeBook, SimCredit] | str:
    """Return the book after a delivery and the credit, or why it is denied."""
    if book.paused:
        return "paused"
    if message.proof != message.seal():
        return "not by an attester"
    if message.expires_block and block > message.expires_block:
        return "message expired and must be re-signed"
    if message.message_id in book.received:
        return "nonce already used"
    if message.amount > book.inbound_limit:
        return "inbound limit"
    credit = SimCredit(message.message_id, message.saga_id, message.recipient, message.token, message.amount, block)
    return replace(book, received={**book.received, credit.message_id: credit}), credit


def fill(book: BridgeBook, made: SimDeparture, block: int, time: int) -> tuple[BridgeBook, SimCredit] | str:
    """Return the book after a relayer's fill, or why it is denied."""
    if book.paused:
        return "paused"
    if time > made.fill_deadline:
        return "deadline"
    if made.message_id in book.received:
        return "filled"
    credit = SimCredit(made.message_id, made.saga_id, made.recipient, made.output_token, made.least, block)
    return replace(book, received={**book.received, credit.message_id: credit}), credit


def refund(book: BridgeBook, message_id: str, block: int) -> tuple[BridgeBook, SimCredit] | str:
    """Return the book after the refund of an expired departure in whole, or why it is denied."""
    made = book.departed.get(message_id)
    if made is None:
        return "no such deposit"
    if message_id in book.returned:
        return "paid"
    credit = SimCredit(message_id, made.saga_id, made.vault, made.token, made.amount, block)
    return replace(book, returned={**book.returned, message_id: credit}), credit


def settle(book: BridgeBook, saga_id: str) -> BridgeBook | str:
    """Return the book with the route's counter freed of this saga, or why not; it moves no money."""
    made = next((d for d in book.departed.values() if d.saga_id == saga_id), None)
    if made is None:
        return "no such departure"
    if saga_id in book.settled:
        return "settled"
    left = book.transit.get(made.route, 0) - made.amount
    return replace(book, transit={**book.transit, made.route: left}, settled=(*book.settled, saga_id))


def book_json(book: BridgeBook) -> dict[str, Any]:
    """Return the book as JSON, amounts as Python's integers print."""
    return {
        **{k: getattr(book, k) for k in ("fee_pips", "paused", "cash")},
        "per_message_limit": str(book.per_message_limit),
        "inbound_limit": str(book.inbound_limit),
        "routes": [_texts(asdict(r)) for r in book.routes.values()],
        "departed": [_texts(asdict(d)) for d in book.departed.values()],
        "received": [_texts(asdict(c)) for c in book.received.values()],
        "returned": [_texts(asdict(c)) for c in book.returned.values()],
        "transit": {str(k): str(v) for k, v in book.transit.items()},
        "settled": list(book.settled),
        "decimals": dict(book.decimals),
        "peers": [list(p) for p in book.peers],
        "moves": [[block, kind, str(amount), *rest] for block, kind, amount, *rest in book.moves],
    }


def book_of_json(data: Mapping[str, Any]) -> BridgeBook:
    """Return the book that :func:`book_json` wrote."""
    routes = [PortRoute(**_numbers(r)) for r in data["routes"]]
    departed = [SimDeparture(**_numbers(d)) for d in data["departed"]]
    received, returned = ([SimCredit(**_numbers(c)) for c in data[k]] for k in ("received", "returned"))
    return BridgeBook(
        routes={r.route: r for r in routes},
        departed={d.message_id: d for d in departed},
        received={c.message_id: c for c in received},
        returned={c.message_id: c for c in returned},
        transit={int(k): int(v) for k, v in data["transit"].items()},
        settled=tuple(data["settled"]),
        decimals=dict(data["decimals"]),
        peers=tuple((str(k), int(o)) for k, o in data["peers"]),
        fee_pips=data["fee_pips"],
        per_message_limit=int(data["per_message_limit"]),
        inbound_limit=int(data["inbound_limit"]),
        paused=data["paused"],
        moves=tuple((int(b), str(k), int(a), *map(int, t)) for b, k, a, *t in data["moves"]),
        cash=data["cash"],
    )


_AMOUNTS = frozenset({"amount", "fee", "least", "max_one", "max_in_transit"})


def _texts(row: dict[str, Any]) -> dict[str, Any]:
    return {k: str(v) if k in _AMOUNTS else v for k, v in row.items()}


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: int(v) if k in _AMOUNTS else v for k, v in row.items()}
