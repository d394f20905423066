"""SimulatedBridge: the Bridge protocol over two simulated chains, for paper portfolios and for the matrix of faults.

It reads the books of :mod:`policy.execution.bridges.sim_book` at one block of each chain. Its attester is a service
outside both chains, as Circle's is: it signs what is final on the origin, and may be down, late or useless.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lake.errors import RpcError
from lake.universe import Chain, bridge
from policy.execution.base import UnsignedTx, Verdict
from policy.execution.bridges.base import (
    Blocks,
    BridgeCaps,
    Sighting,
    Transfer,
    TransferQuote,
    converted,
    unseen,
)
from policy.execution.bridges.finality import confirmed_block, final_block
from policy.execution.bridges.sim_book import (
    BridgeBook,
    SimCredit,
    SimDeparture,
    SimMessage,
    bridge_fee,
    message_of,
)
from policy.execution.checks.verdicts import refused
from policy.execution.submission.node import BlockHeader

GRACE_S = 300
"""Seconds past a deadline, on the destination's clock, before a transfer is called expired."""
EXPIRY_BLOCKS = 500
"""Blocks of the destination for which an attested message is good."""
QUOTE_S = 300


class BookWorld(Protocol):
    """A world with a bridge book."""

    @property
    def bridges(self) -> BridgeBook:
        """What bridges hold."""
        ...


class BookBlock(Protocol):
    """A block with its world."""

    @property
    def head(self) -> BlockHeader:
        """The header."""
        ...

    @property
    def world(self) -> BookWorld:
        """The world after the block."""
        ...


class BookNode(Protocol):
    """A node that shows a simulated world at a block."""

    def head(self) -> BlockHeader:
        """Return the newest block."""
        ...

    def block(self, number: int | str) -> BookBlock:
        """Return the canonical block ``number``; RpcError where there is none."""
        ...


class Attester(Protocol):
    """The service that vouches on the destination for what is final on the origin. What it says is a hint."""

    def attest(self, transfer: Transfer, made: SimDeparture, expires_block: int) -> SimMessage | None:
        """Return the signed message of a departure, None while there is none."""
        ...


@dataclass(frozen=True, slots=True)
class SimAttester:
    """An attester that works: it signs a departure once the origin's block is final (``fast``: once it is seen)."""

    node: BookNode
    chain: Chain

    def attest(self, transfer: Transfer, made: SimDeparture, expires_block: int) -> SimMessage | None:
        """Return the signed message of a final departure."""
        last = self.node.head().number if transfer.speed == "fast" else final_block(self.node, self.chain)
        seen = last >= 0 and self.node.block(last).world.bridges.departed.get(made.message_id)
        if not seen:
            return None
        expires = 0 if made.kind == "simulated-message" else expires_block
        return SimMessage(
            seen.message_id, seen.saga_id, seen.recipient, seen.output_token, seen.least, expires
        ).signed()


@dataclass(frozen=True, slots=True)
class SimEnds:
    """The two nodes of a route and the rows of their chains, origin first."""

    nodes: tuple[BookNode, BookNode]
    chains: tuple[Chain, Chain]


class SimulatedBridge:
    """One route between two simulated chains."""

    def __init__(self, kind: str, ends: SimEnds, attester: Attester) -> None:
        self.row = bridge(kind)
        self.ends = ends
        self.attester = attester

    def describe(self) -> BridgeCaps:
        """Return the row's rules."""
        row = self.row
        return BridgeCaps(row.kind, row.refund, row.receive, row.wait_final, has_deadline=row.refund == "origin")

    def quote(self, transfer: Transfer, at: Blocks) -> TransferQuote | Verdict:
        """Return what the transfer would bring by the books at ``at``."""
        origin, destination = (n.block(b) for n, b in zip(self.ends.nodes, at, strict=True))
        a, b = origin.world.bridges, destination.world.bridges
        row = a.routes.get(transfer.route)
        if row is None:
            return refused("bridge_quote", f"route {transfer.route} is not in the port; no quote is no route")
        inbound, _ = converted(b.inbound_limit, transfer.destination.decimals, transfer.origin.decimals)
        limit = min(a.per_message_limit, inbound, row.max_one)
        amount = min(transfer.amount, limit)
        fee = bridge_fee(a, amount)
        least, dust = converted(amount - fee, transfer.origin.decimals, transfer.destination.decimals)
        if least <= 0:
            return refused("bridge_limit", f"nothing of {transfer.amount} raw units would arrive", limit=limit)
        return TransferQuote(
            amount=amount - dust,
            least=least,
            fee=fee,
            gas_origin=142_000,
            gas_destination=0 if self.row.receive == "relayer" else 210_000,
            limit=limit,
            expires=origin.head.time + QUOTE_S,
            usual_s=self.row.usual_s + (self.ends.chains[0].usual_final_s if self.row.wait_final else 0.0),
        )

    def preflight(self, transfer: Transfer) -> Sequence[Verdict]:
        """Return what on either chain stops a departure."""
        try:
            a, b = (n.block("latest").world.bridges for n in self.ends.nodes)
        except RpcError as error:
            return (refused("bridge_quote", f"a side of the bridge cannot be read: {error}"),)
        found = [
            refused("bridge_paused", f"the bridge is paused on chain {side.chain_id}")
            for side, book in zip((transfer.origin, transfer.destination), (a, b), strict=True)
            if book.paused
        ]
        found += _decimals(transfer, a, b)
        if (self.row.kind, transfer.origin.chain_id) not in b.peers:
            words = f"chain {transfer.destination.chain_id} takes no {self.row.kind} from {transfer.origin.chain_id}"
            found.append(refused("representation_unknown", f"{words}: its table names no token for it"))
        arriving, _ = converted(transfer.amount, transfer.origin.decimals, transfer.destination.decimals)
        if transfer.amount > a.per_message_limit or arriving > b.inbound_limit:
            found.append(refused("bridge_limit", "more than one message may carry", amount=transfer.amount))
        return tuple(found)

    def find(self, transfer: Transfer) -> Sighting:
        """Look the transfer up in both books."""
        blocks = transfer.since
        try:
            heads = tuple(n.head().number for n in self.ends.nodes)
            blocks = (heads[0], confirmed_block(heads[1], self.ends.chains[1]))
            return self._seen(transfer, blocks)
        except RpcError as error:
            return unseen(blocks, f"{error}")

    def _seen(self, transfer: Transfer, blocks: Blocks) -> Sighting:
        (near, far), (chain, other) = self.ends.nodes, self.ends.chains
        final = final_block(near, chain)
        book, there = near.block(blocks[0]).world.bridges, far.block(blocks[1])
        mine = [d for d in book.departed.values() if d.saga_id == transfer.saga_id]
        if not mine:
            return self._orphan(transfer, blocks, there.world.bridges)
        if len(mine) > 1:
            return unseen(blocks, f"{len(mine)} departures of one transfer are in the origin's chain; call a person")
        made = mine[0]
        seen = Sighting(
            blocks,
            departed=True,
            final=made.block <= final,
            tx_hash=made.tx_hash,
            block=made.block,
            sent=made.amount,
            message_id=made.message_id,
        )
        credit = there.world.bridges.received.get(made.message_id)
        if credit is not None:
            return _arrived(transfer, seen, made, credit, final=credit.block <= final_block(far, other))
        back = near.block(confirmed_block(blocks[0], chain)).world.bridges.returned.get(made.message_id)
        if back is not None:
            return _returned(transfer, seen, back, final=back.block <= final)
        if made.fill_deadline and there.head.time > made.fill_deadline + GRACE_S:
            return replace(seen, expired=True, reason="its deadline passed on the destination; the refund is due")
        return self._attested(transfer, seen, made)

    def _orphan(self, transfer: Transfer, blocks: Blocks, there: BridgeBook) -> Sighting:
        """Return what is seen without a departure: nothing, or an arrival whose departure the origin has dropped."""
        paid = [c for c in there.received.values() if c.saga_id == transfer.saga_id]
        ours = [c for c in paid if c.recipient.lower() == transfer.destination.vault.lower()]
        if not ours:
            return Sighting(blocks, reason="no departure of it is in the origin's chain")
        why = "it arrived, and the origin's chain holds no departure of it: the origin was reorganised"
        return Sighting(blocks, arrived=ours[0].amount, credit_block=ours[0].block, reason=why)

    def _attested(self, transfer: Transfer, seen: Sighting, made: SimDeparture) -> Sighting:
        """Return ``seen`` with the attester's message, where one is ready and belongs to this departure."""
        if self.row.receive == "relayer":
            return replace(seen, reason="a relayer fills it")
        head = self.ends.nodes[1].head().number
        message = self.attester.attest(transfer, made, head + EXPIRY_BLOCKS)
        if message is None:
            return replace(seen, reason="not attested yet")
        wanted = (made.message_id, made.recipient.lower(), made.output_token.lower(), made.least)
        if (message.message_id, message.recipient.lower(), message.token.lower(), message.amount) != wanted:
            return replace(seen, reason="the attester's message is not of this departure; asked again")
        if message.proof != message.seal():
            return replace(seen, reason="the attestation is not by an attester; asked again")
        if message.expires_block and message.expires_block < head + 1:
            return replace(seen, reason="the attestation has expired; asked for a new one under the same nonce")
        ready = seen.final or transfer.speed == "fast"
        paused = self.ends.nodes[1].block("latest").world.bridges.paused
        why = "the bridge is paused on the destination" if paused else ""
        return replace(seen, attested=True, deliverable=ready and not paused, proof=message.encoded(), reason=why)

    def deliver(self, transfer: Transfer, sighting: Sighting) -> UnsignedTx | None:
        """Return the delivery of an attested message; a relayer's fill is not ours."""
        if not sighting.deliverable or not sighting.proof:
            return None
        message = message_of(sighting.proof).encoded().decode()
        data = json.dumps({"bridge_call": "receive", "message": message}, sort_keys=True).encode()
        return UnsignedTx(transfer.destination.chain_id, "0x" + "b1" * 20, data)


def _arrived(transfer: Transfer, seen: Sighting, made: SimDeparture, credit: SimCredit, *, final: bool) -> Sighting:
    """Return ``seen`` with the credit on the destination, which counts by its own log only if it is to our vault."""
    if credit.recipient.lower() != transfer.destination.vault.lower():
        return replace(seen, known=False, reason=f"it was credited to {credit.recipient}, which is not our vault")
    got, dust = converted(credit.amount, transfer.destination.decimals, transfer.origin.decimals)
    fee = made.amount - got if not dust else made.amount - got - 1
    return replace(
        seen,
        attested=True,
        arrived=credit.amount,
        fee=fee,
        settled_final=final and seen.final,
        credit_block=credit.block,
    )


def _returned(transfer: Transfer, seen: Sighting, credit: SimCredit, *, final: bool) -> Sighting:
    """Return ``seen`` with the refund on the origin, which counts only if it is to our vault."""
    if credit.recipient.lower() != transfer.origin.vault.lower():
        return replace(seen, known=False, reason=f"it was refunded to {credit.recipient}, which is not our vault")
    return replace(seen, expired=True, returned=credit.amount, settled_final=final, credit_block=credit.block)


def _decimals(transfer: Transfer, a: BridgeBook, b: BridgeBook) -> list[Verdict]:
    """Return the sides whose decimals are not what the chain says of the token."""
    out = []
    for side, book in ((transfer.origin, a), (transfer.destination, b)):
        on_chain = book.decimals.get(side.token)
        if on_chain != side.decimals:
            words = f"{side.token} has {on_chain} decimals on chain {side.chain_id}, {side.decimals} were given"
            out.append(refused("decimals", words))
    return out
