"""The matrix of kills, faults and reorganisations of one transfer over two simulated chains.

``python -m tests.transfers.matrix 2000`` plays so many seeded runs and prints what they came to; the suite plays 120.
Each run is judged at every look, not only at its end: no unit lost, none doubled, none unexplained, one departure.
"""

from __future__ import annotations

import itertools
import random
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from policy.execution.transfers.ledger import count
from policy.execution.transfers.saga import SagaState as S
from tests.transfers.lab import ROOMY, Faults, Killed, Lab
from tests.transfers.two_chains import KINDS, STRANGER, TwoChains

KILLS = (
    None, "sign depart", "signed depart", "sent depart", "handed depart", "departed", "final", "attested",
    "sign deliver", "signed deliver", "sent deliver", "handed deliver", "received", "refunded", "expired",
    "sign settle", "signed settle", "sent settle", "settled",
)  # fmt: skip
FAULTS = (
    {}, {"lost A": 1}, {"lost B": 1}, {"unsent A": 2}, {"unsent B": 2}, {"no receipt A": 6}, {"no receipt B": 6},
    {"lag A": 9}, {"lag B": 9}, {"down A": 5}, {"down B": 5}, {"limit A": 5}, {"limit B": 5}, {"low gas": 1},
    {"down": 4}, {"expired": 2}, {"garbage": 2}, {"equivocating": 2},
)  # fmt: skip
WORLDS = ("plain", "stranger", "paused", "expire", "late fill", "late refund")
REORGS = (None, ("A", 1, True), ("A", 2, True), ("A", 3, False), ("B", 1, True), ("B", 2, True), ("B", 3, True))
DECIMALS = ((6, 6), (6, 18), (18, 6))
LOOKS = 120


@dataclass(frozen=True)
class Case:
    kind: str
    kill: str | None
    fault: tuple
    world: str
    reorg: tuple | None
    decimals: tuple


@dataclass
class Outcome:
    case: Case
    lost: int = 0
    doubled: int = 0
    unexplained: int = 0
    departures: int = 0
    state: str = ""
    words: str = ""

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.unexplained) and self.departures <= 1 and self.state in {
            "settled", "void", "stuck",
        }  # fmt: skip


def cases(n: int, seed: int = 1) -> list[Case]:
    """So many different cases, drawn without order from all that make sense."""
    every = [
        Case(kind, kill, tuple(fault.items()), world, reorg, decimals)
        for kind, kill, fault, world, reorg, decimals in itertools.product(
            KINDS, KILLS, FAULTS, WORLDS, REORGS, DECIMALS
        )
        if (world in {"expire", "late fill", "late refund"}) <= (kind == "simulated-fill")
        and (world == "stranger") <= (kind != "simulated-fill")
        and (kind == "simulated-mint" or not {"expired"} & fault.keys())
    ]
    return random.Random(seed).sample(every, n)


class Acts:
    """What other people and the chains do in a run, each at most once."""

    def __init__(self, lab: Lab, case: Case) -> None:
        self.lab, self.case, self.done = lab, case, set()

    def once(self, name: str) -> bool:
        new = name not in self.done
        self.done.add(name)
        return new

    def play(self, saga, look: int) -> None:
        lab, world, kind = self.lab, self.case.world, self.case.kind
        if kind == "simulated-fill" and saga.state in {S.FILLABLE, S.OVERDUE}:
            if world in {"expire", "late refund"}:
                if self.once("pass"):
                    for c in lab.world.chains:
                        c.mine(skip_s=lab.rules.fill_s + 400)
            elif world == "late fill":
                if self.once("at the deadline"):
                    made = lab.world.departure(saga.transfer)
                    lab.world.b.mine(skip_s=made.fill_deadline - lab.world.b.head().time - lab.world.b.block_time_s)
                    lab.world.a.mine(skip_s=max(0, made.fill_deadline - lab.world.a.head().time - 12))
                    assert lab.world.b.head().time == made.fill_deadline
                lab.world.relay(saga.transfer)
            else:
                lab.world.relay(saga.transfer)
        if saga.state in {S.EXPIRED, S.REFUND_DUE} and (world != "late refund" or look > 60):
            lab.world.come_home(saga.transfer)
        if world == "stranger" and saga.state in {S.FINAL, S.ATTESTED, S.DELIVERING} and self.once("stranger"):
            seen = lab.world.bridge().find(saga.transfer)
            tx = lab.world.bridge().deliver(saga.transfer, seen)
            if tx is not None:
                lab.world.send(1, tx, STRANGER)
        if world == "paused" and look >= 4:
            lab.world.pause(1, look < 20)  # said at every look: a reorganisation drops it as any other act
        self._reorganise(saga)

    def _reorganise(self, saga) -> None:
        if self.case.reorg is None:
            return
        side, depth, keep = self.case.reorg
        ripe = {S.DEPARTED} if side == "A" else {S.RECEIVED}
        if saga.state in ripe and self.once("reorg"):
            chain = self.lab.world.a if side == "A" else self.lab.world.b
            chain.reorg(depth, keep=keep, delay=1)


def judge(out: Outcome, lab: Lab) -> None:
    """Look at the truth of both chains, and at what the machine counts of it."""
    world = lab.world
    gone = world.start - world.fees() - world.value() - world.transit()
    if gone > 0:
        out.lost, out.words = max(out.lost, gone), f"{gone} missing"
    if gone < 0:
        out.doubled, out.words = max(out.doubled, -gone), f"{-gone} too much"
    out.departures = max(out.departures, len(world.a.world.bridges.departed))
    quiet = replace(lab.fresh(live=False), told=lambda *_: None)
    found = count(quiet)
    unread = any("cannot be" in d for d in found.doubts)
    if not unread and (found.mismatch or found.doubts):
        out.unexplained += 1
        out.words = f"{found.mismatch} unexplained {found.doubts}"


def run(case: Case, folder: Path, step=None) -> Outcome:
    """Play one case from plan to end; ``step(lab)`` is one run of the scheduler."""
    lab = Lab(TwoChains(case.kind, case.decimals, fee_pips=100), folder, rules=ROOMY)
    plan = lab.plan(5_000)
    assert plan.saga is not None, plan.verdicts
    faults = dict(case.fault)
    attester = {k: faults.pop(k) for k in tuple(faults) if k in {"down", "expired", "garbage", "equivocating"}}
    lab.faults, lab.kill = Faults(faults), case.kill
    lab.world.attesters[0].faults.update(attester)
    out, acts, step = Outcome(case), Acts(lab, case), step or Lab.look
    for look in range(LOOKS):
        with suppress(Killed):
            step(lab)
        saga = lab.fresh().log.sagas()[-1]
        acts.play(saga, look)
        lab.world.mine()
        judge(out, lab)
        if saga.state in {S.SETTLED, S.VOID, S.STUCK} and (case.world != "paused" or look > 20):
            break
    out.state = str(saga.state)
    left = [s for s in lab.fresh().log.sagas() if s.state is S.STUCK]
    if left and not any(name == "stuck" for name, _ in lab.alarms):
        out.words, out.state = "stuck without an alarm", "silent"
    if not out.good and not out.words:
        out.words = f"ended {out.state}: {saga.note}"
    return out


def play(n: int, seed: int = 1, step=None) -> list[Outcome]:
    """Play ``n`` seeded cases."""
    outcomes = []
    for case in cases(n, seed):
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(run(case, Path(folder), step))
    return outcomes


def summary(outcomes: list[Outcome]) -> str:
    """One line of what the runs came to."""
    ends = Counter(o.state for o in outcomes)
    bad = [o for o in outcomes if not o.good]
    reorganised = sum(o.case.reorg is not None for o in outcomes)
    return (
        f"{len(outcomes)} runs, {reorganised} with a reorganisation: {sum(o.lost > 0 for o in outcomes)} lost, "
        f"{sum(o.doubled > 0 for o in outcomes)} doubled, {sum(o.unexplained > 0 for o in outcomes)} unexplained, "
        f"{len(bad)} wrong; ended {dict(sorted(ends.items()))}"
    )


if __name__ == "__main__":
    played = play(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(summary(played))
    for wrong in [o for o in played if not o.good][:20]:
        print(wrong.case, wrong.words, "departures", wrong.departures)
    sys.exit(any(not o.good for o in played))
