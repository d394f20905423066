"""EIP-2470's singleton factory: contracts whose address follows from their code, the same on every chain."""

from __future__ import annotations

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

FACTORY = "0xce0042B868300000d44A59004Da54A005ffdcf9f"
"""The factory, at this address on every chain that has it; anyone may create it by that EIP's presigned transaction."""
DEPLOY = "deploy(bytes,bytes32)"
SALT = bytes(32)


def made_at(code: bytes, salt: bytes = SALT) -> str:
    """Return where the factory puts a contract of this creation code (CREATE2, EIP-1014)."""
    body = b"\xff" + bytes.fromhex(FACTORY[2:]) + salt + keccak(code)
    return str(to_checksum_address(keccak(body)[12:]))
