"""Kill x fault x reorganisation on real contracts behind the faulty front: ``make matrix`` runs all and prints a table.

Each run starts from the same block, is disturbed as its case says until the decision is executed, and is then looked at
once more with a sound node. What must hold is in :func:`judge`; the table counts what did not.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from lake.evm import Call, read
from policy.execution.engine import step
from policy.execution.records.audit import verify
from policy.execution.records.hashlog import read as read_log
from policy.execution.records.journal import FINAL
from policy.execution.vaults.reference.logs import REBALANCED
from policy.localnet.faults import Fault, FaultKind
from policy.localnet.market import Localnet
from tests.chain_fixtures import into_the_hour
from tests.execution.chainlab import chain_context

STAGES = (
    *("start", "recover", "snapshot", "guards", "read_pools", "decide", "route", "check", "simulate", "audit"),
    *("journal", "sign", "journal_signed", "send", "journal_sent", "submit", "watch", "journal_mined"),
    *("audit_settled", "follow"),
)
LATE = ("journal_signed", "send", "watch", "journal_mined", "audit_settled")
FAULTS = {
    "lost reply": Fault(FaultKind.LOST_REPLY, ("eth_sendRawTransaction", "eth_sendPrivateTransaction")),
    "lies: old nonce": Fault(FaultKind.LYING, ("eth_getTransactionCount",), change=lambda m, p, r: "0x0"),
    "timeout": Fault(FaultKind.TIMEOUT, times=3, skip=60, hold_s=0.02),
    "429": Fault(FaultKind.HTTP_429, times=4, skip=50),
    "502": Fault(FaultKind.HTTP_502, times=6, skip=55),
    "half an answer": Fault(FaultKind.TRUNCATED, times=3, skip=58),
    "internal error": Fault(FaultKind.ERROR, times=5, skip=52),
    "lagging": Fault(FaultKind.LAGGING, times=25, skip=55, blocks=3),
    "lies: no receipt": Fault(FaultKind.LYING, ("eth_getTransactionReceipt",), times=4, change=lambda m, p, r: None),
}


@dataclass(frozen=True)
class Case:
    """What goes wrong: the process ends at the first pass of ``stage``, the node fails by ``fault``, ``depth`` blocks
    are replaced after the first confirmation (``drop``: their transactions are lost). ``late``: the plan's block and
    all after it are replaced once it has landed, which is seen an hour later.
    """

    kind: str
    stage: str = ""
    fault: str = ""
    depth: int = 0
    drop: bool = False
    channel: str = "public"
    late: bool = False


@dataclass
class Row:
    """What became of a case; ``wrong`` says what must not be."""

    case: Case
    outcomes: list[str] = field(default_factory=list)
    struck: int = 0
    reorganised: int = 0
    executions: int = 0
    wrong: list[str] = field(default_factory=list)


def cases() -> Iterator[Case]:
    """All of them."""
    yield from (Case("killed", stage) for stage in STAGES)
    yield from (Case("killed, private", stage, channel="private") for stage in LATE)
    yield from (Case("faulty node", fault=fault) for fault in FAULTS)
    yield from (Case("faulty node, private", fault=fault, channel="private") for fault in FAULTS)
    yield from (Case("reorganised", depth=d, drop=drop) for d in (1, 2, 3) for drop in (False, True))
    yield from (Case("dropped, seen late", s, depth=2, late=True) for s in ("", "recover", "audit_settled"))
    yield from (Case("killed, reorganised", s, depth=d) for s in LATE for d in (1, 2, 3))
    yield from (Case("killed, faulty node", s, f) for s in LATE for f in FAULTS)
    yield from (Case("reorganised, faulty node", fault=f, depth=d) for f in FAULTS for d in (1, 2, 3))


LATER = itertools.count()
"""Seconds by which each case begins later: Anvil keeps states by block hash, and forgets those it has seen twice."""


class Killed(BaseException):
    """The process is gone."""


def killer(stage: str):
    """Ends the process at the first pass of ``stage``."""
    armed = [True]

    def checkpoint(name: str) -> None:
        if name == stage and armed:
            armed.clear()
            raise Killed(name)

    return checkpoint


def disturbed(net: Localnet, folder: Path, case: Case, calm: list[int]) -> Row:
    """Run ``case`` on a snapshot that is taken back, and judge it against the holdings of an undisturbed run."""
    saved = net.snapshot()
    into_the_hour(net, 60 + next(LATER))
    net.mine(4)  # room for the reorganisations
    row, todo = Row(case), [case.depth] if case.depth else []
    fault = net.faults.add(replace(FAULTS[case.fault], struck=0)) if case.fault else None
    checkpoint, waits, written = killer(case.stage), itertools.count(), list[str]()

    def drop_landed(flight) -> None:
        net.reorg(net.node.head().number - flight.mined[1] + 1, drop=[flight.mined[0]])
        row.reorganised += 1
        todo.clear()
        into_the_hour(net, 60)

    def reorganise() -> None:
        while todo and not case.late:
            block = net.node.admin.call("eth_getBlockByNumber", ["latest", False])
            net.reorg(todo.pop(), drop=block["transactions"] if case.drop else ())
            row.reorganised += 1

    def wait(head) -> None:
        if next(waits) == 1:  # one confirmation in: the worst moment
            reorganise()
        net.mine()

    for _ in range(20):
        ctx = chain_context(folder, net, wait=wait, checkpoint=checkpoint, channel=case.channel)
        try:
            row.outcomes.append(step(ctx).outcome)
        except Killed:
            row.outcomes.append("killed")
            net.mine()  # the world goes on without the process
            reorganise()
        lines = [line.hash for line in read_log(folder / "journal.jsonl").lines]
        if lines[: len(written)] != written:
            row.wrong.append("journal entries lost")
        written = lines
        if row.outcomes[-1] in {"traded", "done"}:
            if not (case.late and todo):
                break
            drop_landed(ctx.journal.last())
        net.mine()
    row.struck = fault.struck if fault else 0
    net.faults.clear()
    net.mine(3)
    judge(net, folder, row, calm)
    net.revert(saved)
    return row


def judge(net: Localnet, folder: Path, row: Row, calm: list[int]) -> None:
    """Add to ``row`` what must not be after a last look with a sound node."""
    ctx = chain_context(folder, net)
    last = step(ctx)
    if last.outcome == "traded":  # a deep reorganisation was noticed just now
        last = step(ctx)
    flights = ctx.journal.flights()
    landed = [f for f in flights if f.state == "landed"]
    logs = net.rpc.call("eth_getLogs", [{"address": ctx.vault_address, "topics": [REBALANCED], "fromBlock": "0x0"}])
    row.executions = len(logs)
    checks = {
        f"ends {last.outcome}": last.outcome in {"done", "waited"},
        f"{row.executions} executions": row.executions == 1 == ctx.vault.snapshot().plan_nonce,
        f"{len(landed)} landed plans in the journal": len(landed) == 1,
        "a plan without an end": all(f.state in FINAL for f in flights),
        "a transaction the journal did not know": bool(landed) and logs[0]["transactionHash"] in landed[0].hashes(),
        "other holdings than undisturbed": not calm or holdings(net) == calm,
        "a broken audit chain": verify(folder / "audit.jsonl").ok,
        "it was not killed": not row.case.stage or "killed" in row.outcomes,
        "it was not reorganised": row.reorganised == bool(row.case.depth),
    }
    row.wrong += [what for what, fine in checks.items() if not fine]


def holdings(net: Localnet) -> list[int]:
    """What the vault holds, raw units."""
    tokens, vault = net.world.tokens.values(), net.world.extras["vault"]
    views = [Call(t.address, "balanceOf(address)", "uint256", (vault,)) for t in tokens]
    return [int(str(r[0])) for r in read(net.node.admin, views)]


def undisturbed(net: Localnet, folder: Path) -> list[int]:
    """What the vault holds after a run that nothing disturbs."""
    saved = net.snapshot()
    into_the_hour(net, 60)
    net.mine(4)
    assert step(chain_context(folder, net)).outcome == "traded"
    held = holdings(net)
    net.revert(saved)
    return held


def table(rows: list[Row]) -> str:
    """One line a kind of case."""
    names = (
        "runs",
        "killed",
        "faults struck",
        "reorganised",
        "executions",
        "double",
        "lost",
        "other holdings",
        "other faults",
    )
    lines = [f"| what | {' | '.join(names)} |", f"|---|{'--:|' * len(names)}"]
    kinds = dict.fromkeys(r.case.kind for r in rows)
    for kind in [*kinds, "all"]:
        mine = [r for r in rows if kind in {r.case.kind, "all"}]
        wrong = [w for r in mine for w in r.wrong]
        lost, other = "journal entries lost", "other holdings than undisturbed"
        counts = (
            *(len(mine), sum("killed" in r.outcomes for r in mine), sum(r.struck for r in mine)),
            *(
                sum(r.reorganised for r in mine),
                sum(r.executions for r in mine),
                sum(r.executions > 1 for r in mine),
                wrong.count(lost),
            ),
            *(wrong.count(other), len([w for w in wrong if w not in {lost, other}])),
        )
        lines.append(f"| {kind} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def main() -> int:
    """Run every case; print the table and what went wrong."""
    from policy.localnet.market import start
    from policy.localnet.portfolio import reference_vault
    from tests.chain_fixtures import CLOCK
    from tests.execution.chainlab import MANDATE, TARGETS

    rows = []
    with (
        start(extras=[reference_vault(TARGETS, mandate=MANDATE)], at=CLOCK) as net,
        tempfile.TemporaryDirectory() as tmp,
    ):
        calm = undisturbed(net, Path(tmp) / "calm")
        for number, case in enumerate(cases()):
            rows.append(disturbed(net, Path(tmp) / str(number), case, calm))
            if rows[-1].wrong:
                print(case, rows[-1].outcomes, rows[-1].wrong, flush=True)
    print(table(rows))
    return int(any(r.wrong for r in rows))


if __name__ == "__main__":
    sys.exit(main())
