"""Reading contracts: named view calls, sent together, answered at one block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

from lake.errors import RpcError
from lake.rpc import Rpc


@dataclass(frozen=True, slots=True)
class View:
    """One view call: ``View(pool, "slot0()", "uint160,int24")`` with ``args`` where the signature has parameters.

    ``returns`` may name only the leading return values; the rest is ignored.
    """

    to: str
    signature: str
    returns: str
    args: tuple[object, ...] = ()

    @property
    def data(self) -> str:
        """Call data as a hex string."""
        return "0x" + calldata(self.signature, *self.args).hex()


@lru_cache(maxsize=512)
def selector(signature: str) -> bytes:
    """Return the four bytes that select ``name(type,type)``."""
    return keccak(text=signature)[:4]


def calldata(signature: str, *args: object) -> bytes:
    """Encode a call of ``name(type,(type,type)[])`` with ``args``."""
    return selector(signature) + encode(split_types(signature[signature.index("(") + 1 : -1]), args)


@lru_cache(maxsize=512)
def split_types(text: str) -> list[str]:
    """Split ``uint256,(address,uint24)[],bytes`` at its top-level commas."""
    parts, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]] if text else []


def at_block(block: int | str) -> object:
    """Return the JSON-RPC block parameter of a number, a tag or a 32-byte hash (EIP-1898, canonical only)."""
    if isinstance(block, int):
        return hex(block)
    return {"blockHash": block, "requireCanonical": True} if len(block) == 66 else block


def read(rpc: Rpc, views: Sequence[View], block: int | str = "latest") -> list[tuple[object, ...]]:
    """Return the decoded values of ``views``, all at ``block`` (pass a block hash to be sure it is one state).

    Raises RpcError naming the contract and function when a call reverts or its answer does not decode.
    """
    results = try_read(rpc, views, block)
    for result in results:
        if isinstance(result, RpcError):
            raise result
    return [r for r in results if not isinstance(r, RpcError)]


def try_read(rpc: Rpc, views: Sequence[View], block: int | str = "latest") -> list[tuple[object, ...] | RpcError]:
    """Like :func:`read`, with the RpcError of a failed call in its place."""
    where = at_block(block)
    calls = [("eth_call", [{"to": v.to, "data": v.data}, where]) for v in views]
    return [_decode(v, raw) for v, raw in zip(views, rpc.batch(calls, errors=True), strict=True)]


def _decode(view: View, raw: object) -> tuple[object, ...] | RpcError:
    name = f"{view.signature} of {view.to}"
    if isinstance(raw, RpcError):
        return RpcError(f"{name}: {raw}", raw.code, raw.data)
    if not isinstance(raw, str) or not raw.startswith("0x") or raw == "0x":
        return RpcError(f"{name} answered nothing; is there such a contract at this block?")
    try:
        return tuple(decode(split_types(view.returns), bytes.fromhex(raw[2:]), strict=False))
    except (DecodingError, ValueError) as error:
        return RpcError(f"{name} answered {raw[:74]}, which is not ({view.returns}): {error}")
