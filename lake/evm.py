"""Reading a chain: block heads, and contracts by named view calls, sent together and answered at one block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

from lake.answers import HASH_LENGTH, Fields, fields, log_of, rows
from lake.errors import RpcError
from lake.rpc import Rpc

LAST_TIME_S = 253_402_300_799
"""The end of the year 9999: later times have no calendar date, and no block has them."""
LONGEST_SYMBOL = 32
"""Characters of a symbol that is shown; a longer one is no name."""
_NUMBER, _WEI = 2**63 - 1, 2**96 - 1


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """A block's header, as far as anything here needs it; fees in wei per gas, ``time`` in Unix seconds."""

    number: int
    hash: str
    time: int
    base_fee_wei: int
    gas_used: int
    gas_limit: int
    parent: str = ""


class FeeMarket(Protocol):
    """A chain's constants of EIP-1559; ``min_base_fee_wei`` is a sequencer's floor."""

    @property
    def elasticity(self) -> int:
        """Gas limit over gas target."""
        ...

    @property
    def denominator(self) -> int:
        """Reciprocal of the most a fee moves in one block."""
        ...

    @property
    def min_base_fee_wei(self) -> int:
        """Least base fee."""
        ...


def next_base_fee(base_fee_wei: int, gas_used: int, gas_limit: int, market: FeeMarket) -> int:
    """Return the base fee of the block after one with these figures, in wei, exactly.

    EIP-1559, "base_fee_per_gas" rule, integer division throughout. Fees rise by at least 1 wei when a block is above
    target.
    """
    target = gas_limit // market.elasticity
    fee = base_fee_wei
    if gas_used > target:
        fee += max(base_fee_wei * (gas_used - target) // target // market.denominator, 1)
    elif gas_used < target:
        fee -= base_fee_wei * (target - gas_used) // target // market.denominator
    return max(fee, market.min_base_fee_wei)


def head_of(rpc: Rpc, block: int | str = "latest", *, fees: bool = True) -> BlockHeader:
    """Return the block of a number, tag or hash; RpcError when the node has none, or answers with another one.

    ``fees=False`` is for those who want number and time only: a block from before EIP-1559 then has base fee 0.
    """
    name = hex(block) if isinstance(block, int) else block
    raw = rpc.call("eth_getBlockByHash" if _is_hash(block) else "eth_getBlockByNumber", [name, False])
    if raw is None:
        raise RpcError(f"the node has no block {block}")
    return read_head(raw, block, fees=fees)


def read_head(raw: object, block: int | str = "latest", *, fees: bool = True) -> BlockHeader:
    """Return a header as a node sent it for ``block``; RpcError naming the first field that does not fit."""
    what = f"block {block}"
    row = fields(raw, what)
    limit = row.quantity("gasLimit", _NUMBER)
    used = row.quantity("gasUsed", _NUMBER)
    fee = row.quantity("baseFeePerGas", _WEI) if fees or row.has("baseFeePerGas") else 0
    number, found = row.quantity("number", _NUMBER), row.hash("hash")
    if fees and (limit < 2 or used > limit):
        raise RpcError(f"{what}: {used} of {limit} gas used, which no block can")
    asked = block if isinstance(block, int) else block.lower()
    if asked not in {number, found} and (isinstance(block, int) or _is_hash(block)):
        raise RpcError(f"{what}: the node answered with block {number} ({found[:10]}...)")
    return BlockHeader(number, found, row.quantity("timestamp", LAST_TIME_S), fee, used, limit, row.hash("parentHash"))


def _is_hash(block: int | str) -> bool:
    return isinstance(block, str) and len(block) == HASH_LENGTH


def read_logs(rpc: Rpc, ask: Mapping[str, object]) -> list[dict[str, object]]:
    """Return the logs a filter finds, each checked, with its ``blockNumber`` as an int and ``transactionHash``."""
    what = "eth_getLogs"
    found = []
    for raw in rows(rpc.call(what, [ask]), what):
        row = Fields(what, log_of(raw, what))
        place = {"blockNumber": row.quantity("blockNumber", _NUMBER), "transactionHash": row.hash("transactionHash")}
        found.append({**row.raw, **place})
    return found


@dataclass(frozen=True, slots=True)
class Call:
    """One view call: ``Call(pool, "slot0()", "uint160,int24")`` with ``args`` where the signature has parameters.

    ``returns`` may name only the leading return values; the rest is ignored. ``sender`` is whom the contract is to see.
    """

    to: str
    signature: str
    returns: str
    args: tuple[object, ...] = ()
    sender: str | None = None

    @property
    def data(self) -> str:
        """Call data as a hex string."""
        return "0x" + calldata(self.signature, *self.args).hex()

    @property
    def ask(self) -> dict[str, str]:
        """The call as ``eth_call`` takes it."""
        return {"to": self.to, "data": self.data} | ({} if self.sender is None else {"from": self.sender})


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
    return {"blockHash": block, "requireCanonical": True} if _is_hash(block) else block


def read(rpc: Rpc, views: Sequence[Call], block: int | str = "latest") -> list[tuple[object, ...]]:
    """Return the decoded values of ``views``, all at ``block`` (pass a block hash to be sure it is one state).

    Raises RpcError naming the contract and function when a call reverts or its answer does not decode.
    """
    results = try_read(rpc, views, block)
    for result in results:
        if isinstance(result, RpcError):
            raise result
    return [r for r in results if not isinstance(r, RpcError)]


def try_read(rpc: Rpc, views: Sequence[Call], block: int | str = "latest") -> list[tuple[object, ...] | RpcError]:
    """Like :func:`read`, with the RpcError of a failed call in its place."""
    where = at_block(block)
    calls = [("eth_call", [v.ask, where]) for v in views]
    return [_decode(v, raw) for v, raw in zip(views, rpc.batch(calls, errors=True), strict=True)]


def _decode(view: Call, raw: object) -> tuple[object, ...] | RpcError:
    name = f"{view.signature} of {view.to}"
    if isinstance(raw, RpcError):
        return RpcError(f"{name}: {raw}", raw.code, raw.data)
    if not isinstance(raw, str) or not raw.startswith("0x") or raw == "0x":
        return RpcError(f"{name} answered nothing; is there such a contract at this block?")
    try:
        return tuple(decode(split_types(view.returns), bytes.fromhex(raw[2:]), strict=False))
    except (DecodingError, ValueError, ArithmeticError, LookupError, TypeError) as error:  # an absurd offset or length
        return RpcError(f"{name} answered {raw[:74]}, which is not ({view.returns}): {error}")


def symbols(rpc: Rpc, tokens: Sequence[str], block: int | str = "latest") -> list[str]:
    """Return what to call each token in messages: its symbol, as a string or 32 bytes (MKR), else its address.

    A symbol is the token's own word and decides nothing.
    """
    rows = try_read(rpc, [Call(t, "symbol()", "string") for t in tokens], block)
    old = [t for t, r in zip(tokens, rows, strict=True) if isinstance(r, RpcError)]
    short = (
        dict(zip(old, try_read(rpc, [Call(t, "symbol()", "bytes32") for t in old], block), strict=True)) if old else {}
    )
    return [_word(r if not isinstance(r, RpcError) else short[t]) or t for t, r in zip(tokens, rows, strict=True)]


def _word(row: tuple[object, ...] | RpcError) -> str:
    """Return a symbol that can be printed in a line, empty when there is none."""
    if isinstance(row, RpcError):
        return ""
    raw = row[0].rstrip(b"\0").decode("utf-8", "replace") if isinstance(row[0], bytes) else str(row[0])
    word = raw.strip()
    return word if word.isprintable() and "\ufffd" not in word and len(word) <= LONGEST_SYMBOL else ""
