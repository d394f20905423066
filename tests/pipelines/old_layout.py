"""Makes ``layout_0_1.tar.gz``, a project as version 0.1 left it: ``python -m tests.pipelines.old_layout`` in a clone.

The code of that version (commit e706a31) writes it: settings, a lake of few rows, an audit record, and a journal with a
plan that was sent and never looked up. The tests read the file; they need no history of the repository.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "e706a31"
FIXTURE = Path(__file__).with_name("layout_0_1.tar.gz")
VAULT = "0x" + "1" * 40
SETTINGS = f"""
[portfolio]
assets = ["BTC", "ETH"]
[vault]
kind = "reference"
address = "{VAULT}"
"""
WRITE = f"""
from datetime import datetime, timedelta
from pathlib import Path
from lake.sources.sample import simulate
from lake.store import Lake
from policy.execution.audit import Audit
from policy.execution.base import Hop, Leg, Plan
from policy.execution.journal import Attempt, Journal

made = simulate(hours=30)
for name in ("prices", "gas", "pool_state", "signals"):
    Lake("lake.data").write(name, made[name])
leg = Leg("0xa", "0xb", 10**24, 2**200, 2**201, (Hop("uniswap_v3", "0xp", "0xa", "0xb", 500),), "0xr", b"\\x01\\x02")
journal, audit = Journal(Path(".foredrift/journal")), Audit(Path(".foredrift/audit.jsonl"))
with journal.lease():
    for nonce in (7, 8):
        plan = Plan(f"d{{nonce}}", "{VAULT}", 1, nonce, 1_700_000_000, 10**30, (leg,), bytes([nonce]) * 32, 100, "0xh")
        attempt = Attempt("plan", f"0x{{nonce:064x}}", b"signed-bytes", 3, 500_000, 10**11, 10**9, "public", 100)
        journal.plan(plan, benefit_usd=12.5)
        journal.signed(attempt)
        audit.append("decision", {{"decision_id": plan.decision_id, "action": "trade"}})
        journal.sent(attempt.tx_hash, "no answer")
        if nonce == 7:
            journal.mined(attempt.tx_hash, 105, "0xblock", 1)
            journal.close("landed", "in block 105")
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        code, project = Path(scratch) / "code", Path(scratch) / "project"
        code.mkdir()
        project.mkdir()
        packed = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", str(code)], input=packed, check=True)
        (project / "foredrift.toml").write_text(SETTINGS)
        environment = os.environ | {"PYTHONPATH": str(code)}
        subprocess.run([sys.executable, "-c", WRITE], cwd=project, env=environment, check=True)
        for lock in project.rglob("*.lease"):
            lock.unlink()
        with tarfile.open(FIXTURE, "w:gz") as tar:
            for file in sorted(f for f in project.rglob("*") if f.is_file()):
                tar.add(file, file.relative_to(project).as_posix())
    print(f"{FIXTURE.name}: {FIXTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
