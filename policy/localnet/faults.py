"""What can go wrong between a program and its node, on demand: each fault is a row that strikes named calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class FaultKind(StrEnum):
    """What a fault does to a call."""

    TIMEOUT = "timeout"  # the call never reaches the node; the connection hangs, then closes
    LOST_REPLY = "lost_reply"  # the node acts, the answer is lost
    HTTP_429 = "http_429"  # too many requests
    HTTP_502 = "http_502"  # a gateway without its node
    TRUNCATED = "truncated"  # half the answer
    PAGE = "page"  # a web page in place of the answer, as a proxy shows one
    WRONG_CHAIN = "wrong_chain"  # another chain id
    LAGGING = "lagging"  # a node some blocks behind: old heads, old nonces, no fresh receipts
    LYING = "lying"  # the answer goes through a function first
    ERROR = "error"  # a JSON-RPC error


@dataclass(slots=True)
class Fault:
    """One fault. ``methods`` empty means every call; it strikes ``times`` calls (None: until removed) after ``skip``.

    ``blocks`` is how far a lagging node is behind; ``hold_s`` how long a time-out hangs; ``change(method, params,
    result)`` what a lying node says instead; ``code`` and ``message`` the JSON-RPC error.
    """

    kind: FaultKind
    methods: Sequence[str] = ()
    times: int | None = 1
    skip: int = 0
    blocks: int = 2
    hold_s: float = 0.2
    chain_id: int = 1_337_999
    code: int = -32_603
    message: str = "internal error"
    change: Callable[[str, Sequence[object], object], object] | None = None
    struck: int = 0

    def hits(self, method: str) -> bool:
        """Return whether this call is struck, counting it."""
        if self.methods and method not in self.methods:
            return False
        if self.kind is FaultKind.WRONG_CHAIN and method not in {"eth_chainId", "net_version"}:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None and self.struck >= self.times:
            return False
        self.struck += 1
        return True


@dataclass(slots=True)
class Faults:
    """The faults in force, safe to change while calls run."""

    rows: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> Fault:
        """Put ``fault`` in force and return it (its ``struck`` counts)."""
        with self._lock:
            self.rows.append(fault)
        return fault

    def clear(self) -> None:
        """End all faults."""
        with self._lock:
            self.rows.clear()

    def strike(self, method: str) -> Fault | None:
        """Return the first fault that strikes a call of ``method``."""
        with self._lock:
            return next((f for f in self.rows if f.hits(method)), None)
