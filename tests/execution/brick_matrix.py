"""What could brick a vault, on the simulated chain: links, late reorganisations, new chains, other vaults, clocks,
full disks.

Each case disturbs a vault with one trade to make, follows the way out that the refusal names, and then lets days pass.
In the end the trade must have been executed once in the canonical chain, nothing written may be gone, and the next
drift must be traded, too: a vault that refuses for ever is bricked.
"""

from __future__ import annotations

import os
import re
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from policy.execution.context import EngineContext, StepReport
from policy.execution.engine import dry, step
from policy.execution.records.audit import verify
from policy.execution.records.hashlog import read
from policy.execution.records.journal import FINAL
from policy.execution.vaults.simulated.adapter import VaultSpec, executor
from policy.execution.vaults.simulated.chain import Genesis, SimChain
from tests.execution import simlab
from tests.execution.simlab import ETHER, KEEPER, START, VAULT, world

OTHER = "0x00000000000000000000000000000000000000cc"
STAGES = ("journal", "sign", "journal_signed", "send", "journal_sent", "journal_mined", "audit_settled")

ROOM = dict.fromkeys(("loss_budget_ppb", "long_budget_ppb", "life_budget_ppb"), 500000000)
"""Budgets that the same trade, made again and again, does not use up: it is not they that are looked at."""


def spec() -> VaultSpec:
    """The vault, with room for many trades."""
    return simlab.spec(**ROOM)


def chain(the_spec: VaultSpec | None = None) -> SimChain:
    """Its chain."""
    return simlab.chain(the_spec=the_spec or spec())


def context(folder: Path, sim: SimChain, **more) -> EngineContext:
    """Its context."""
    return simlab.context(folder, sim, **{"spec": spec(), **more})


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Bench:
    """A vault, its folder and what became of it."""

    folder: Path
    sim: SimChain
    name: str = "journal.jsonl"
    reports: list[StepReport] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    lost: bool = False

    def step(self, *, live: bool = True, **more) -> StepReport:
        """One run; a kill is a run, too."""
        ctx = context(self.folder, self.sim, **more)
        try:
            report = step(ctx if live else dry(ctx))
        except Killed:
            report = StepReport("killed")
        self.reports.append(report)
        self.look()
        return report

    def look(self) -> None:
        """Note whether what was on the disk still is."""
        lines = [line.hash for line in read(self.folder / "journal.jsonl").lines]
        self.lost |= lines[: len(self.written)] != self.written
        self.written = lines

    def refusal(self, check: str) -> str:
        """The words of the last report's refusal, which must be of this kind."""
        found = [v.reason for v in self.reports[-1].verdicts if v.check == check and not v.ok]
        assert found, f"{self.reports[-1].outcome}: {self.reports[-1].why}"
        assert "\n" not in found[0]
        return found[0]

    def follow(self, words: str) -> None:
        """Do what the message says: move the file aside."""
        command = re.search(r"mv (\S+) (\S+)", words)
        assert command, words
        Path(command[1]).rename(command[2])
        self.written = []

    def pass_time(self, blocks: int = 60) -> None:
        """Let blocks come, and the feeds with them."""
        for _ in range(blocks):
            self.sim.mine()
        w, now = self.sim.world, self.sim.head().time
        self.sim.set_world(replace(w, prices={t: (p, now - 5, r + 1) for t, (p, _, r) in w.prices.items()}))

    def drift(self) -> None:
        """The market moves the weights away again, an epoch later."""
        self.pass_time(320)
        self.restore()

    def restore(self) -> None:
        """Put the vault and the pools where they were at first."""
        self.sim.set_world(replace(self.sim.world, balances=world().balances, pools=world().pools))


def stopper(stage: str, then: Callable[[], object] | None = None) -> Callable[[str], None]:
    """Ends the process at the first pass of ``stage``, or does something there."""
    armed = [True]

    def checkpoint(name: str) -> None:
        if name == stage and armed:
            armed.clear()
            if then is None:
                raise Killed(name)
            then()

    return checkpoint


def linked(bench: Bench, kind: str, stage: str) -> None:
    """A second run, by another name of the same journal, in the middle of the first."""
    away = bench.folder / "away"
    away.mkdir()
    (bench.folder / "journal.jsonl").touch()
    if kind == "folder":
        away.rmdir()
        away.symlink_to(bench.folder, target_is_directory=True)
    else:
        {"hard": os.link, "symbolic": os.symlink}[kind](bench.folder / "journal.jsonl", away / "journal.jsonl")
    inner: list[StepReport] = []
    bench.step(checkpoint=stopper(stage, lambda: inner.append(step(context(away, bench.sim)))))
    assert [r.outcome for r in inner] == ["refused"], [r.why for r in inner]
    bench.sim.mine()


def reorganised(bench: Bench, plans: int, keep: bool, stage: str, late: bool) -> None:
    """Every plan so far is dropped by a reorganisation that is seen past the deadline, by a run that is killed."""
    bench.pass_time(5)
    for _ in range(plans):
        assert bench.step().outcome == "traded"
        bench.drift()
    first = next(i for i, b in enumerate(bench.sim.blocks) if b.txs)
    bench.sim.reorg(len(bench.sim.blocks) - first, keep=keep)
    if late:
        bench.pass_time(400)
    bench.pass_time(0)
    if stage:
        bench.step(checkpoint=stopper(stage))
    if keep:
        bench.restore()


def reverted_then_dropped(bench: Bench, cancelled: bool) -> None:
    """A plan reverts, or a no-op cancels it, and the chain then forgets the transaction: its nonce is free again."""
    sim = bench.sim
    if cancelled:
        waits = iter(range(10**6))
        mine = lambda head: sim.mine(include=(i := next(waits)) > 20, background=30_000_000 if i < 20 else 0)  # noqa: E731
        report = bench.step(wait=mine, policy=_barely(bench))
        assert report.attempts[-1]["kind"] == "cancel"
    else:
        paused = stopper("send", lambda: sim.set_world(replace(sim.world, paused=True)))
        assert bench.step(checkpoint=paused).outcome == "reverted"
    first = next(i for i, b in enumerate(sim.blocks) if b.txs)
    sim.reorg(len(sim.blocks) - first, keep=False)
    sim.set_world(replace(sim.world, paused=False))
    bench.pass_time(400)


def _barely(bench: Bench):
    from tests.execution.simlab import ToTarget

    cost = step(dry(context(bench.folder / "dry", bench.sim))).expected["cost_usd"]
    return ToTarget(benefit_usd=cost + 1.0)


def from_the_first_block(time: int) -> SimChain:
    """A chain whose first block is number 0, as real ones have it."""
    return SimChain(world(), executor(spec()), Genesis(time=time, number=0), wei={KEEPER: 10 * ETHER})


def begun_anew(bench: Bench, genesis: bool, stage: str) -> None:
    """The chain is begun anew under the same id and the vault put there again."""
    if genesis:
        bench.sim = from_the_first_block(START)
    bench.step(checkpoint=stopper(stage) if stage else lambda name: None)
    bench.sim = from_the_first_block(START + 60) if genesis else chain()
    bench.pass_time(400)
    report = bench.step()
    if report.outcome == "refused" and genesis and not stage:
        bench.follow(bench.refusal("wrong_journal"))


def other_vault(bench: Bench, stage: str) -> None:
    """The settings name another vault while the journal stays, also with a plan of the first one on its way."""
    bench.step(checkpoint=stopper(stage) if stage else lambda name: None)
    second = {"vault_address": OTHER, "spec": replace(spec(), address=OTHER)}
    for live in (True, False):
        report = bench.step(live=live, **second)
        assert report.outcome == "refused"
        assert report.recovered == ""
        words = bench.refusal("wrong_journal")
        assert VAULT in words
        assert ("not finished" in words) == bool(stage)
    apart = Bench(bench.folder, chain(the_spec=second["spec"]))
    kept = bench.folder / "journal.jsonl"
    apart.follow(words)
    assert apart.step(**second).outcome == "traded"  # the way out leads on
    kept.unlink()
    Path(re.search(r"mv \S+ (\S+)", words)[1]).rename(kept)


def wrong_clock(bench: Bench, hours: float) -> None:
    """Old data and a clock so far off that they would pass for fresh; then dry runs; then the clock is right."""
    at = bench.sim.head().time

    def view(snapshot):
        from policy.execution.state_builder import OffchainView
        from tests.execution.simlab import COVARIANCE

        return OffchainView({}, COVARIANCE, 2_000.0, datetime.fromtimestamp(at - 6 * 3_600, UTC))

    clock = lambda: datetime.fromtimestamp(bench.sim.head().time, UTC) + timedelta(hours=hours)  # noqa: E731
    for live in (True, False):
        assert bench.step(live=live, view=view, clock=clock).outcome == "refused"
        assert bench.step(live=live, clock=clock).outcome == (
            "refused" if hours else "planned" if not live else "traded"
        )
    bench.step(view=view)


def full_disk(bench: Bench, limit: int) -> None:
    """No file may grow beyond ``limit`` bytes: the write fails in the middle of a record."""
    with no_more_than(limit):
        for live in (True, False):
            report = bench.step(live=live)
            assert report.outcome in {"refused", "pending", "planned", "traded", "done"}
            if report.outcome in {"refused", "pending"}:
                assert re.search("run again|in flight", report.why + str(report.outcome == "pending" and "in flight"))
            bench.sim.mine()
    bench.sim.mine()


@contextmanager
def no_more_than(limit: int) -> Iterator[None]:
    """The operating system's own limit of a file's size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def cases() -> Iterator[tuple[str, str, Callable[[Bench], None]]]:
    """All of them: kind, name, what to do."""
    for kind in ("hard", "symbolic", "folder"):
        for stage in STAGES:
            yield "two names of one journal", f"{kind} link, {stage}", partial(linked, kind=kind, stage=stage)
    for plans in (1, 2, 3):
        for keep in (False, True):
            for stage in ("", "recover", "journal_mined", "audit_settled"):
                for late in (True, False):
                    name = f"{plans} dropped, keep {keep}, killed at {stage or 'no stage'}, late {late}"
                    given = {"plans": plans, "keep": keep, "stage": stage, "late": late}
                    yield "deep reorganisation seen late", name, partial(reorganised, **given)
    for cancelled in (False, True):
        name = "cancelled" if cancelled else "reverted"
        yield "its end is reorganised away", name, partial(reverted_then_dropped, cancelled=cancelled)
    for genesis in (True, False):
        for stage in ("", *STAGES):
            name = f"first block known {genesis}, killed at {stage or 'no stage'}"
            yield "chain begun anew", name, partial(begun_anew, genesis=genesis, stage=stage)
    for stage in ("", *STAGES):
        yield "another vault configured", f"killed at {stage or 'no stage'}", partial(other_vault, stage=stage)
    for hours in (-240, -24, -4, -0.05, 0.05, 4, 24, 240):
        yield "wrong clock", f"{hours} h", partial(wrong_clock, hours=hours)
    for limit in (0, 1, 200, 900, 2_000, 3_000, 3_600, 4_500, 6_000, 8_000, 11_000):
        yield "full disk", f"{limit} B", partial(full_disk, limit=limit)


def executed(sim: SimChain) -> int:
    """Plans in the canonical chain."""
    return sum(r.status == 1 and bool(t.data) for b in sim.blocks for t, r in zip(b.txs, b.receipts, strict=False))


def judged(folder: Path, disturb: Callable[[Bench], None]) -> list[str]:
    """What is wrong after the case: doubled, lost, bricked, or anything else by its name."""
    bench = Bench(folder, chain())
    disturb(bench)
    before = executed(bench.sim)
    for _ in range(6):
        if bench.step().outcome in {"done", "waited", "traded"}:
            break
        bench.pass_time(400)
    mid = executed(bench.sim)
    wrong = [] if mid - before <= 1 else ["doubled"]
    bench.drift()
    outcomes = [bench.step().outcome]
    if outcomes != ["traded"]:
        bench.pass_time(7_200)
        outcomes.append(bench.step().outcome)
    flights = context(folder, bench.sim).journal.flights()
    landed = [f.plan.nonce for f in flights if f.state == "landed"]
    checks = {
        "bricked": outcomes[-1] == "traded",
        "doubled": executed(bench.sim) == bench.sim.world.clock.nonce and executed(bench.sim) - mid <= 1,
        "lost": not bench.lost,
        "a plan without an end": all(f.state in FINAL for f in flights),
        "landed plans that the chain does not hold": len(landed) == len(set(landed)) <= executed(bench.sim),
        "a broken audit chain": verify(folder / "audit.jsonl").ok,
        "account nonce": bench.sim.account_nonce(KEEPER) >= 1,
    }
    return wrong + [name for name, fine in checks.items() if not fine]


def table(rows: list[tuple[str, str, list[str]]]) -> str:
    """One line a kind of case."""
    names = ("doubled", "lost", "bricked")
    lines = [f"| what | runs | {' | '.join(names)} | other faults |", "|---|--:|--:|--:|--:|--:|"]
    for kind in [*dict.fromkeys(r[0] for r in rows), "all"]:
        mine = [r for r in rows if kind in {r[0], "all"}]
        counts = [sum(n in r[2] for r in mine) for n in names]
        other = sum(any(w not in names for w in r[2]) for r in mine)
        lines.append(f"| {kind} | {len(mine)} | {' | '.join(map(str, (*counts, other)))} |")
    return "\n".join(lines)


def main(root: Path) -> list[tuple[str, str, list[str]]]:
    """Run every case below ``root``."""
    rows = []
    for i, (kind, name, disturb) in enumerate(cases()):
        folder = root / str(i)
        folder.mkdir()
        try:
            rows.append((kind, name, judged(folder, disturb)))
        except Exception as error:  # noqa: BLE001 - a case that breaks off is a fault of its own
            rows.append((kind, name, [f"{type(error).__name__}: {str(error)[:200]}"]))
    return rows


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        found = main(Path(scratch))
    print(table(found))
    for kind, name, wrong in found:
        if wrong:
            print(f"{kind}: {name}: {'; '.join(wrong)}")
    raise SystemExit(any(wrong for _, _, wrong in found))
