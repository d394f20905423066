"""Journal, audit and engine: killed, full, read-only, copied, reorganised, with clocks and files that lie."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from policy.execution.context import EngineContext, Limits
from policy.execution.engine import dry, step
from policy.execution.records.audit import Audit, verify
from policy.execution.records.hashlog import read
from policy.execution.state_builder import OffchainView
from tests.attacks.outcome import Attack, Outcome, joined
from tests.execution.simlab import COVARIANCE, VAULT, chain, context, spec

OTHER = "0x00000000000000000000000000000000000000cc"


class Killed(BaseException):
    """The process ends here, as after kill -9."""


def run(ctx: EngineContext) -> str:
    """Return the outcome of a step, and why; of an error its type and text."""
    try:
        report = step(ctx)
    except Exception as error:
        return re.sub(r"/\S+/", "", f"{type(error).__name__}: {error}")
    if report.outcome != "refused":
        return report.outcome
    return re.sub(r"/\S+/", "", f"refused {report.why}")


def executed(sim: Any) -> int:
    """Return how many plans are on the chain."""
    return sum(1 for b in sim.blocks for t, r in zip(b.txs, b.receipts, strict=True) if r.status == 1 and t.data)


def freshened(sim: Any) -> None:
    """Let the feeds post again."""
    now, world = sim.head().time, sim.world
    sim.set_world(replace(world, prices={t: (p, now - 5, r + 1) for t, (p, _, r) in world.prices.items()}))


def at(stage: str, act: Callable[[], Any]) -> Callable[[str], None]:
    """Return a checkpoint that acts once at ``stage``."""
    done: list[Any] = []

    def checkpoint(name: str) -> None:
        if name == stage and not done:
            done.append(True)
            act()

    return checkpoint


def killed() -> None:
    raise Killed


def sub(folder: Path, name: str) -> Path:
    """Make a folder."""
    made = folder / name
    made.mkdir(parents=True)
    return made


def later(sim: Any, blocks: int) -> None:
    for _ in range(blocks):
        sim.mine()
    freshened(sim)


def deep_reorganisation(folder: Path) -> Outcome:
    """A landed plan is dropped by a reorganisation deeper than its confirmations, seen past its deadline."""
    found = []
    for depth, wait in ((4, 200), (3, 5), (6, 2_000)):
        d, sim = sub(folder, f"{depth}"), chain()
        first = run(context(d, sim))
        sim.reorg(depth, keep=False)
        later(sim, wait)
        outs = []
        for _ in range(4):
            outs.append(run(context(d, sim)))
            later(sim, 400)
        traded = sum(o.startswith("traded") for o in outs)
        text = f"{first}, {depth} deep, then {outs[-1][:60] if not traded else 'traded again'}"
        found.append(Outcome(executed(sim) == 1 and (traded == 1 or depth == 3), text))
    return joined(found, 1)


def another_chain(folder: Path) -> Outcome:
    """The chain begins anew, or the settings name another vault, and the journal's path stays."""
    found = []
    d, sim = sub(folder, "reset"), chain()
    run(context(d, sim))
    fresh = chain()
    outs = []
    for _ in range(3):
        later(fresh, 400)
        outs.append(run(context(d, fresh)))
    good = executed(fresh) == 1 or all("journal" in o for o in outs)
    found.append(Outcome(good, f"new chain: {outs[-1][:70]}"))
    d, sim = sub(folder, "vault"), chain()
    run(context(d, sim))
    other = chain()
    later(other, 400)
    told = run(context(d, other, vault_address=OTHER, spec=replace(spec(), address=OTHER)))
    found.append(Outcome("journal" in told and "lags" not in told, f"other vault: {told[:70]}"))
    return joined(found)


def another_vaults_plan(folder: Path) -> Outcome:
    """Vault A's plan is signed; the settings then name vault B: B's adapter must not settle it."""
    found = []
    for stage in ("journal_signed", "journal_sent"):
        d, sim = sub(folder, stage), chain()
        try:
            step(context(d, sim, checkpoint=at(stage, killed)))
        except Killed:
            later(sim, 3)
        told = ""
        try:
            report = step(context(d, sim, vault_address=OTHER, spec=replace(spec(), address=OTHER)))
            told = f"{report.outcome}, recovered {report.recovered}: {report.why}"
            wrong = report.recovered == "landed" or report.outcome == "traded"
        except Exception as error:
            told, wrong = f"{type(error).__name__}: {error}", False
        found.append(Outcome(not wrong, told[:80]))
    return joined(found, 1)


def false_clock(folder: Path) -> Outcome:
    """Market data six hours old where three are allowed, under clocks that are behind or ahead."""
    found = []
    for seconds in (0, -4 * 3_600, -86_400, -(10**8), 4 * 3_600, 10**8, -130, 130):
        d, sim = sub(folder, str(seconds)), chain()

        def clock(sim: Any = sim, seconds: int = seconds) -> datetime:
            return datetime.fromtimestamp(sim.head().time + seconds, UTC)

        def view(snapshot: Any, old: bool = abs(seconds) != 130) -> OffchainView:
            seen = datetime.fromtimestamp(snapshot.block_time, UTC)
            return OffchainView({}, COVARIANCE, 2_000.0, seen - timedelta(hours=6 if old else 0))

        told = run(context(d, sim, view=view, clock=clock))
        found.append(Outcome(executed(sim) == 0, f"clock {seconds:+,} s: {told[:40]}"))
    for ahead in (60, 7_200, 10**6):  # the data's own time is in the future
        d, sim = sub(folder, f"future{ahead}"), chain()

        def future(snapshot: Any, ahead: int = ahead) -> OffchainView:
            return OffchainView({}, COVARIANCE, 2_000.0, datetime.fromtimestamp(snapshot.block_time + ahead, UTC))

        told = run(context(d, sim, view=future))
        found.append(Outcome(ahead < 120 or executed(sim) == 0, f"data {ahead:,} s ahead: {told[:40]}"))
    traded = [f for f in found if not f.held]
    return Outcome(
        not traded, f"{len(traded)} of {len(found)} traded" + (f": {joined(traded, 2).figure}" if traded else "")
    )


def audit_rewritten(folder: Path) -> Outcome:
    """Cut the audit's end, with and without its head; remove both: is it seen, the vault's own count at hand?"""
    sim = chain()
    run(context(folder, sim))
    path, head = folder / "audit.jsonl", folder / "audit.jsonl.head"
    whole, noted = path.read_bytes(), head.read_bytes()
    lines = whole.splitlines(keepends=True)
    first = json.loads(lines[0])
    forged = json.dumps({"seq": first["seq"], "hash": first["hash"]}).encode()
    landed = [json.loads(line)["body"]["plan_hash"] for line in lines][-1]
    cases: dict[str, tuple[bytes | None, bytes | None]] = {
        "end cut": (b"".join(lines[:-1]), noted),
        "one byte changed": (whole.replace(b"a", b"b", 1), noted),
        "file removed": (None, noted),
        "head rewritten, record changed": (lines[0].replace(landed.encode(), b"0x" + b"1" * 64), forged),
        "both removed": (None, None),
    }
    unseen = []
    for what, (text, mark) in cases.items():
        for file, content in ((path, text), (head, mark)):
            file.unlink(missing_ok=True)
            if content is not None:
                file.write_bytes(content)
        if verify(path).ok and not against_the_vault(path, sim, landed):
            unseen.append(what)
    return Outcome(not unseen, f"unseen: {', '.join(unseen) or 'none'} of {len(cases)}")


def against_the_vault(path: Path, sim: Any, landed: str) -> list[str]:
    """Return where the audit differs from the vault's count of plans and its events; nothing where none is asked."""
    try:
        from policy.execution.vaults import anchored
    except ImportError:
        return []
    records = Audit(path).records() if path.exists() else ()
    plans = anchored.known(records, 31_337, VAULT)
    return anchored.faults(plans, sim.world.clock.nonce, lambda _nonce, _first, _last: [landed])


def power_cut(folder: Path) -> Outcome:
    """The head file is empty after a power cut: no false alarm, and the next record heals it."""
    sim = chain()
    run(context(folder, sim))
    whole = (folder / "audit.jsonl.head").read_bytes()
    found = []
    for torn in (b"", b"\0" * len(whole)):
        (folder / "audit.jsonl.head").write_bytes(torn)
        report = verify(folder / "audit.jsonl")
        found.append(Outcome(report.ok, f"{len(torn)} bytes of its head: {report.reason or 'sound'}"))
        Audit(folder / "audit.jsonl").append("note", {"ts": "x"})
        found.append(Outcome(verify(folder / "audit.jsonl").ok, "after the next record"))
    return joined(found, 2)


def flipped_bit(folder: Path) -> Outcome:
    """One bit of a closed record flips: the refusal names the repair, which restores it to the byte."""
    found = []
    for place in (100, 700, -40):
        d, sim = sub(folder, str(place)), chain()
        run(context(d, sim))
        path = d / "journal.jsonl"
        whole = path.read_bytes()
        raw = bytearray(whole)
        raw[place] ^= 1
        path.write_bytes(raw)
        later(sim, 400)
        live, dried = run(context(d, sim)), run(dry(context(d, sim)))
        mended = repaired(path) and path.read_bytes() == whole
        after = run(context(d, sim)) if mended else "not repaired"
        plain = "repair" in live and "repair" in dried and after in {"waited", "done", "traded"}
        text = f"byte {place}: {live[:46]}; then {after[:40]}"
        found.append(Outcome(plain and executed(sim) <= 2, text))
    return joined(found, 1)


def repaired(path: Path) -> bool:
    """Mend the log where the project can; return whether it did."""
    try:
        from policy.execution.records.mending import repair
    except ImportError:
        return False
    return bool(repair(path, "a flipped bit").restored)


LIMITED = """
import json, os, resource, signal, sys
from pathlib import Path
from tests.attacks.journal import run, executed, later, chain, context, dry, verify, read
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sim = chain()
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
outs = [run(context(folder, sim)), run(dry(context(folder, sim)))]
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
for _ in range(4):
    for _ in range(2): sim.mine()
    outs.append(run(context(folder, sim)))
sound, fault = verify(folder / "audit.jsonl").ok, read(folder / "journal.jsonl").fault
sys.stdout.write(json.dumps([outs, executed(sim), sound, fault]))
"""


def disk_full(folder: Path) -> Outcome:
    """The disk is full after so many bytes, then freed: one execution, sound logs, a sentence and no traceback."""
    raw, wrong, limits = 0, [], (0, 50, 500, 1_500, 2_500, 3_300, 4_500, 7_000, 10_000)
    for limit in limits:
        d = sub(folder, str(limit))
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, str(d), str(limit)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            wrong.append(f"{limit} B: {done.stderr.strip().splitlines()[-1][:80]}")
            continue
        outs, plans, sound, fault = json.loads(done.stdout)
        raw += any(o.startswith(("OSError", "PermissionError")) for o in outs)
        if plans != 1 or not sound or fault:
            wrong.append(f"{limit} B: {plans} plans, audit {sound}, {fault}")
    text = f"{len(limits)} limits: {len(wrong)} not one execution, {raw} raw errors"
    return Outcome(not wrong and not raw, text + (f" ({wrong[0]})" if wrong else ""))


def two_names(folder: Path) -> Outcome:
    """One journal under two names, by symbolic and by hard link: the second run must not get in."""
    found = []
    for kind in ("symbolic", "hard"):
        a, b, sim = sub(folder, f"{kind}a"), sub(folder, f"{kind}b"), chain()
        (a / "journal.jsonl").touch(mode=0o600)
        if kind == "symbolic":
            (b / "journal.jsonl").symlink_to(a / "journal.jsonl")
        else:
            os.link(a / "journal.jsonl", b / "journal.jsonl")
        inner: list[str] = []
        outer = run(
            context(
                a, sim, checkpoint=at("journal_signed", lambda b=b, sim=sim, i=inner: i.append(run(context(b, sim))))
            )
        )
        later(sim, 400)
        after = run(context(a, sim))
        fault = read(a / "journal.jsonl").fault
        fine = not fault and executed(sim) <= 2 and not after.startswith(("Journal", "ExecutionError", "OSError"))
        found.append(
            Outcome(fine, f"{kind}: inner {(inner or ['none'])[0][:24]}, outer {outer[:24]}, log {fault or 'sound'}")
        )
    return joined(found)


def two_engines(folder: Path) -> Outcome:
    """Two engines of one keeper with journals of their own; two processes on one journal."""
    a, b, sim = sub(folder, "a"), sub(folder, "b"), chain()
    inner: list[str] = []
    outer = run(context(a, sim, checkpoint=at("journal_signed", lambda: inner.append(run(context(b, sim))))))
    later(sim, 3)
    run(context(a, sim)), run(context(b, sim))
    plans = executed(sim)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom policy.execution.records.journal import Journal\n"
        f"with Journal(Path({str(b / 'journal.jsonl')!r})).lease():\n print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout is not None
        p.stdout.readline()
        told = run(context(b, sim))
        p.kill()
    return Outcome(
        plans == 1 and told.startswith("refused"),
        f"{plans} plan of two engines ({outer}); a second process: {told[:40]}",
    )


def emptied(folder: Path) -> Outcome:
    """The journal is put back to yesterday's, empty, while a transaction waits."""
    sim = chain()
    ctx = context(folder, sim, limits=Limits(confirmations=2, watch_blocks=1), wait=lambda _: None)
    try:
        step(replace(ctx, checkpoint=at("journal_sent", killed)))
    except Killed:
        (folder / "journal.jsonl").write_bytes(b"")
    outs = []
    for _ in range(3):
        outs.append(run(context(folder, sim)))
        later(sim, 3)
    return Outcome(executed(sim) == 1, f"{executed(sim)} execution; {', '.join(o[:20] for o in outs)}")


def killed_anywhere(folder: Path) -> Outcome:
    """Kill -9 at every stage, and the disk turns read-only after the send."""
    early = ("recover", "snapshot", "guards", "decide", "check", "simulate", "audit", "journal", "sign")
    late = ("journal_signed", "send", "journal_sent", "submit", "watch", "journal_mined", "audit_settled", "follow")
    stages = early + late
    wrong = []
    for stage in stages:
        d, sim = sub(folder, stage), chain()
        try:
            step(context(d, sim, checkpoint=at(stage, killed)))
        except Killed:
            later(sim, 2)
        for _ in range(2):
            run(context(d, sim))
            later(sim, 2)
        if executed(sim) != 1 or not verify(d / "audit.jsonl").ok or read(d / "journal.jsonl").fault:
            wrong.append(f"{stage}: {executed(sim)} executions")
    return Outcome(not wrong, f"{len(stages)} stages, {len(wrong)} not executed once {', '.join(wrong[:2])}".strip())


ATTACKS = [
    Attack("M1 deep reorganisation", "a landed plan is dropped, seen past its deadline", "folder", deep_reorganisation),
    Attack("M1 another chain", "a new chain or vault under an old journal", "folder", another_chain),
    Attack("M2 another's plan", "vault B settles vault A's plan", "folder", another_vaults_plan),
    Attack("M3 false clock", "stale and future data under a false clock", "folder", false_clock),
    Attack("L1 audit rewritten", "end cut, a record forged, file and head removed", "folder", audit_rewritten),
    Attack("L2 power cut", "the audit's head is empty", "folder", power_cut),
    Attack("L3 flipped bit", "in a long closed record of the journal", "folder", flipped_bit),
    Attack("L4 disk full", "at nine sizes, then freed", "folder", disk_full, short=False),
    Attack("L5 two names", "one journal by two names", "folder", two_names),
    Attack("held: two engines", "two engines, two processes", "folder", two_engines),
    Attack("held: emptied", "an old backup of the journal", "folder", emptied),
    Attack("held: kills", "kill -9 at every stage", "folder", killed_anywhere),
]
