"""``transfers.jsonl``: the write-ahead journal of every transfer of one portfolio. A record of money never expires.

One line an event over :class:`policy.execution.records.hashlog.HashLog`: signed bytes are on disk before they are sent,
an event that cannot follow is refused before it reaches the disk, and no key is ever in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lake.errors import ExecutionError
from policy.execution.bridges.base import Transfer
from policy.execution.records.codec import hex_of, plain
from policy.execution.records.hashlog import LOST, Body, HashLog, exclusive
from policy.execution.transfers.saga import Saga, Sent, folded, planned, transfer_json


class TransfersBusy(ExecutionError):
    """Another run holds the portfolio's transfers; wait for it to end."""


class TransferLog:
    """The transfers of one portfolio in ``path`` (a file; its folder is made)."""

    def __init__(self, path: Path) -> None:
        self._log = HashLog(path)
        self.path = self._log.path
        self._lease = self.path.with_name(self.path.name + ".lease")
        self._sagas: dict[str, Saga] = {}
        self._seen = 0
        self._held = False

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Hold the transfers for one run; TransfersBusy where another has them. It ends with the process."""
        with ExitStack() as held:
            try:
                held.enter_context(exclusive(self._lease, wait=False))
                held.enter_context(exclusive(self.path, wait=False))
            except BlockingIOError:
                raise TransfersBusy(f"another run holds {self.path.name}; it must end before this one starts") from None
            self._held = True
            try:
                self._replay()
                yield
            finally:
                self._held = False

    def sagas(self) -> tuple[Saga, ...]:
        """Return every transfer ever planned, oldest first."""
        self._replay()
        return tuple(self._sagas.values())

    def events(self) -> tuple[Body, ...]:
        """Return every event ever written, oldest first; ``planned`` and ``folded`` make sagas of them."""
        self._replay()
        return tuple(line.body for line in self._log.lines())

    def open(self) -> tuple[Saga, ...]:
        """Return the transfers about which something is left to do."""
        return tuple(s for s in self.sagas() if s.open)

    def saga(self, saga_id: str) -> Saga:
        """Return the transfer whose id begins with ``saga_id``; ExecutionError where none or several do."""
        wanted = saga_id.lower()
        found = [s for s in self.sagas() if s.transfer.saga_id.lower().startswith(wanted)] if wanted else []
        if len(found) == 1:
            return found[0]
        known = ", ".join(s.transfer.saga_id[:12] for s in self.sagas()[-5:]) or "none yet"
        what = f"{len(found)} transfers begin with" if found else "no transfer is"
        raise ExecutionError(f"{what} {saga_id!r}; the newest are {known} (`foredrift transfers` lists them)")

    def plan(self, transfer: Transfer, time: int, told: Mapping[str, Any]) -> Saga:
        """Record the intention; ``told`` says why, what was quoted, both block hashes and the decision's id."""
        if transfer.saga_id in {s.transfer.saga_id for s in self.sagas()}:
            raise ExecutionError(f"transfer {transfer.saga_id[:12]} is in the journal already")
        return self._write(
            {
                "event": "planned",
                "saga": transfer.saga_id,
                "transfer": transfer_json(transfer),
                "time": time,
                "told": plain(told),
            }
        )

    def signed(self, saga: Saga, sent: Sent) -> Saga:
        """Record a signed transaction BEFORE it is sent."""
        return self._write(
            {
                "event": "signed",
                "saga": saga.transfer.saga_id,
                "leg": sent.leg,
                "chain_id": sent.chain_id,
                "tx_hash": sent.tx_hash,
                "raw": hex_of(sent.raw),
                "sender": sent.sender,
                "account_nonce": sent.account_nonce,
                "gas_limit": sent.gas_limit,
                "max_fee_wei": str(sent.max_fee_wei),
                "tip_wei": str(sent.tip_wei),
                "block": sent.block,
            }
        )

    def note(self, event: str, saga: Saga, sent: Sent, reply: str = "") -> Saga:
        """Record what became of a transaction: ``handed`` over, ``failed`` or ``mined`` for good."""
        body = {"event": event, "saga": saga.transfer.saga_id, "leg": sent.leg, "tx_hash": sent.tx_hash, "reply": reply}
        return self._write(body)

    def absent(self, saga: Saga, block: int) -> Saga:
        """Record that the departure was missing at ``block`` although its deadline is past."""
        return self._write({"event": "absent", "saga": saga.transfer.saga_id, "block": block})

    def moved(self, saga: Saga, state: str, **seen: Any) -> Saga:
        """Record a new state and what was seen (amounts as texts)."""
        big = {k: str(v) if isinstance(v, int) and k in {"arrived", "returned", "fee"} else v for k, v in seen.items()}
        return self._write({"event": "is", "saga": saga.transfer.saga_id, "state": str(state), **plain(big)})

    def _write(self, body: dict[str, Any]) -> Saga:
        if not self._held:
            raise ExecutionError("take the lease of the transfers before writing to them")
        self._replay()
        saga = self._folded(body)
        self._log.append(body, expect=self._seen, held=True)
        self._seen += 1
        self._sagas[saga.transfer.saga_id] = saga
        return saga

    def _folded(self, body: Mapping[str, Any]) -> Saga:
        if body["event"] == "planned":
            return planned(body)
        if body["saga"] not in self._sagas:
            raise ExecutionError(f"a transfer's event {body['event']!r} comes before its plan")
        return folded(self._sagas[body["saga"]], body)

    def _replay(self) -> None:
        lines = self._log.lines()
        for line in lines[self._seen :]:
            if line.body["event"] == LOST:
                raise ExecutionError(
                    f"{self.path}: record {line.seq} is lost ({line.body['reason']}); what left and has not "
                    "arrived is known to the chains alone now: find it there by hand, then begin a new file"
                )
            saga = self._folded(line.body)
            self._sagas[saga.transfer.saga_id] = saga
        self._seen = len(lines)
