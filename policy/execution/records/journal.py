"""Write-ahead journal of plans: what was intended and signed is on disk before anything is sent.

One file a vault, one plan in flight; plans of another vault or chain in it are refused. A plan moves planned -> signed
-> sent -> mined -> landed, or ends void or reverted; further signed/sent attempts (fee bumps, a cancelling no-op) are
the same plan's and share its account nonce. One that arms an order is offered once that is mined, and ends filled,
expired or disarmed, as the chain says when a transaction of its own has ended the order. The signed bytes are kept, so
that the SAME bytes can be broadcast again; no key is ever in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lake.errors import ExecutionError
from policy.execution.base import OtherVault, Plan
from policy.execution.records.codec import bytes_of, hex_of, plain, plan_json, plan_of
from policy.execution.records.hashlog import LOST, HashLog, exclusive

ENDINGS = frozenset({"filled", "expired", "disarmed"})
"""How an offer ends."""
EXECUTED = frozenset({"landed", "filled"})
"""The fates in which something was traded."""
FINAL = frozenset({"landed", "void", "reverted", LOST}) | ENDINGS
CLOSING = FINAL - {LOST}
NOTHING_TRADED = frozenset({"void", "reverted"})
"""The fates of a plan that used up no plan nonce."""
NOTE = "note"

_NEXT = {
    "planned": {"signed", "mined", "void", "offered"},
    "signed": {"sent", "signed", "mined", "void", "offered"},
    "sent": {"sent", "signed", "mined", "void", "offered"},
    "mined": {"mined", "sent", "signed", "landed", "reverted", "void", "reopened", "offered"} | ENDINGS,
    "offered": {"signed", "sent", "offered", "void"} | ENDINGS,
    **{ending: {"reopened"} for ending in ENDINGS},
    "landed": {"reopened"},
    "void": {"reopened"},
    "reverted": {"reopened"},
    "reopened": {"sent", "signed", "mined", "void", "offered"},
    LOST: set(),
}


class VaultBusy(ExecutionError):
    """Another run holds this vault's journal; wait for it to end."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One signed transaction of a plan. ``kind`` is ``plan``, ``cancel`` or ``disarm``; fees in wei per gas.

    ``sender`` is empty in journals of before it was kept.
    """

    kind: str
    tx_hash: str
    raw: bytes = field(repr=False)
    account_nonce: int
    gas_limit: int
    max_fee_wei: int
    tip_wei: int
    channel: str
    block: int  # head when it was signed
    sent: bool = False
    sender: str = ""
    reply: str = ""  # what the channel said last
    taken: bool | None = None  # whether it holds the bytes by that; None: nobody knows


@dataclass(frozen=True, slots=True)
class Flight:
    """A plan and everything that was done about it.

    ``armed``: attempts that there were when its order was seen armed; None before, and where it has none.
    """

    plan: Plan
    state: str
    attempts: tuple[Attempt, ...] = ()
    mined: tuple[str, int, str, int] | None = None  # tx hash, block number, block hash, status
    note: str = ""
    context: dict[str, Any] = field(default_factory=dict)
    armed: int | None = None

    @property
    def current(self) -> tuple[Attempt, ...]:
        """The attempts that are about what is next: to land or arm the plan, and then to end its order."""
        return self.attempts[self.armed or 0 :]

    @property
    def open(self) -> bool:
        """Whether the plan's status is not yet final."""
        return self.state not in FINAL

    def hashes(self, kind: str = "plan") -> tuple[str, ...]:
        """Return the hashes of the attempts of one kind, oldest first."""
        return tuple(a.tx_hash for a in self.attempts if a.kind == kind)


class Journal:
    """The journal of one vault in ``path`` (a file; its folder is made)."""

    def __init__(self, path: Path) -> None:
        self._log = HashLog(path)
        self.path = self._log.path
        self._lease = self.path.with_name(self.path.name + ".lease")
        self._flights: list[Flight] = []
        self._seen = 0
        self._gap = False  # a record is lost; whose it was is known again with the next plan
        self._held = False

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Hold the vault for one run; VaultBusy if another process (or run) has it. Ends with the process.

        The file itself is held besides its name, so a link to it is the same journal.
        """
        with ExitStack() as held:
            try:
                held.enter_context(exclusive(self._lease, wait=False))
                held.enter_context(exclusive(self.path, wait=False))
            except BlockingIOError:
                raise VaultBusy(f"another run holds {self.path.name}; it must end before this one starts") from None
            self._held = True
            self._flights, self._seen, self._gap = [], 0, False
            try:
                self._replay()
                yield
            finally:
                self._held = False

    def require(self, chain_id: int, vault: str) -> None:
        """Raise OtherVault, saying what to do, where a plan of another chain or vault is in it."""
        others = [f for f in self.flights() if (f.plan.chain_id, f.plan.vault.lower()) != (chain_id, vault.lower())]
        if not others:
            return
        last = others[-1]
        words = (
            f"{self.path} holds plans of vault {last.plan.vault} on chain {last.plan.chain_id}, configured is {vault} "
            f"on chain {chain_id}"
        )
        if last.open:
            words += (
                "; its newest plan is not finished: configure that vault again and run `foredrift rebalance --live`"
            )
            words += ", then"
        else:
            words += ";"
        raise OtherVault(f"{words} {self.aside(f'{last.plan.chain_id}-{last.plan.vault.lower()}')}")

    def aside(self, name: str) -> str:
        """Return the words that tell how to go on without this file."""
        return f"set [vault] journal to a file of its own, or move this one aside: mv {self.path} {self.path}.{name}"

    def flights(self) -> tuple[Flight, ...]:
        """Return every plan ever journaled, oldest first."""
        self._replay()
        return tuple(self._flights)

    def last(self) -> Flight | None:
        """Return the newest plan, open or not."""
        self._replay()
        return self._flights[-1] if self._flights else None

    def in_flight(self) -> Flight | None:
        """Return the plan whose status is not final, if there is one."""
        last = self.last()
        return last if last is not None and last.open else None

    def of_decision(self, decision_id: str) -> tuple[Flight, ...]:
        """Return the plans made for one decision."""
        self._replay()
        return tuple(f for f in self._flights if f.plan.decision_id == decision_id)

    def plan(self, plan: Plan, **context: Any) -> Flight:
        """Record the intention to execute ``plan``; refused while another is in flight."""
        if self.in_flight() is not None:
            raise ExecutionError("a plan is in flight already; recover it before planning another")
        return self._write({"event": "planned", "plan": plan_json(plan), "context": plain(context)})

    def signed(self, attempt: Attempt) -> Flight:
        """Record a signed transaction BEFORE it is sent."""
        return self._write(
            {
                "event": "signed",
                "kind": attempt.kind,
                "tx_hash": attempt.tx_hash,
                "raw": hex_of(attempt.raw),
                "account_nonce": attempt.account_nonce,
                "gas_limit": attempt.gas_limit,
                "max_fee_wei": str(attempt.max_fee_wei),
                "tip_wei": str(attempt.tip_wei),
                "channel": attempt.channel,
                "block": attempt.block,
                "sender": attempt.sender,
            }
        )

    def sent(self, tx_hash: str, reply: str, taken: bool | None = None) -> Flight:
        """Record that ``tx_hash`` was handed over and what came back (also an error: its status is then unknown)."""
        return self._write({"event": "sent", "tx_hash": tx_hash, "reply": reply, "taken": taken})

    def mined(self, tx_hash: str, block_number: int, block_hash: str, status: int) -> Flight:
        """Record the block a transaction was seen in; not final until enough blocks follow."""
        return self._write(
            {"event": "mined", "tx_hash": tx_hash, "block": block_number, "block_hash": block_hash, "status": status}
        )

    def note(self, about: str, **body: Any) -> None:
        """Record what concerns no plan (an order that was armed or let go); no plan's state changes by it."""
        if not self._held:
            raise ExecutionError("take the journal's lease before writing to it")
        self._replay()
        self._log.append({"event": NOTE, "about": about, **plain(body)}, expect=self._seen, held=True)
        self._seen += 1

    def close(self, state: str, note: str) -> Flight:
        """Record the plan's final status: landed, reverted or void."""
        if state not in CLOSING:
            raise ExecutionError(f"{state!r} is no final state; final are {', '.join(sorted(CLOSING))}")
        return self._write({"event": state, "note": note})

    def offered(self, note: str) -> Flight:
        """Record that the plan's order is armed, or armed still: nothing else may be planned until it has ended."""
        return self._write({"event": "offered", "note": note})

    def reopen(self, note: str) -> Flight:
        """Record that a final status turned out otherwise (a deep reorg, a node that lied)."""
        return self._write({"event": "reopened", "note": note})

    def correct(self, plan: Plan, state: str, mined: tuple[str, int, str, int] | None, note: str) -> None:
        """Record that an earlier plan, closed long ago, ended otherwise: ``mined`` is where, None for nowhere."""
        self._write(
            {"event": "corrected", "plan_hash": hex_of(plan.plan_hash), "state": state, "mined": mined, "note": note}
        )

    def _write(self, body: dict[str, Any]) -> Flight:
        if not self._held:
            raise ExecutionError("take the journal's lease before writing to it")
        self._replay()
        folded = self._folded(body)  # an illegal transition is refused before it reaches the disk
        self._log.append(body, expect=self._seen, held=True)
        self._seen += 1
        self._adopt(body, folded)
        return folded

    def _replay(self) -> None:
        if self._held and self._seen:
            return  # the lease keeps other writers out
        lines = self._log.lines()
        for line in lines[self._seen :]:
            self._take(line.body)
        self._seen = len(lines)

    def _take(self, body: Any) -> None:
        """Fold one record of the file in; after a lost one nothing is believed until the next plan begins."""
        if body["event"] == NOTE:
            return
        if body["event"] == LOST:
            self._gap = True
            if self._flights and self._flights[-1].open:
                self._flights[-1] = replace(self._flights[-1], state=LOST, note=str(body["reason"]))
        elif body["event"] == "planned" or not self._gap:
            self._gap = False
            self._adopt(body, self._folded(body))

    def _adopt(self, body: Any, flight: Flight) -> None:
        if body["event"] == "planned":
            self._flights.append(flight)
        elif body["event"] == "corrected":
            self._flights[self._place(body)] = flight
        else:
            self._flights[-1] = flight

    def _place(self, body: Any) -> int:
        """Return which flight a correction names; the newest of that hash."""
        hashes = [hex_of(f.plan.plan_hash) for f in self._flights]
        if body["plan_hash"] not in hashes:
            raise ExecutionError(f"no plan {body['plan_hash']} is in the journal")
        return len(hashes) - 1 - hashes[::-1].index(body["plan_hash"])

    def _folded(self, body: Any) -> Flight:
        """Return the flight that ``body`` is about after it; ExecutionError on an event out of order."""
        event = body["event"]
        if event == "planned":
            return Flight(plan_of(body["plan"]), "planned", context=dict(body.get("context", {})))
        if not self._flights:
            raise ExecutionError(f"journal event {event!r} without a plan")
        if event == "corrected":
            flight = self._flights[self._place(body)]
            if flight.open or body["state"] not in CLOSING:
                raise ExecutionError(f"journal event 'corrected' to {body['state']!r} cannot follow {flight.state!r}")
            return replace(
                flight, state=body["state"], mined=tuple(body["mined"]) if body["mined"] else None, note=body["note"]
            )
        flight = self._flights[-1]
        if event not in _NEXT[flight.state]:
            raise ExecutionError(f"journal event {event!r} cannot follow {flight.state!r}")
        if event == "signed":
            return replace(flight, state="signed", attempts=(*flight.attempts, _attempt(body)))
        if event == "sent":
            said = {"sent": True, "reply": str(body.get("reply", "")), "taken": body.get("taken")}
            marked = tuple(replace(a, **said) if a.tx_hash == body["tx_hash"] else a for a in flight.attempts)
            return replace(flight, state="sent", attempts=marked)
        if event == "mined":
            seen = (body["tx_hash"], body["block"], body["block_hash"], body["status"])
            return replace(flight, state="mined", mined=seen)
        if event == "reopened":
            return replace(flight, state=event, mined=None, note=body["note"])
        if event == "offered":
            return replace(flight, state=event, note=body["note"], armed=len(flight.attempts))
        return replace(flight, state=event, note=body["note"])


def _attempt(body: Any) -> Attempt:
    return Attempt(
        kind=body["kind"],
        tx_hash=body["tx_hash"],
        raw=bytes_of(body["raw"]),
        account_nonce=body["account_nonce"],
        gas_limit=body["gas_limit"],
        max_fee_wei=int(body["max_fee_wei"]),
        tip_wei=int(body["tip_wei"]),
        channel=body["channel"],
        block=body["block"],
        sender=body.get("sender", ""),
    )
