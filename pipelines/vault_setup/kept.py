"""What the desks of a keeper share: a choice renewed once an hour, the rule that decides at a block, the records."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from lake.errors import ForedriftError
from lake.store import Lake
from pipelines.monitor.logs import log
from pipelines.settlements.reconcile import reconcile
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.abstaining import recorded
from pipelines.vault_setup.cycle import announce_executions
from pipelines.vault_setup.decider import Choice, decider
from pipelines.vault_setup.kept_surface import KeptSurface
from pipelines.wiring import cron_at, lake_of, now
from policy.base import Policy
from policy.execution.records.audit import Audit
from policy.keeping.desk import Occasion
from policy.memory import PolicyMemory
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.reactive import GAS_BAND
from policy.strategies.surface_rule import SurfaceRule

RENEW_S = 3_600


@dataclass(slots=True)
class Standing:
    """One deployment's choice of the hour (policy, forecasts, covariance, prices of the lake), and its records."""

    deployment: VaultSettings
    choice: Choice | None = None
    at_s: int = -RENEW_S
    lake: Lake = field(init=False)
    audit: Audit = field(init=False)
    surface: KeptSurface = field(init=False)

    def __post_init__(self) -> None:
        self.lake, self.audit = lake_of(self.deployment), Audit(self.deployment.audit)
        self.surface = KeptSurface(self.deployment, self.lake)

    def renewed(self, time_s: int) -> Choice:
        """Return the choice in force at ``time_s`` (Unix), taken anew once an hour; NotEnoughData where there is none.

        Where the lake cannot give a new one, the last one stands until its data are too old for the engine's guards.
        """
        if self.choice is not None and 0 <= time_s - self.at_s < RENEW_S:
            return self.choice
        at = datetime.fromtimestamp(time_s, UTC)
        try:
            with recorded(self.deployment, self.audit, at):
                self.choice = decider(self.deployment, self.lake, at)
        except ForedriftError as error:
            if self.choice is None:
                raise
            log("choice", vault=self.deployment.name, kept=self.at_s, error=str(error))
        self.at_s = time_s
        return self.choice

    def record(self) -> None:
        """Write what a cycle left in audit and journal to the lake, and tell people of executions."""
        announce_executions(self.deployment, reconcile(self.deployment, self.lake, self.audit))


def rule_at(standing: Standing, choice: Choice, occasion: Occasion) -> Policy:
    """Return who decides: the configured policy at the hour; at any other block the surface in force, else gas_band."""
    if occasion.scheduled:
        return choice.policy
    at = datetime.fromtimestamp(occasion.head.timestamp_s, UTC)
    memory = standing.surface.memory(at)
    if memory is not None:
        return RulePolicy(SurfaceRule(memory), memory)
    return RulePolicy(GAS_BAND, PolicyMemory(GAS_BAND.name, at, {}))


def minute_s(deployment: VaultSettings) -> int:
    """Return the seconds into the hour at which the schedule's rebalance is due; 0 for a cron of several minutes."""
    minute = cron_at(deployment, now()).split()[0]
    return 60 * int(minute) if minute.isdecimal() else 0
