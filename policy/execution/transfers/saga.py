"""One transfer as a saga: its states, and the fold of its events. Nothing here reads a chain or a clock.

A saga is what ``transfers.jsonl`` says of it and nothing else; any prefix of any history folds to a legal state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from lake.errors import ExecutionError
from policy.execution.bridges.base import Side, Transfer
from policy.execution.records.codec import bytes_of


class SagaState(StrEnum):
    """Where a transfer stands, by what both chains showed at the last look."""

    PLANNED = "planned"
    SIGNED = "signed"
    SENT = "sent"
    DEPARTED = "departed"  # seen in the origin's chain, which may still drop it
    FINAL = "final"  # departed for good
    ATTESTED = "attested"
    FILLABLE = "fillable"
    DELIVERING = "delivering"
    OVERDUE = "overdue"
    STUCK = "stuck"
    EXPIRED = "expired"
    REFUND_DUE = "refund_due"
    RECEIVED = "received"
    REFUNDED = "refunded"
    SETTLED = "settled"
    VOID = "void"
    WRITTEN_DOWN = "written_down"


S = SagaState
CLOSED = frozenset({S.SETTLED, S.VOID, S.WRITTEN_DOWN})
"""States in which nothing is sent any more; a written-down one is still looked for."""
BEFORE = frozenset({S.PLANNED, S.SIGNED, S.SENT})
"""States in which the money has not been seen to leave."""
MOVING = frozenset({
    S.DEPARTED, S.FINAL, S.ATTESTED, S.FILLABLE, S.DELIVERING, S.OVERDUE, S.STUCK, S.EXPIRED, S.REFUND_DUE,
})  # fmt: skip
HOME = frozenset({S.RECEIVED, S.REFUNDED, S.SETTLED})

_LATER = frozenset({S.OVERDUE, S.STUCK, S.RECEIVED, S.REFUNDED, S.EXPIRED, S.REFUND_DUE})
_AWAY = frozenset({S.ATTESTED, S.FILLABLE, S.DELIVERING})
NEXT: Mapping[SagaState, frozenset[SagaState]] = {
    S.PLANNED: frozenset({S.SIGNED, S.VOID, S.DEPARTED}),
    S.SIGNED: frozenset({S.SIGNED, S.SENT, S.DEPARTED, S.VOID}),
    S.SENT: frozenset({S.SENT, S.SIGNED, S.DEPARTED, S.VOID}),
    S.DEPARTED: frozenset({S.SENT, S.FINAL, S.DELIVERING}) | _LATER,
    S.FINAL: _AWAY | _LATER | {S.SENT},
    S.ATTESTED: _AWAY | _LATER | {S.SENT, S.FINAL},
    S.FILLABLE: _AWAY | _LATER | {S.SENT, S.FINAL},
    S.DELIVERING: _AWAY | _LATER | {S.SENT, S.FINAL},
    S.OVERDUE: _AWAY | _LATER | {S.SENT, S.FINAL},
    S.STUCK: _AWAY | _LATER | {S.SENT, S.FINAL, S.WRITTEN_DOWN},
    S.EXPIRED: _LATER | {S.SENT, S.FINAL},
    S.REFUND_DUE: _LATER | {S.SENT, S.FINAL},
    S.RECEIVED: frozenset({S.FINAL, S.SETTLED, S.SENT, S.RECEIVED}),
    S.REFUNDED: frozenset({S.FINAL, S.SETTLED, S.SENT, S.REFUNDED}),
    S.SETTLED: frozenset({S.FINAL, S.SENT}),
    S.VOID: frozenset({S.DEPARTED}),
    S.WRITTEN_DOWN: frozenset({S.RECEIVED, S.REFUNDED}),
}
"""What may follow what; only a fast transfer is delivered while it is departed.

``void`` is left where its departure turns up after all, ``written_down`` where money comes."""

LEGS = ("depart", "deliver", "settle")


@dataclass(frozen=True, slots=True)
class Sent:
    """One signed transaction of a saga. ``leg``: depart, deliver or settle; fees in wei per gas."""

    leg: str
    chain_id: int
    tx_hash: str
    raw: bytes = field(repr=False)
    sender: str
    account_nonce: int
    gas_limit: int
    max_fee_wei: int
    tip_wei: int
    block: int  # head of its chain when it was signed
    handed: bool = False
    reply: str = ""
    failed: bool = False  # mined and reverted, or its account nonce went to another transaction
    mined: bool = False  # executed, in a final block


@dataclass(frozen=True, slots=True)
class Saga:
    """A transfer and everything that was done about it.

    ``departed_at``: block time of its departure, Unix seconds on the origin's clock; 0 before. ``arrived`` is the
    destination's raw units, ``returned`` and ``fee`` the origin's. ``told``: why it was planned and what was quoted.
    ``absent``: height of the origin at which its departure was first found missing past its deadline.
    """

    transfer: Transfer
    state: SagaState = S.PLANNED
    attempts: tuple[Sent, ...] = ()
    departed_at: int = 0
    message_id: str | None = None
    arrived: int = 0
    returned: int = 0
    fee: int = 0
    note: str = ""
    absent: int = 0
    person: str = ""
    planned_at: int = 0  # the origin's block time when it was planned
    told: Mapping[str, Any] = field(default_factory=dict)
    events: int = 1

    @property
    def open(self) -> bool:
        """Whether there is anything left to do about it."""
        return self.state not in CLOSED

    @property
    def key(self) -> tuple[str, int, int]:
        """What at most one open saga may be about: asset, from, to."""
        return self.transfer.asset, self.transfer.origin.chain_id, self.transfer.destination.chain_id

    def of(self, leg: str) -> tuple[Sent, ...]:
        """Return the transactions of one leg, oldest first."""
        return tuple(a for a in self.attempts if a.leg == leg)

    def live(self, leg: str) -> Sent | None:
        """Return the newest transaction of ``leg`` that may still be mined or was, None where all failed."""
        alive = [a for a in self.of(leg) if not a.failed]
        return alive[-1] if alive else None


def transfer_json(transfer: Transfer) -> dict[str, Any]:
    """Return a transfer as JSON, amounts as texts."""
    body = asdict(transfer)
    return {**body, **{k: str(body[k]) for k in ("amount", "max_fee", "least")}, "since": list(transfer.since)}


def transfer_of(body: Mapping[str, Any]) -> Transfer:
    """Return the transfer that :func:`transfer_json` wrote."""
    fields = dict(body)
    fields |= {k: int(fields[k]) for k in ("amount", "max_fee", "least")}
    fields |= {k: Side(**fields[k]) for k in ("origin", "destination")}
    return Transfer(**{**fields, "since": (fields["since"][0], fields["since"][1])})


def planned(body: Mapping[str, Any]) -> Saga:
    """Return the saga that a ``planned`` event begins."""
    return Saga(transfer_of(body["transfer"]), planned_at=int(body["time"]), told=dict(body.get("told", {})))


def folded(saga: Saga, body: Mapping[str, Any]) -> Saga:
    """Return ``saga`` after one more event; ExecutionError where it cannot follow."""
    event = body["event"]
    saga = replace(saga, events=saga.events + 1)
    if event == "signed":
        return _signed(saga, body)
    if event == "handed":
        marked = _marked(saga, body["tx_hash"], handed=True, reply=str(body["reply"]))
        sent = saga.state in {S.SIGNED, S.SENT} and body["leg"] == "depart"
        return replace(marked, state=S.SENT) if sent else marked
    if event == "failed":
        return _marked(saga, body["tx_hash"], failed=True, reply=str(body["reply"]))
    if event == "mined":
        return _marked(saga, body["tx_hash"], mined=True)
    if event == "absent":
        return replace(saga, absent=int(body["block"]))
    if event == "is":
        return _moved(saga, body)
    raise ExecutionError(f"transfer event {event!r} is not known")


def _signed(saga: Saga, body: Mapping[str, Any]) -> Saga:
    sent = Sent(
        body["leg"], body["chain_id"], body["tx_hash"], bytes_of(body["raw"]), body["sender"], body["account_nonce"],
        body["gas_limit"], int(body["max_fee_wei"]), int(body["tip_wei"]), body["block"],
    )  # fmt: skip
    if sent.leg not in LEGS:
        raise ExecutionError(f"a transfer has the legs {', '.join(LEGS)}; {sent.leg!r} was signed")
    earlier = saga.of("depart")
    if sent.leg == "depart" and any(a.account_nonce != sent.account_nonce for a in earlier):
        raise ExecutionError(
            f"transfer {saga.transfer.saga_id[:12]} has a departure at account nonce {earlier[0].account_nonce}; "
            f"a second one at {sent.account_nonce} could land beside it"
        )
    state = {"depart": S.SIGNED, "deliver": S.DELIVERING}.get(sent.leg, saga.state)
    early = sent.leg == "deliver" and saga.state is S.DEPARTED and saga.transfer.speed != "fast"
    if early or (state is not saga.state and state not in NEXT[saga.state]):
        raise ExecutionError(f"a transfer that is {saga.state} signs no {sent.leg}")
    return replace(saga, state=state, attempts=(*saga.attempts, sent))


def _marked(saga: Saga, tx_hash: str, **changes: Any) -> Saga:
    if all(a.tx_hash != tx_hash for a in saga.attempts):
        raise ExecutionError(f"transaction {tx_hash} was never signed for transfer {saga.transfer.saga_id[:12]}")
    attempts = tuple(replace(a, **changes) if a.tx_hash == tx_hash else a for a in saga.attempts)
    return replace(saga, attempts=attempts)


def _moved(saga: Saga, body: Mapping[str, Any]) -> Saga:
    state = SagaState(body["state"])
    if state not in NEXT[saga.state]:
        raise ExecutionError(f"a transfer that is {saga.state} cannot become {state}")
    if state is S.WRITTEN_DOWN and not (body.get("person") and body.get("note")):
        raise ExecutionError("a transfer is written down by a named person with a reason; give both")
    back = state in {S.SENT, S.FINAL} and saga.state in HOME | MOVING
    return replace(
        saga,
        state=state,
        departed_at=0 if state is S.SENT else int(body.get("departed_at", saga.departed_at)),
        message_id=body.get("message_id") or saga.message_id,
        arrived=0 if back else int(body.get("arrived", saga.arrived)),
        returned=0 if back else int(body.get("returned", saga.returned)),
        fee=0 if back else int(body.get("fee", saga.fee)),
        note=str(body.get("note", "")),
        person=str(body.get("person", saga.person)),
        absent=0,
    )
