"""Run a cycle under the journal's lease; what the world refuses it is a verdict in the report, never an exception."""

from __future__ import annotations

from collections.abc import Callable

from lake.errors import RpcError
from policy.execution.attempts import Stopped
from policy.execution.base import OtherVault
from policy.execution.checks.verdicts import refused
from policy.execution.context import EngineContext, StepReport
from policy.execution.halting import HALTED
from policy.execution.observation import refuse
from policy.execution.records.halt import REMEDY
from policy.execution.records.hashlog import Damaged
from policy.execution.records.journal import VaultBusy


def contained(ctx: EngineContext, report: StepReport, cycle: Callable[[], None]) -> StepReport:
    """Run ``cycle`` and return ``report``: a lease, journal, node or disk that fails is refused there in words."""
    try:
        with ctx.journal.lease():
            ctx.journal.require(ctx.chain_id, ctx.vault_address)
            cycle()
    except VaultBusy as error:
        refuse(report, [refused("vault_busy", str(error))])
    except OtherVault as error:
        refuse(report, [refused("wrong_journal", str(error))])
    except Damaged as error:
        refuse(report, [refused("log_damaged", str(error))])
    except Stopped as error:
        _failed(ctx, report, HALTED, f"{error}; {REMEDY}")
    except RpcError as error:
        _failed(ctx, report, "rpc", f"the node did not answer: {error}")
    except OSError as error:
        _failed(ctx, report, "disk", _disk_words(error))
    return report


def _failed(ctx: EngineContext, report: StepReport, check: str, reason: str) -> None:
    """Report what failed underneath; what is on its way is looked up by the next step."""
    try:
        open_plan = ctx.journal.in_flight() is not None
    except OSError:
        open_plan = True  # nobody knows: the next run that can read the journal does
    if check == "disk":
        safe = "what was signed is journalled and is looked up, never sent anew," if open_plan else "nothing was sent;"
        reason = f"{reason}; {safe} free space or make it writable, then run again"
    refuse(report, [refused(check, reason)])
    if open_plan:
        report.outcome = "pending"


def _disk_words(error: OSError) -> str:
    """Return what the operating system refused, in words."""
    where = f" at {error.filename}" if error.filename else ""
    return f"the disk failed: {error.strerror or type(error).__name__}{where}"
