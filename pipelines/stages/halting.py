"""``foredrift stop`` and ``resume``: the halt of a project, kept in its audit records, and the guardian's pause."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lake.errors import ForedriftError
from pipelines.monitor import notify
from pipelines.monitor.logs import log
from pipelines.settlements.halting import halt_of
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.context import private_folders
from policy.execution.records.audit import Audit
from policy.execution.records.halt import REMEDY

HEDGE = "hedge"  # the name of the hedge account among the vaults
PAUSABLE = "reference"  # the one kind of vault whose contract knows a guardian


@dataclass(frozen=True, slots=True)
class Project:
    """What stopping a project takes: its folder, its vaults, and the keystore of their guardian where there is one."""

    root: Path
    vaults: tuple[VaultSettings, ...]
    guardian: Path | None = None

    def path(self, relative: str) -> Path:
        """Return a project path, absolute."""
        return (self.root / relative).resolve()


def stop(project: Project, reason: str, by: str = "terminal") -> dict[str, Any]:
    """Halt every run and keeper of the project; a halt in force stays as it is.

    The file comes first: whatever fails after it, nothing is sent. Returns {halted, already, since, reason, by,
    audited, troubles, pauses: [{vault, paused, words}], text}; ``troubles`` says which record could not be kept.
    """
    given = halt_of(project)
    known = given.read()
    made = given.stop(datetime.now(UTC), reason, by)
    troubles = [] if known is not None else _audited(project, "halt", {"reason": made.reason, "by": by})
    key = project.guardian
    pauses = [] if key is None else [_paused(d, key) for d in project.vaults if d.vault.address and d.name != HEDGE]
    text = f"{made.words()}; nothing is decided, signed or sent until {REMEDY.removesuffix(' lets it go on')}"
    log("stop", reason=made.reason, by=by, already=known is not None)
    if known is None:
        notify.notify("stopped", "trading is stopped", text)
    return {
        "halted": True, "already": known is not None, "since": made.since, "reason": made.reason, "by": made.by,
        "audited": not troubles, "troubles": troubles, "pauses": pauses,
        "text": "\n".join([text, *(p["words"] for p in pauses), *troubles]),
    }  # fmt: skip


def resume(project: Project, by: str = "terminal") -> dict[str, Any]:
    """End the halt; the records of every vault are kept first, so that one that cannot be kept leaves it in force.

    What a guardian paused stays paused: only the vault's owner resumes it. Returns {halted, was, text}. Raises
    ForedriftError where a record cannot be kept.
    """
    given = halt_of(project)
    known = given.read()
    if known is None:
        return {"halted": False, "was": None, "text": "nothing was stopped"}
    troubles = _audited(project, "resume", {"reason": known.reason, "by": by})
    if troubles:
        raise ForedriftError(f"trading stays stopped: {'; '.join(troubles)}")
    given.resume()
    log("resume", by=by, was=known.reason)
    notify.notify("resumed", "trading goes on", f"it was stopped: {known.reason}")
    return {"halted": False, "was": known.words(), "text": f"trading goes on; {known.words().replace('is', 'was', 1)}"}


def _audited(project: Project, event: str, body: dict[str, str]) -> list[str]:
    """Append ``event`` to the audit record of every vault; return what could not be kept, in words."""
    troubles = []
    for one in project.vaults:
        try:
            private_folders(one)
            Audit(one.audit).append(event, {"ts": datetime.now(UTC).isoformat(), "deployment": one.name, **body})
        except (ForedriftError, OSError) as error:
            troubles.append(f"{one.name}: the audit record does not take it ({error})")
    return troubles


def _paused(one: VaultSettings, guardian: Path) -> dict[str, Any]:
    """Pause a vault with the guardian's key; what fails is said, and the halt holds all the same."""
    if one.vault.kind != PAUSABLE:
        return {"vault": one.name, "paused": False, "words": f"{one.name}: a {one.vault.kind} vault has no guardian"}
    from pipelines.vault_setup.onchain import keystore_signer
    from pipelines.vault_setup.sending import GUARDIAN, ahead_of, send_due
    from pipelines.wiring import rpc_of
    from policy.execution.base import UnsignedTx
    from policy.execution.vaults.reference.adapter import ReferenceVault

    try:
        rpc = rpc_of(one.chain)
        rpc.expect_chain(one.chain.id)
        vault = ReferenceVault(rpc, str(one.vault.address))

        def due() -> UnsignedTx | None:
            return None if vault.snapshot().paused else vault.pause()

        ahead = ahead_of(one, rpc, GUARDIAN)
        words = f"pause {vault.address}"
        receipt = None if due() is None else send_due(ahead, keystore_signer(guardian), words, due, GUARDIAN)
    except ForedriftError as error:
        words = f"{one.name}: the guardian could not pause the vault: {error}"
        return {"vault": one.name, "paused": False, "words": words}
    if receipt is None:
        return {"vault": one.name, "paused": True, "words": f"{one.name}: the vault is paused already"}
    return {"vault": one.name, "paused": True, "words": f"{one.name}: the guardian paused it in {receipt.tx_hash}"}
