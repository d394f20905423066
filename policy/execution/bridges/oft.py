"""OftBridge: the Bridge protocol over a LayerZero OFT, by the endpoints of both chains alone.

A send is found by the vault's own log, its packet by the endpoint's in the same transaction; the destination's endpoint
keeps the hash of a verified packet until it is executed, and its OFT logs the credit. No message ever expires or comes
home. What the verifiers vouched for is compared with what left before anything is delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.errors import ExecutionError, RpcError
from lake.evm import Call, calldata, read, try_read
from lake.rpc import Rpc
from lake.universe import Chain, bridge
from policy.execution.base import UnsignedTx, Verdict
from policy.execution.bridges.base import Blocks, BridgeCaps, Sighting, Transfer, TransferQuote, converted
from policy.execution.bridges.departures import BridgeEnd, fee_of, looked_up
from policy.execution.bridges.events import (
    address_of,
    data_of,
    event_topic,
    is_of,
    logs_between,
    logs_of_tx,
    topics_of,
    word,
)
from policy.execution.bridges.finality import final_block
from policy.execution.bridges.oft_packet import OftPacket, packet_of
from policy.execution.bridges.routes import read_row
from policy.execution.checks.port_rules import OFT
from policy.execution.checks.verdicts import refused

PACKET_SENT = event_topic("PacketSent(bytes,bytes,address)")
SENT = event_topic("OFTSent(bytes32,uint32,address,uint256,uint256)")
RECEIVED = event_topic("OFTReceived(bytes32,uint32,address,uint256)")
LZ_RECEIVE = "lzReceive((uint32,bytes32,uint64),address,bytes32,bytes,bytes)"
SEND_PARAM = "(uint32,bytes32,uint256,uint256,bytes,bytes,bytes)"
QUOTE_OFT, QUOTE_SEND = f"quoteOFT({SEND_PARAM})", f"quoteSend({SEND_PARAM},bool)"
OFT_ANSWER = "(uint256,uint256),(int256,string)[],(uint256,uint256)"
COMMIT = "commitVerification(bytes,bytes32)"
ULN_CONFIG = "(uint64,uint8,uint8,uint8,address[],address[])"
INBOUND = "inboundPayloadHash(address,uint32,bytes32,uint64)"
LAZY = "lazyInboundNonce(address,uint32,bytes32)"
GAS_ORIGIN, GAS_DESTINATION = 320_000, 350_000
QUOTE_S = 300
ROOM_BPS = 11_000
"""Of the quoted native fee that goes along; the endpoint returns what its messengers do not take."""
NIL = bytes([255]) * 32
"""What the endpoint keeps of a packet that the OFT's owner took back for another verification."""


@dataclass(frozen=True, slots=True)
class OftEnd(BridgeEnd):
    """One chain of a route: where it is read, the OFT there and the endpoint it sends and receives by."""

    oft: str
    endpoint: str

    @property
    def eid(self) -> int:
        """LayerZero's number of the chain; ExecutionError where it has none."""
        if self.chain.lz_eid is None:
            raise ExecutionError(f"{self.chain.name} has no LayerZero endpoint id")
        return self.chain.lz_eid


@dataclass(frozen=True, slots=True)
class _Room:
    """What may be sent just now, raw units of the origin: at most ``most``, in steps of ``step``."""

    most: int
    step: int


class OftBridge:
    """One route between two chains, ``ends`` origin first."""

    def __init__(self, ends: tuple[OftEnd, OftEnd]) -> None:
        self.ends = ends

    def describe(self) -> BridgeCaps:
        """Return an OFT's rules: no refund, anybody delivers, verified after the verifiers' own confirmations."""
        row = bridge("oft")
        return BridgeCaps(row.kind, row.refund, row.receive, finality_needed=row.wait_final, marked=False)

    def quote(self, transfer: Transfer, at: Blocks) -> TransferQuote | Verdict:
        """Return what the transfer would bring, cut to whole shared units and to both sides' limits."""
        near, far = self.ends
        row = read_row(near.rpc, transfer.origin.vault, transfer.route, at[0])
        if row.kind != OFT:
            return refused("bridge_quote", f"route {transfer.route} is no open OFT route; no quote is no route")
        room = self._room(transfer)
        limit = min(row.max_one, room.most)
        amount = min(transfer.amount, limit) // room.step * room.step
        if amount <= 0:
            words = f"nothing of {transfer.amount} raw units may be sent now; {room.step} are its least step"
            return refused("bridge_limit", words, limit=str(limit))
        ask = (far.eid, word(transfer.destination.vault), amount, 0, _options(row.speed), b"", b"")
        views = [
            Call(near.oft, QUOTE_OFT, OFT_ANSWER, (ask,)),
            Call(near.oft, QUOTE_SEND, "(uint256,uint256)", (ask, False)),
        ]
        try:
            answers: list[Any] = list(read(near.rpc, views, at[0]))
        except RpcError as error:
            return refused("bridge_quote", f"the OFT quotes nothing: {error}; no quote is no route")
        (limits, _, (sent, received)), ((native, _),) = answers
        if sent != amount or not limits[0] <= amount <= limits[1]:
            return refused("bridge_limit", f"the OFT takes {sent} of {amount} raw units", limit=str(limits[1]))
        least, dust = converted(received, transfer.origin.decimals, transfer.destination.decimals)
        if least <= 0:
            return refused("bridge_limit", f"nothing of {amount} raw units would arrive", limit=str(limit))
        return TransferQuote(
            amount=amount,
            least=least,
            fee=amount - received + dust,
            gas_origin=GAS_ORIGIN,
            gas_destination=GAS_DESTINATION,
            limit=limit,
            expires=near.node.head().time + QUOTE_S,
            native_fee_wei=native * ROOM_BPS // 10_000,
            usual_s=bridge("oft").usual_s + near.chain.usual_final_s,
        )

    def preflight(self, transfer: Transfer) -> Sequence[Verdict]:
        """Return what on either chain stops a departure: pause, token, peers, decimals, dust, limits."""
        try:
            return tuple(self._stops(transfer))
        except RpcError as error:
            return (refused("bridge_quote", f"a side of the bridge cannot be read: {error}"),)

    def find(self, transfer: Transfer) -> Sighting:
        """Look the transfer up on both chains."""
        return looked_up(self.ends, transfer, self._beyond)

    def deliver(self, transfer: Transfer, sighting: Sighting) -> UnsignedTx | None:
        """Return the execution of a verified packet, or the commit of one only vouched for: anybody may send either."""
        if not sighting.deliverable or not sighting.proof or sighting.arrived:
            return None
        far, packet = self.ends[1], packet_of(sighting.proof)
        if not sighting.attested:
            data = calldata(COMMIT, packet.header, packet.payload_hash)
            return UnsignedTx(transfer.destination.chain_id, _library(far, packet), data)
        data = calldata(LZ_RECEIVE, packet.origin, far.oft, packet.guid, packet.message, b"")
        return UnsignedTx(transfer.destination.chain_id, far.endpoint, data)

    def _beyond(self, transfer: Transfer, seen: Sighting) -> Sighting:
        packet = self._packet(transfer, str(seen.tx_hash))
        return self._there(transfer, replace(seen, message_id="0x" + packet.guid.hex()), packet)

    def _packet(self, transfer: Transfer, tx_hash: str) -> OftPacket:
        """Return the packet of the departure's transaction; RpcError where it is not what left."""
        near, far = self.ends
        logs = logs_of_tx(near.rpc, tx_hash)
        guids = [topics_of(x)[1] for x in logs if is_of(x, near.oft, SENT) and _sent_by(x, transfer)]
        wanted = (word(near.oft), far.eid, word(far.oft), word(transfer.destination.vault))
        for log in logs:
            if not is_of(log, near.endpoint, PACKET_SENT):
                continue
            try:
                packet = packet_of(bytes(data_of(log, "bytes")[0]))
            except ExecutionError:
                continue
            made = (packet.sender, packet.destination, packet.receiver, packet.recipient)
            if made == wanted and "0x" + packet.guid.hex() in guids:
                return packet
        raise RpcError(f"{tx_hash[:12]}... logged no packet of {transfer.amount} raw units to our vault there")

    def _there(self, transfer: Transfer, seen: Sighting, packet: OftPacket) -> Sighting:
        """Return ``seen`` with the credit on the destination, or with what its endpoint keeps of the packet."""
        far = self.ends[1]
        topics = [RECEIVED, "0x" + packet.guid.hex()]
        logs = logs_between(far.rpc, far.oft, topics, transfer.since[1], seen.blocks[1])
        if logs:
            return self._arrived(transfer, seen, logs[0])
        views = [
            Call(far.endpoint, INBOUND, "bytes32", (far.oft, packet.source, packet.sender, packet.nonce)),
            Call(far.endpoint, LAZY, "uint64", (far.oft, packet.source, packet.sender)),
        ]
        views += [Call(far.oft, "paused()", "bool")]
        kept, lazy, halted = try_read(far.rpc, views, seen.blocks[1])
        if isinstance(kept, RpcError) or isinstance(lazy, RpcError):
            raise kept if isinstance(kept, RpcError) else RpcError(str(lazy))
        found, done = bytes(kept[0]), int(str(lazy[0]))  # type: ignore[call-overload]
        ready, over = seen.final or transfer.speed == "fast", packet.nonce <= done
        if not any(found) and not over and _vouched(far, packet, seen.blocks[1]):
            words = f"vouched for and not committed: anybody may call commitVerification of {_library(far, packet)}"
            return replace(seen, deliverable=ready, proof=packet.encoded(), reason=words)
        if found != packet.payload_hash:
            return replace(seen, reason=_unverified(found, executed=over))
        paused = not isinstance(halted, RpcError) and bool(halted[0])
        reason = "the token is paused on the destination" if paused else ""
        proof = packet.encoded()
        return replace(seen, attested=True, deliverable=ready and not paused, proof=proof, reason=reason)

    def _arrived(self, transfer: Transfer, seen: Sighting, log: dict[str, object]) -> Sighting:
        """Return ``seen`` with the credit, which counts only if it is to our vault."""
        far, to = self.ends[1], address_of(topics_of(log)[2])
        if to.lower() != transfer.destination.vault.lower():
            return replace(seen, known=False, reason=f"it was credited to {to}, which is not our vault")
        block, amount = int(str(log["blockNumber"])), data_of(log, "uint32", "uint256")[1]
        final = seen.final and block <= final_block(far.node, far.chain)
        fee = fee_of(transfer, seen.sent, amount)
        return replace(seen, attested=True, arrived=amount, fee=fee, settled_final=final, credit_block=block)

    def _room(self, transfer: Transfer) -> _Room:
        """Return what both sides' limits leave; a token without rate limits has none."""
        near, far = self.ends
        shared = int(str(read(near.rpc, [Call(near.oft, "sharedDecimals()", "uint8")])[0][0]))
        step = 10 ** max(0, transfer.origin.decimals - shared)
        [out] = try_read(near.rpc, [Call(near.oft, "getAmountCanBeSent(uint32)", "uint256,uint256", (far.eid,))])
        [into] = try_read(far.rpc, [Call(far.oft, "getAmountCanBeReceived(uint32)", "uint256,uint256", (near.eid,))])
        most = 2**255 if isinstance(out, RpcError) else int(str(out[1]))
        if not isinstance(into, RpcError):
            most = min(most, converted(int(str(into[1])), transfer.destination.decimals, transfer.origin.decimals)[0])
        return _Room(most, step)

    def _stops(self, transfer: Transfer) -> list[Verdict]:
        """Return the verdicts of both chains; of a route through another contract only that."""
        near, far = self.ends
        row = read_row(near.rpc, transfer.origin.vault, transfer.route)
        if row.kind == OFT and row.target.lower() != near.oft.lower():
            words = f"route {transfer.route} sends by {row.target}, the OFT there is {near.oft}"
            return [refused("route_mismatch", words)]
        out = []
        sides = ((transfer.origin, near, far), (transfer.destination, far, near))
        for side, end, other in sides:
            views = [Call(side.token, "decimals()", "uint8"), Call(end.oft, "token()", "address")]
            views += [Call(end.oft, "peers(uint32)", "bytes32", (other.eid,)), Call(end.oft, "endpoint()", "address")]
            (decimals,), (token,), (peer,), (endpoint,) = read(end.rpc, views)
            [halted] = try_read(end.rpc, [Call(end.oft, "paused()", "bool")])
            if not isinstance(halted, RpcError) and halted[0]:
                out.append(refused("bridge_paused", f"the token's bridge is paused on chain {side.chain_id}"))
            if decimals != side.decimals:
                words = f"{side.token} has {decimals} decimals on chain {side.chain_id}, {side.decimals} were given"
                out.append(refused("decimals", words))
            if str(token).lower() != side.token.lower():
                words = f"the OFT on chain {side.chain_id} carries {token}, not {side.token}"
                out.append(refused("representation_unknown", words))
            if bytes(peer) != word(other.oft):  # type: ignore[call-overload]
                words = f"the OFT on chain {side.chain_id} knows no {other.oft} on chain {other.chain.chain_id}"
                out.append(refused("representation_unknown", words))
            if str(endpoint).lower() != end.endpoint.lower():
                out.append(refused("route_mismatch", f"the OFT on chain {side.chain_id} sends by {endpoint}"))
        return [*out, *self._limits(transfer)]

    def _limits(self, transfer: Transfer) -> list[Verdict]:
        room = self._room(transfer)
        if transfer.amount % room.step:
            words = f"{transfer.amount} raw units leave dust of {transfer.amount % room.step}; steps are {room.step}"
            return [refused("decimals", words)]
        if transfer.amount > room.most:
            words = f"{transfer.amount} raw units, {room.most} may be sent and received just now"
            return [refused("bridge_limit", words, limit=str(room.most))]
        return []


def far_oft(rpc: Rpc, oft: str, there: Chain) -> str:
    """Return the OFT on chain ``there`` as the one here knows it; ExecutionError where it serves none."""
    if there.lz_eid is None:
        raise ExecutionError(f"{there.name} has no LayerZero endpoint id")
    peer = bytes(read(rpc, [Call(oft, "peers(uint32)", "bytes32", (there.lz_eid,))])[0][0])  # type: ignore[call-overload]
    if not any(peer):
        raise ExecutionError(f"the OFT {oft} has no peer on {there.name}")
    return address_of(peer.hex())


def endpoint_of(rpc: Rpc, oft: str) -> str:
    """Return the endpoint of an OFT; RpcError where ``oft`` is none."""
    return address_of(str(read(rpc, [Call(oft, "endpoint()", "address")])[0][0]))


def _options(gas: int) -> bytes:
    """Return execution options of type 3 with one grant of gas, as the port writes them (OptionsBuilder)."""
    return bytes.fromhex("000301001101") + gas.to_bytes(16, "big")


def _sent_by(log: object, transfer: Transfer) -> bool:
    """Return whether a log of the OFT is the send of this transfer's amount by our vault."""
    who = address_of(topics_of(log)[2])  # type: ignore[arg-type]
    amount = data_of(log, "uint32", "uint256", "uint256")[1]  # type: ignore[arg-type]
    return who.lower() == transfer.origin.vault.lower() and amount == transfer.amount


def _library(far: OftEnd, packet: OftPacket) -> str:
    """Return the library by which the OFT on the destination takes what comes from the packet's chain."""
    asked = Call(far.endpoint, "getReceiveLibrary(address,uint32)", "address", (far.oft, packet.source))
    return str(to_checksum_address(str(read(far.rpc, [asked])[0][0])))


def _vouched(far: OftEnd, packet: OftPacket, block: int) -> bool:
    """Return whether enough verifiers vouched for what left, so that it may be committed; libraries may not tell."""
    library = _library(far, packet)
    asked = Call(library, "getUlnConfig(address,uint32)", ULN_CONFIG, (far.oft, packet.source))
    [found] = try_read(far.rpc, [asked], block)
    if isinstance(found, RpcError):
        return False
    given = (found[0], keccak(packet.header), packet.payload_hash)
    [vouched] = try_read(far.rpc, [Call(library, f"verifiable({ULN_CONFIG},bytes32,bytes32)", "bool", given)], block)
    return not isinstance(vouched, RpcError) and bool(vouched[0])


def _unverified(kept: bytes, *, executed: bool) -> str:
    """Return why a packet cannot be delivered, by what the endpoint keeps of it."""
    if kept == NIL:
        return "the token's owner took it back: it must be verified anew before it can be delivered"
    if any(kept):
        return "what the verifiers vouched for is not what left; a person must ask the token's owner"
    if executed:
        return "not verified yet, or cleared without a credit by the token's owner"
    return "not verified yet: once its verifiers vouch for it anybody may commit and execute it; ask the token's owner"
