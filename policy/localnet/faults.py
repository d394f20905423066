"""What can go wrong between a program and its node, on demand: each fault is a row that strikes named calls."""

from __future__ import annotations

import random
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
    SKEW = "skew"  # block times differ from the clock's
    DROP = "drop"  # the websocket ends without a word, and with it this announcement
    STALL = "stall"  # it stays open and announces nothing for some blocks
    DUP = "dup"  # an announcement comes twice
    SWAP = "swap"  # an announcement comes after the next one
    LATE = "late"  # an announcement comes some blocks late
    HANG_CONNECT = "hang_connect"  # a connection is taken and never answered


CONNECT = "connect"
"""What a new websocket connection is called among the methods a fault strikes; an announcement is ``newHeads``."""

SOCKET = frozenset({FaultKind.DROP, FaultKind.STALL, FaultKind.DUP, FaultKind.SWAP, FaultKind.LATE})
BOTH_FACES = frozenset({FaultKind.LAGGING, FaultKind.SKEW})


@dataclass(slots=True)
class Fault:
    """One fault. ``methods`` empty means every call; it strikes ``times`` calls (None: until removed) after ``skip``.

    ``blocks`` is how far a lagging node is behind, a late announcement late and a stall long; ``hold_s`` how long a
    time-out or a connect hangs; ``skew_s`` what is added to block times; ``change(method, params, result)`` what a
    lying node says instead; ``code`` and ``message`` the JSON-RPC error; ``odds`` the probability of a strike.
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
    skew_s: int = 0
    odds: float = 1.0
    struck: int = 0

    def hits(self, method: str, rng: random.Random, *, socket: bool = False) -> bool:
        """Return whether this call, connection or announcement is struck, counting it."""
        if not self._concerns(method, socket=socket) or (self.odds < 1.0 and rng.random() >= self.odds):
            return False
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

    def _concerns(self, method: str, *, socket: bool) -> bool:
        if method == CONNECT or self.kind is FaultKind.HANG_CONNECT:
            return method == CONNECT and self.kind is FaultKind.HANG_CONNECT
        return self.kind in BOTH_FACES or (self.kind in SOCKET) == socket


@dataclass(slots=True)
class Faults:
    """The faults in force, safe to change while calls run; those with odds are drawn from ``rng``."""

    rows: list[Fault] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(0))
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

    def strike(self, method: str, *, socket: bool = False) -> Fault | None:
        """Return the first fault that strikes a call of ``method``, or on the ``socket`` what is called so there."""
        with self._lock:
            return next((f for f in self.rows if f.hits(method, self.rng, socket=socket)), None)
