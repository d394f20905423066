"""One decision cycle of one vault, from what was known to what is kept of it: lake rows, audit chain, notifications."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from lake.errors import ConfigError
from pipelines.monitor import notify
from pipelines.monitor.logs import log
from pipelines.reports.decision import Shown, as_shown, rules_off_chain
from pipelines.reports.words import Told, sentence
from pipelines.settlements.reconcile import reconcile
from pipelines.settlements.settled_plan import SettledPlan
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.abstaining import recorded
from pipelines.vault_setup.context import open_context, present
from pipelines.vault_setup.decider import Choice, decider
from pipelines.vault_setup.rates import remember
from pipelines.vault_setup.telling import told_of
from pipelines.wiring import lake_of
from policy.execution.base import Snapshot
from policy.execution.context import EngineContext, Part, StepReport
from policy.execution.engine import step
from policy.execution.records.audit import Audit

EVENTS = {"traded": "executed", "reverted": "failed"}
CLOCKS_APART = timedelta(minutes=5)  # at most, between a caller's moment and the time of a vault's chain


def run_cycle(
    deployment: VaultSettings,
    at: datetime | None,
    *,
    live: bool,
    on_plan: Callable[[Shown], None] | None = None,
    given: tuple[Choice, Part] | None = None,
) -> dict[str, Any]:
    """Decide at ``at`` (None: the present) and, if ``live``, execute; return the report.

    ``on_plan`` is called with the plan before anything is signed. A refusal is an outcome with its verdicts, not an
    exception. ``given``: who decides, and this vault's part of what was decided on a whole portfolio; None: the policy
    decides on this vault alone. Raises ConfigError where vault, chain and signer do not fit together, and where ``at``
    is not the present of a vault on a chain; NotEnoughData, which the audit record keeps too, where the lake does not
    reach ``at``.
    """
    at = moment_of(deployment, at)
    if live and deployment.vault.kind == "safe" and deployment.vault.access == "proposal":
        from pipelines.vault_setup.proposing import run_proposal

        vault = deployment.vault  # without a key that pays gas the owners execute what they signed
        return run_proposal(deployment, live=bool(vault.keystore or vault.signer_url), on_plan=on_plan)
    lake = lake_of(deployment)
    record = Audit(deployment.audit)  # one reader: every byte of it is read once a run
    announce_executions(deployment, reconcile(deployment, lake, record))
    with recorded(deployment, record, at):
        choice = decider(deployment, lake, at) if given is None else given[0]
    planned: list[str] = []
    with open_context(deployment, at, choice, live=live) as ctx:
        seen = ctx.vault.snapshot()
        off_chain = rules_off_chain(ctx.vault.describe())

        def shown_as(report: StepReport) -> dict[str, Any]:
            return as_shown(report, choice.note, seen) | {"rules_off_chain": off_chain}

        def show_plan(draft: StepReport) -> None:
            planned.append(draft.decision_id)
            if on_plan is not None:
                on_plan(shown_as(draft))

        part = None if given is None else given[1]
        report = _stepped(replace(ctx, on_plan=show_plan, audit=record, part=part), seen)
        remember(deployment, ctx.vault)
    shown = shown_as(report)
    if on_plan is not None and not planned:
        on_plan(shown)
    announce_executions(deployment, reconcile(deployment, lake, record))
    log(
        "decision", decision_id=report.decision_id, outcome=report.outcome, policy=report.policy, at=at.isoformat(),
        why=report.why, live=live,
    )  # fmt: skip
    announce_decision(deployment, choice, shown)
    return shown


def _stepped(ctx: EngineContext, seen: Snapshot) -> StepReport:
    """Run one cycle; where the vault takes one leg a call, one for each leg as long as they land."""
    report = step(ctx)
    for _ in range(len(seen.tokens) - 1 if seen.max_legs == 1 else 0):
        if report.outcome != "traded":
            break
        following = step(ctx)
        if following.outcome in {"waited", "done"}:
            break
        following.weights_before = report.weights_before
        following.why = f"{following.why}; a leg landed before it" if following.outcome != "traded" else following.why
        report = following
    return report


def moment_of(deployment: VaultSettings, at: datetime | None) -> datetime:
    """Return the moment to decide at: ``at``, or the present; a vault on a chain knows no other than the present."""
    if at is not None and deployment.vault.kind == "simulated":
        return at
    real = present(deployment)
    if at is not None and abs(at - real) > CLOCKS_APART:
        raise ConfigError(
            f"{deployment.name}: asked to decide at {at.isoformat()} while its chain stands at {real.isoformat()}; "
            "only the simulated vault replays another moment"
        )
    return real if at is None else at


def announce_decision(deployment: VaultSettings, choice: Choice, shown: Shown) -> None:
    """Notify people of a refusal, tokens left alone, a NAV that the market denies, and a fallback that decided."""
    if shown["outcome"] == "refused":
        told = Told(shown["action"], shown["outcome"], shown["why"], shown["verdicts"])
        notify.notify("refused", f"{shown['policy']} refused", sentence(told))
    if shown["untradable"]:
        names = ", ".join(u["symbol"] for u in shown["untradable"])
        notify.notify("untradable", f"{names} left alone", "\n".join(u["reason"] for u in shown["untradable"]))
    if shown["nav_denied"]:
        notify.notify("denied", "the market denies the vault's NAV", shown["nav_denied"])
    if choice.abstained:
        notify.notify("abstained", f"{deployment.policy.fallback} decided", choice.note)


def announce_executions(deployment: VaultSettings, done: Sequence[SettledPlan]) -> None:
    """Notify people of executions that are new to the lake, also of those that an earlier, killed run left: a sentence
    each.
    """
    for execution in done:
        decision = execution.decision
        log("execution", decision_id=decision["decision_id"], outcome=execution.outcome, at=execution.at.isoformat())
        words = sentence(told_of(deployment, decision, execution.outcome))
        notify.notify(EVENTS[execution.outcome], f"{decision['policy']} {execution.outcome}", words)
