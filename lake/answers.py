"""Reading a node's JSON: every field is checked, and what does not fit is an RpcError that says which and why.

A field may be missing, null, cut short, of another type or absurd; nodes, gateways and caches have sent all of these.
None of them may become a zero, and none may end a program: the error is the same as that of a node that is down.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite

from eth_abi.exceptions import DecodingError, EncodingError

from lake.errors import RpcError

WORD = 2**256 - 1
"""Most a quantity may be: one EVM word."""
HASH_LENGTH = 66  # of 32 bytes as 0x hex
ADDRESS_LENGTH = 42
MAX_TOPICS = 4

_HEX = re.compile(r"0x[0-9a-fA-F]*\Z")
_SHOWN = 40


def quantity(value: object, most: int = WORD) -> int:
    """Decode a JSON-RPC quantity (``0x1f``), at most ``most``; raises RpcError on anything else."""
    if isinstance(value, str) and 3 <= len(value) <= HASH_LENGTH and _HEX.match(value):
        found = int(value, 16)
        if found <= most:
            return found
    raise RpcError(f"a node sent {_shown(value)} where a hex quantity is due" + ("" if most == WORD else f" <= {most}"))


def data(value: object) -> bytes:
    """Decode JSON-RPC data (``0x`` and whole bytes); raises RpcError on anything else."""
    if isinstance(value, str) and len(value) % 2 == 0 and _HEX.match(value):
        return bytes.fromhex(value[2:])
    raise RpcError(f"a node sent {_shown(value)} where hex data are due")


@dataclass(frozen=True, slots=True)
class Fields:
    """One object of an answer, read field by field. ``what`` names it in errors, as a rule by its method."""

    what: str
    raw: Mapping[str, object]

    def has(self, name: str) -> bool:
        """Return whether the field is there and not null."""
        return self.raw.get(name) is not None

    def quantity(self, name: str, most: int = WORD) -> int:
        """Return a number 0 .. ``most``."""
        with self._named(name):
            return quantity(self.raw.get(name), most)

    def data(self, name: str) -> bytes:
        """Return bytes of any length."""
        with self._named(name):
            return data(self.raw.get(name))

    def hash(self, name: str) -> str:
        """Return 32 bytes as 0x hex in lower case."""
        return self._sized(name, HASH_LENGTH)

    def address(self, name: str) -> str:
        """Return 20 bytes as 0x hex in lower case."""
        return self._sized(name, ADDRESS_LENGTH)

    def rows(self, name: str, least: int = 0) -> Sequence[object]:
        """Return a list of at least ``least`` entries."""
        return rows(self.raw.get(name), f"{self.what}: {name}", least)

    def _sized(self, name: str, length: int) -> str:
        value = self.raw.get(name)
        if isinstance(value, str) and len(value) == length and _HEX.match(value):
            return value.lower()
        raise RpcError(f"{self.what}: {name} is {_shown(value)}, due are {length // 2 - 1} bytes as hex")

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        try:
            yield
        except RpcError as error:
            raise RpcError(f"{self.what}: {name}: {error}") from None


def fields(value: object, what: str) -> Fields:
    """Return the object ``value`` as fields; RpcError when it is none."""
    if isinstance(value, Mapping):
        return Fields(what, value)
    raise RpcError(f"{what}: a node sent {_shown(value)} where an object is due")


def rows(value: object, what: str, least: int = 0) -> Sequence[object]:
    """Return the list ``value``; RpcError when it is none or has fewer than ``least`` entries."""
    if not isinstance(value, list):
        raise RpcError(f"{what}: a node sent {_shown(value)} where a list is due")
    if len(value) < least:
        raise RpcError(f"{what}: a node sent {len(value)} rows where {least} are due")
    return value


def share(value: object, what: str) -> float:
    """Return a number >= 0 given as JSON number; RpcError when it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value >= 0:
        return float(value)
    raise RpcError(f"{what}: a node sent {_shown(value)} where a number >= 0 is due")


def log_of(value: object, what: str) -> dict[str, object]:
    """Return one event log with ``address``, ``topics`` (at most four, perhaps none) and ``data`` checked."""
    row = fields(value, what)
    topics = row.rows("topics")
    if len(topics) > MAX_TOPICS:
        raise RpcError(f"{what}: a log with {len(topics)} topics, an event has {MAX_TOPICS} at most")
    texts = [Fields(what, {"topic": t}).hash("topic") for t in topics]
    return {**row.raw, "address": row.address("address"), "topics": texts, "data": "0x" + row.data("data").hex()}


@contextmanager
def sensible(what: str) -> Iterator[None]:
    """Turn arithmetic that breaks on a node's absurd figures into an RpcError that names ``what`` was read."""
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError, DecodingError, EncodingError) as error:
        text = f"{what}: a node's figures make no sense ({type(error).__name__}: {str(error)[:120]})"
        raise RpcError(text) from error


def _shown(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
