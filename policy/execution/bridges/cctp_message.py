"""CCTP v2 messages as published: a header of 148 bytes, then a burn of 228 and the hook's data.

Header: version 4 | source domain 4 | destination domain 4 | nonce 32 | sender 32 | recipient 32 | caller 32 | least
finality 4 | finality 4. Burn: version 4 | burnt token 32 | recipient 32 | amount 32 | sender 32 | most fee 32 | fee 32
| block of expiry 32. On the source chain nonce, finality, fee and expiry are empty: the attestation service fills them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from eth_utils.address import to_checksum_address

from lake.errors import ExecutionError

HEADER, BURN = 148, 228
VERSION = 1


@dataclass(frozen=True, slots=True)
class BurnMessage:
    """A burn without hook. ``burnt``, ``recipient``, ``depositor``, messengers are addresses; amounts raw units."""

    source: int
    destination: int
    messenger: str
    messenger_there: str
    least_finality: int
    burnt: str
    recipient: str
    amount: int
    depositor: str
    max_fee: int
    nonce: bytes = bytes(32)
    caller: bytes = bytes(32)
    finality: int = 0
    fee: int = 0
    expires: int = 0

    def encoded(self) -> bytes:
        """Return the 376 bytes."""
        return b"".join(
            (
                *(_number(VERSION, 4), _number(self.source, 4), _number(self.destination, 4), self.nonce),
                *(_padded(self.messenger), _padded(self.messenger_there), self.caller),
                *(_number(self.least_finality, 4), _number(self.finality, 4)),
                *(_number(VERSION, 4), _padded(self.burnt), _padded(self.recipient), _number(self.amount)),
                *(_padded(self.depositor), _number(self.max_fee), _number(self.fee), _number(self.expires)),
            )
        )

    def asked(self) -> BurnMessage:
        """Return what the source chain said of it: without what the attestation service fills in."""
        return replace(self, nonce=bytes(32), finality=0, fee=0, expires=0)


def decoded(raw: bytes) -> BurnMessage:
    """Return a burn from its bytes; ExecutionError where they are no version-1 burn without hook."""
    if len(raw) != HEADER + BURN or raw[:4] != _number(VERSION, 4) or raw[HEADER : HEADER + 4] != _number(VERSION, 4):
        raise ExecutionError(
            f"{len(raw)} bytes are no burn message of CCTP v2, which has {HEADER + BURN} and version 1"
        )
    body = raw[HEADER:]
    return BurnMessage(
        source=int.from_bytes(raw[4:8], "big"),
        destination=int.from_bytes(raw[8:12], "big"),
        nonce=raw[12:44],
        messenger=_address(raw[44:76]),
        messenger_there=_address(raw[76:108]),
        caller=raw[108:140],
        least_finality=int.from_bytes(raw[140:144], "big"),
        finality=int.from_bytes(raw[144:148], "big"),
        burnt=_address(body[4:36]),
        recipient=_address(body[36:68]),
        amount=int.from_bytes(body[68:100], "big"),
        depositor=_address(body[100:132]),
        max_fee=int.from_bytes(body[132:164], "big"),
        fee=int.from_bytes(body[164:196], "big"),
        expires=int.from_bytes(body[196:228], "big"),
    )


def _number(value: int, size: int = 32) -> bytes:
    return value.to_bytes(size, "big")


def _padded(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


def _address(word: bytes) -> str:
    if any(word[:12]):
        raise ExecutionError(f"0x{word.hex()} is no address of this kind of chain")
    return str(to_checksum_address("0x" + word[12:].hex()))
