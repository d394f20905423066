"""A LayerZero packet of an OFT as published: a header of 81 bytes, its guid, and the OFT's message of 40.

Header (PacketV1Codec): version 1 | nonce 8 | source 4 | sender 32 | destination 4 | receiver 32 bytes. Message
(OFTMsgCodec): recipient 32 | amount in shared decimals 8; a longer one composes a call, which ours never does.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_utils.crypto import keccak

from lake.errors import ExecutionError

HEADER, GUID, MESSAGE = 81, 32, 40
VERSION = 1


@dataclass(frozen=True, slots=True)
class OftPacket:
    """One packet on its way. ``sender`` and ``receiver``: the two OFTs, as words; ``shared``: shared units."""

    nonce: int
    source: int
    sender: bytes
    destination: int
    receiver: bytes
    guid: bytes
    recipient: bytes
    shared: int

    @property
    def header(self) -> bytes:
        """The 81 bytes that verifiers vouch for with the payload's hash."""
        return b"".join(
            (
                *(VERSION.to_bytes(1, "big"), self.nonce.to_bytes(8, "big"), self.source.to_bytes(4, "big")),
                *(self.sender, self.destination.to_bytes(4, "big"), self.receiver),
            )
        )

    @property
    def message(self) -> bytes:
        """The OFT's message."""
        return self.recipient + self.shared.to_bytes(8, "big")

    @property
    def payload_hash(self) -> bytes:
        """What the destination's endpoint keeps once the packet is verified."""
        return bytes(keccak(self.guid + self.message))

    @property
    def origin(self) -> tuple[int, bytes, int]:
        """Source, sender and nonce, as the endpoint's calls take them."""
        return self.source, self.sender, self.nonce

    def encoded(self) -> bytes:
        """Return the 153 bytes."""
        return self.header + self.guid + self.message


def packet_of(raw: bytes) -> OftPacket:
    """Return a packet from its bytes; ExecutionError where they are none of a plain OFT send."""
    if len(raw) != HEADER + GUID + MESSAGE or raw[0] != VERSION:
        wanted = HEADER + GUID + MESSAGE
        raise ExecutionError(f"{len(raw)} bytes are no packet of a plain OFT send, which has {wanted} and version 1")
    guid, message = raw[HEADER : HEADER + GUID], raw[HEADER + GUID :]
    return OftPacket(
        nonce=int.from_bytes(raw[1:9], "big"),
        source=int.from_bytes(raw[9:13], "big"),
        sender=raw[13:45],
        destination=int.from_bytes(raw[45:49], "big"),
        receiver=raw[49:81],
        guid=guid,
        recipient=message[:32],
        shared=int.from_bytes(message[32:], "big"),
    )
