"""The scheduler of ``foredrift serve``: a local user, a web page in the operator's browser, parameters of his own."""

from __future__ import annotations

import inspect
import stat
from pathlib import Path

import httpx
import psutil
import pytest

from tests.attacks.outcome import Attack, Outcome, joined

EVIL = "https://evil.example"
PHRASE = "correct-horse-battery-PASSPHRASE"
ASKS = ("deployments/filter", "flow_runs/filter", "flows/filter", "variables/filter", "block_documents/filter")


def parameters(_folder: Path) -> Outcome:
    """A run is started with a settings file of the attacker's, or made live."""
    from prefect import Flow

    from pipelines import flows

    taken = [
        f"{name}({', '.join(found)})"
        for name, flow in vars(flows).items()
        if isinstance(flow, Flow) and (found := list(inspect.signature(flow.fn).parameters))
    ]
    return Outcome(not taken, f"flows with parameters: {', '.join(taken) or 'none'}")


def stranger(url: str) -> Outcome:
    """Ask and act without the password."""
    open_ = [a for a in ASKS if httpx.post(f"{url}/{a}", json={}, timeout=60).is_success]
    made = httpx.post(f"{url}/flows/", json={"name": "rebalance"}, timeout=60)
    for wrong in (("foredrift", "guess"), ("", "")):
        open_ += [a for a in ASKS[:2] if httpx.post(f"{url}/{a}", json={}, timeout=60, auth=wrong).is_success]
    open_ += ["flows/ (write)"] if made.is_success else []
    return Outcome(not open_, f"a stranger reads {len(open_)} of {2 * len(ASKS)} requests")


def foreign_page(url: str) -> Outcome:
    """Ask as a page of another origin would, with and without preflight, by other names of the host."""
    said = []
    asked = {"Origin": EVIL, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for method, headers in (("POST", {"Origin": EVIL}), ("OPTIONS", asked), ("POST", {"Origin": "null"})):
        answer = httpx.request(method, f"{url}/flows/filter", headers=headers, timeout=60)
        allowed = answer.headers.get("access-control-allow-origin")
        said += [f"{method} {allowed}"] if allowed else []
    return Outcome(not said, f"other origins: {', '.join(said) or 'refused'}")


def inherited(home: Path) -> Outcome:
    """Look for the passphrase in the environment of every process that was started, and for open files."""
    holding = [p.name() for p in psutil.Process().children(recursive=True) if PHRASE in p.environ().values()]
    loose = [p.name for p in (home.parent, home, *home.rglob("*"))
             if not p.is_symlink() and stat.S_IMODE(p.lstat().st_mode) & 0o077]  # fmt: skip
    text = f"{len(holding)} processes hold the passphrase, {len(loose)} files are open to others"
    return Outcome(not holding and not loose, text)


def served(folder: Path) -> Outcome:
    """Start the scheduler as ``foredrift serve`` does and attack it."""
    from pipelines.servers.prefect_server import scheduler

    home = folder / ".foredrift" / "prefect"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.setenv("FOREDRIFT_PASSPHRASE", PHRASE)
        with scheduler(home) as url:
            return joined([stranger(url), foreign_page(url), inherited(home)])


ATTACKS = [
    Attack("H2 parameters", "another settings file, or live, by a request", "folder", parameters),
    Attack("H2 scheduler", "a local user, a foreign page, the environment", "server", served, short=False),
]
