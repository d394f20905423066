"""CctpBridge: the Bridge protocol over Circle's CCTP v2, by look-up on both chains.

A burn is found by the vault's own log, its message by the log of the same transaction, an arrival by the mint to our
vault in the transaction that used the message. The attestation service only brings signatures: they are checked by the
destination's own list of attesters before anything is delivered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from lake.errors import ExecutionError, RpcError
from lake.evm import Call, calldata, read
from lake.rpc import Rpc
from lake.universe import Chain, bridge
from policy.execution.base import UnsignedTx, Verdict
from policy.execution.bridges.attestations import Attestations, Attested
from policy.execution.bridges.base import Blocks, BridgeCaps, Sighting, Transfer, TransferQuote, converted
from policy.execution.bridges.cctp_message import BurnMessage, decoded
from policy.execution.bridges.departures import BridgeEnd, fee_of, looked_up
from policy.execution.bridges.events import (
    address_of,
    data_of,
    event_topic,
    is_of,
    logs_between,
    logs_of_tx,
    topics_of,
)
from policy.execution.bridges.finality import final_block
from policy.execution.bridges.routes import read_row
from policy.execution.bridges.services import ServiceDown
from policy.execution.checks.port_rules import CCTP, FAST, FINAL
from policy.execution.checks.verdicts import refused

MESSAGE_SENT = event_topic("MessageSent(bytes)")
MESSAGE_RECEIVED = event_topic("MessageReceived(address,uint32,bytes32,bytes32,uint32,bytes)")
MINTED = event_topic("MintAndWithdraw(address,uint256,address,uint256)")
RECEIVE = "receiveMessage(bytes,bytes)"
SIGNATURE = 65
PIPS = 1_000_000
GAS_ORIGIN, GAS_DESTINATION = 160_000, 350_000
QUOTE_S = 300

UNATTESTED = "not attested yet: once Circle signs it anybody may call receiveMessage; ask Circle with its transaction"


@dataclass(frozen=True, slots=True)
class CctpEnd(BridgeEnd):
    """One chain of a route: where it is read, and Circle's two contracts there."""

    messenger: str
    transmitter: str

    @property
    def domain(self) -> int:
        """Circle's number of the chain; ExecutionError where it has none."""
        if self.chain.cctp_domain is None:
            raise ExecutionError(f"{self.chain.name} has no CCTP domain")
        return self.chain.cctp_domain


class CctpBridge:
    """One route between two chains, ``ends`` origin first."""

    def __init__(self, ends: tuple[CctpEnd, CctpEnd], attestations: Attestations) -> None:
        self.ends = ends
        self.attestations = attestations

    def describe(self) -> BridgeCaps:
        """Return CCTP's rules: no refund, anybody delivers, a final burn before it is attested."""
        row = bridge("cctp")
        return BridgeCaps(row.kind, row.refund, row.receive, finality_needed=row.wait_final)

    def quote(self, transfer: Transfer, at: Blocks) -> TransferQuote | Verdict:
        """Return what the transfer would bring: the least fee of the service, within Circle's limit and the route's."""
        near, far = self.ends
        row = read_row(near.rpc, transfer.origin.vault, transfer.route, at[0])
        if row.kind != CCTP:
            return refused("bridge_quote", f"route {transfer.route} is no open CCTP route; no quote is no route")
        try:
            pips = self.attestations.fee_pips(near.domain, far.domain, _threshold(transfer))
        except ServiceDown as error:
            return refused("bridge_quote", f"{error}; no quote is no route")
        if pips is None:
            return refused("bridge_quote", f"Circle offers no {transfer.speed} transfer between these chains")
        limit = min(_burn_limit(near, transfer.origin.token, at[0]), row.max_one)
        amount = min(transfer.amount, limit)
        fee = -(-amount * pips // PIPS)
        least, dust = converted(max(0, amount - fee), transfer.origin.decimals, transfer.destination.decimals)
        if least <= 0:
            return refused("bridge_limit", f"nothing of {transfer.amount} raw units would arrive", limit=str(limit))
        usual_s = bridge("cctp").usual_s + (near.chain.usual_final_s if transfer.speed == "final" else 0.0)
        return TransferQuote(
            amount=amount - dust,
            least=least,
            fee=fee,
            gas_origin=GAS_ORIGIN,
            gas_destination=GAS_DESTINATION,
            limit=limit,
            expires=near.node.head().time + QUOTE_S,
            usual_s=usual_s,
        )

    def preflight(self, transfer: Transfer) -> Sequence[Verdict]:
        """Return what on either chain stops a departure: pause, decimals, token map, limit."""
        try:
            return tuple(_stops(transfer, *self.ends))
        except RpcError as error:
            return (refused("bridge_quote", f"a side of the bridge cannot be read: {error}"),)

    def find(self, transfer: Transfer) -> Sighting:
        """Look the transfer up on both chains."""
        return looked_up(self.ends, transfer, self._beyond)

    def deliver(self, transfer: Transfer, sighting: Sighting) -> UnsignedTx | None:
        """Return the delivery of an attested message; anybody may send it, the recipient is in the message."""
        if not sighting.deliverable or not sighting.proof or sighting.arrived:
            return None
        count = int.from_bytes(sighting.proof[:4], "big")
        body = sighting.proof[4:]
        data = calldata(RECEIVE, body[:count], body[count:])
        return UnsignedTx(transfer.destination.chain_id, self.ends[1].transmitter, data)

    def _beyond(self, transfer: Transfer, seen: Sighting) -> Sighting:
        raw = self._message(transfer, str(seen.tx_hash))
        return self._there(transfer, replace(seen, message_id="0x" + keccak(raw).hex()), decoded(raw))

    def _message(self, transfer: Transfer, tx_hash: str) -> bytes:
        """Return the message the departure's transaction sent; RpcError where it is not the burn that left."""
        near, far = self.ends
        logs = [x for x in logs_of_tx(near.rpc, tx_hash) if is_of(x, near.transmitter, MESSAGE_SENT)]
        found = [bytes(data_of(log, "bytes")[0]) for log in logs]
        for raw in found:
            try:
                m = decoded(raw)
            except ExecutionError:
                continue
            mine = (m.depositor, m.recipient, m.destination) == (
                to_checksum_address(transfer.origin.vault),
                to_checksum_address(transfer.destination.vault),
                far.domain,
            )
            if mine and m.amount == transfer.amount:
                return raw
        raise RpcError(f"{tx_hash[:12]}... logged no burn of {transfer.amount} raw units to our vault there")

    def _there(self, transfer: Transfer, seen: Sighting, burn: BurnMessage) -> Sighting:
        """Return ``seen`` with the mint on the destination, or with the attestation it waits for."""
        far = self.ends[1]
        asked, down = None, ""
        try:
            asked = self._attested(burn, seen)
        except ServiceDown as error:
            down = f"{error}"
        received = self._received(transfer, seen, burn, None if asked is None else decoded(asked.message).nonce)
        if received is not None:
            return self._arrived(transfer, seen, received)
        if asked is None:
            return replace(seen, reason=down or UNATTESTED)
        message = decoded(asked.message)
        why = self._faulty(asked, burn, message)
        if why:
            return replace(seen, reason=why)
        ready = seen.final or transfer.speed == "fast"
        paused = bool(read(far.rpc, [Call(far.transmitter, "paused()", "bool")])[0][0])
        proof = len(asked.message).to_bytes(4, "big") + asked.message + asked.signatures
        reason = "the bridge is paused on the destination" if paused else ""
        return replace(seen, attested=True, deliverable=ready and not paused, proof=proof, reason=reason)

    def _attested(self, burn: BurnMessage, seen: Sighting) -> Attested | None:
        """Return the service's message of this burn with signatures, None while there is none."""
        for row in self.attestations.of(self.ends[0].domain, str(seen.tx_hash)):
            try:
                same = bool(row.signatures) and decoded(row.message).asked() == burn.asked()
            except ExecutionError:
                same = False
            if same:
                return row
        return None

    def _received(
        self, transfer: Transfer, seen: Sighting, burn: BurnMessage, nonce: bytes | None
    ) -> dict[str, Any] | None:
        """Return the log of the message's use on the destination: by its nonce, else by the burn in its body."""
        far = self.ends[1]
        topics = [MESSAGE_RECEIVED, None, None if nonce is None else "0x" + nonce.hex()]
        logs = logs_between(far.rpc, far.transmitter, topics, transfer.since[1], seen.blocks[1])
        mine = [log for log in logs if _body_of(log, burn)]
        if len(mine) > 1:
            raise RpcError(f"{len(mine)} messages alike arrived since block {transfer.since[1]}; call a person")
        return mine[0] if mine else None

    def _arrived(self, transfer: Transfer, seen: Sighting, log: dict[str, Any]) -> Sighting:
        """Return ``seen`` with what was minted to our vault in the transaction that used the message."""
        far = self.ends[1]
        tx_hash, block = str(log["transactionHash"]), int(log["blockNumber"])
        minted = [x for x in logs_of_tx(far.rpc, tx_hash) if is_of(x, far.messenger, MINTED)]
        ours = [x for x in minted if address_of(topics_of(x)[1]) == to_checksum_address(transfer.destination.vault)]
        ours = [x for x in ours if address_of(topics_of(x)[2]) == to_checksum_address(transfer.destination.token)]
        if not ours:
            return replace(seen, attested=True, reason="the message was used and nothing was minted to our vault")
        amount = sum(data_of(x, "uint256", "uint256")[0] for x in ours)
        final = seen.final and block <= final_block(far.node, far.chain)
        fee = fee_of(transfer, seen.sent, amount)
        return replace(seen, attested=True, arrived=amount, fee=fee, settled_final=final, credit_block=block)

    def _faulty(self, asked: Attested, burn: BurnMessage, message: BurnMessage) -> str:
        """Return why an attestation would be denied on the destination now; empty where it would not."""
        far = self.ends[1]
        if message.finality < burn.least_finality:
            return "the message is attested below the finality that was asked for"
        if message.fee > burn.max_fee:
            return f"the attestation takes a fee of {message.fee}, {burn.max_fee} was allowed; asked again"
        count = len(asked.signatures) // SIGNATURE
        signers = _signers(asked)
        views = [Call(far.transmitter, "signatureThreshold()", "uint256")]
        views += [Call(far.transmitter, "isEnabledAttester(address)", "bool", (s,)) for s in signers]
        (threshold,), *known = read(far.rpc, views)
        ordered = [int(s, 16) for s in signers]
        if count != threshold or len(signers) != count or ordered != sorted(set(ordered)):
            return f"the attestation has {len(signers)} sound signatures in order, {threshold} are due; asked again"
        if not all(row[0] for row in known):
            return "the attestation is not by attesters of the destination; asked again"
        if message.expires and message.expires <= far.node.head().number + 1:
            self.attestations.renew(message.nonce)
            return "the attestation has expired; asked for a new one under the same nonce"
        return ""


def transmitter_of(rpc: Rpc, messenger: str) -> str:
    """Return the transmitter of a messenger; RpcError where ``messenger`` is none of CCTP's."""
    return str(to_checksum_address(str(read(rpc, [Call(messenger, "localMessageTransmitter()", "address")])[0][0])))


def far_messenger(rpc: Rpc, messenger: str, there: Chain) -> str:
    """Return the messenger on chain ``there`` as the one here knows it; ExecutionError where it serves none."""
    if there.cctp_domain is None:
        raise ExecutionError(f"{there.name} has no CCTP domain")
    view = Call(messenger, "remoteTokenMessengers(uint32)", "bytes32", (there.cctp_domain,))
    word = bytes(read(rpc, [view])[0][0])  # type: ignore[call-overload]
    if not any(word):
        raise ExecutionError(f"the CCTP messenger {messenger} does not serve {there.name}")
    return address_of(word.hex())


def _threshold(transfer: Transfer) -> int:
    return FINAL if transfer.speed == "final" else FAST


def _signers(asked: Attested) -> list[str]:
    """Return who signed the message, in the order given; signatures nobody can have made are left out."""
    digest, found = keccak(asked.message), []
    for i in range(0, len(asked.signatures) - SIGNATURE + 1, SIGNATURE):
        raw = asked.signatures[i : i + SIGNATURE]
        with contextlib.suppress(BadSignature, ValidationError):
            signature = Signature(raw[:-1] + bytes([raw[-1] - 27 & 255]))
            found.append(str(signature.recover_public_key_from_msg_hash(digest).to_checksum_address()))
    return found


def _body_of(log: dict[str, Any], burn: BurnMessage) -> bool:
    """Return whether a received message is this burn: domain, sender and body but what the service filled in."""
    domain, sender, body = data_of(log, "uint32", "bytes32", "bytes")
    if (domain, address_of(sender.hex())) != (burn.source, burn.messenger):
        return False
    try:
        told = decoded(burn.encoded()[: 376 - 228] + bytes(body))
    except ExecutionError:
        return False
    return replace(told.asked(), least_finality=burn.least_finality) == burn.asked()


def _burn_limit(end: CctpEnd, token: str, block: int | str = "latest") -> int:
    minter = read(end.rpc, [Call(end.messenger, "localMinter()", "address")], block)[0][0]
    asks = [Call(str(minter), "burnLimitsPerMessage(address)", "uint256", (token,))]
    return int(str(read(end.rpc, asks, block)[0][0]))


def _stops(transfer: Transfer, near: CctpEnd, far: CctpEnd) -> list[Verdict]:
    """Return the verdicts of both chains; of a route through another contract only that."""
    out = []
    row = read_row(near.rpc, transfer.origin.vault, transfer.route)
    if row.kind == CCTP and row.target.lower() != near.messenger.lower():
        words = f"route {transfer.route} burns through {row.target}, the messenger there is {near.messenger}"
        return [refused("route_mismatch", words)]
    for side, end in ((transfer.origin, near), (transfer.destination, far)):
        views = [Call(end.transmitter, "paused()", "bool"), Call(side.token, "decimals()", "uint8")]
        views += [Call(end.transmitter, "localDomain()", "uint32")]
        (paused,), (decimals,), (domain,) = read(end.rpc, views)
        if paused:
            out.append(refused("bridge_paused", f"CCTP is paused on chain {side.chain_id}"))
        if decimals != side.decimals:
            words = f"{side.token} has {decimals} decimals on chain {side.chain_id}, {side.decimals} were given"
            out.append(refused("decimals", words))
        if domain != end.domain:
            words = f"the transmitter on chain {side.chain_id} serves domain {domain}, {end.domain} is expected"
            out.append(refused("route_mismatch", words))
    minter = str(read(far.rpc, [Call(far.messenger, "localMinter()", "address")])[0][0])
    remote = bytes(12) + bytes.fromhex(transfer.origin.token[2:])
    ask = Call(minter, "getLocalToken(uint32,bytes32)", "address", (near.domain, remote))
    local = str(read(far.rpc, [ask])[0][0])
    if local.lower() != transfer.destination.token.lower():
        words = f"chain {transfer.destination.chain_id} mints {local} for {transfer.origin.token}"
        out.append(refused("representation_unknown", f"{words}, not {transfer.destination.token}"))
    asks = [(near, far), (far, near)]
    for here, there in asks:
        view = Call(here.messenger, "remoteTokenMessengers(uint32)", "bytes32", (there.domain,))
        peer = bytes(read(here.rpc, [view])[0][0])  # type: ignore[call-overload]
        if address_of(peer.hex()) != to_checksum_address(there.messenger):
            words = f"the messenger on chain {here.chain.chain_id} knows {address_of(peer.hex())} on the other chain"
            out.append(refused("route_mismatch", f"{words}, not {there.messenger}"))
    limit = _burn_limit(near, transfer.origin.token)
    if transfer.amount > limit:
        out.append(
            refused("bridge_limit", f"{transfer.amount} raw units, {limit} may be burnt at once", limit=str(limit))
        )
    return out
