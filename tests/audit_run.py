"""Insecure patterns and known vulnerabilities, part by part: ``make audit``.

A part that could not reach its advisory data says NOT CHECKED and fails the target: silence is never taken for clean.
Exit 0 when every part is clean, 1 on findings, 3 when nothing was found but a part could not look.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
FOLDERS = ("lake", "features", "models", "policy", "pipelines")
PARTS: dict[str, list[str]] = {
    "bandit (own code)": [str(BIN / "bandit"), "-q", "-c", "pyproject.toml", "-r", *FOLDERS],
    "pip-audit (requirements.lock)": [
        str(BIN / "pip-audit"), "--strict", "-r", "requirements.lock", "--disable-pip", "--require-hashes",
        *os.environ.get("PIP_AUDIT_ARGS", "").split(),
    ],
    "npm audit (local chain)": [
        "npm", "audit", "--prefix", "policy/localnet", "--package-lock-only", "--no-fund", "--omit=peer",
    ],
}  # fmt: skip
UNREACHED = (  # what the tools say when they had no data, as opposed to when they found something
    "could not be audited", "audit endpoint returned an error", "Connection", "Max retries", "ServiceError",
    "ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED",
)  # fmt: skip
CLEAN, FOUND, NOT_CHECKED = "clean", "FINDINGS", "NOT CHECKED"


@dataclass(frozen=True)
class Outcome:
    """What one part came to, and the line of its output that says why."""

    part: str
    verdict: str
    why: str = ""


def judge(part: str, code: int, said: str) -> Outcome:
    """Return the outcome of a part that ended with ``code`` and printed ``said``."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if code == 0:
        return Outcome(part, CLEAN)
    unreached = [line for line in lines if any(hint in line for hint in UNREACHED)]
    if unreached:
        return Outcome(part, NOT_CHECKED, unreached[0])
    return Outcome(part, FOUND, lines[-1] if lines else f"exit code {code}")


def run(part: str, command: list[str]) -> Outcome:
    """Run one part; a tool that is missing did not check."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    except FileNotFoundError:
        return Outcome(part, NOT_CHECKED, f"{command[0]} is not installed")
    outcome = judge(part, done.returncode, done.stdout + done.stderr)
    if outcome.verdict == FOUND:
        print(done.stdout + done.stderr)
    return outcome


def exit_code(outcomes: list[Outcome]) -> int:
    verdicts = {o.verdict for o in outcomes}
    return 1 if FOUND in verdicts else 3 if NOT_CHECKED in verdicts else 0


def main() -> int:
    outcomes = [run(part, command) for part, command in PARTS.items()]
    for o in outcomes:
        print(f"{o.part:<32} {o.verdict}{': ' + o.why if o.why else ''}")
    if exit_code(outcomes) == 3:
        print("\nNothing was found, but not every part had data to look with: this is NOT a clean audit.")
        print("Run it where the advisory services are reachable (PIP_AUDIT_ARGS is handed to pip-audit).")
    return exit_code(outcomes)


if __name__ == "__main__":
    sys.exit(main())
