"""Deployments: every vault of a project with its chain, policy, memory and files, and the step that a cycle takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lake.errors import ConfigError
from pipelines.setting_types import nearest
from pipelines.settings import Settings
from pipelines.vault_settings import VaultSettings, vaults_of

if TYPE_CHECKING:
    from policy.memory import PolicyMemory


@dataclass(frozen=True, slots=True)
class Deployment(VaultSettings):
    """A vault in operation. Schedules, the command line and whatever wakes a vault call ``step``, and nothing else."""

    def memory(self, at: datetime) -> PolicyMemory:
        """Return what the configured policy knows at ``at``; a lesson it lacks is learnt and kept in the lake."""
        from pipelines.vault_setup.decider import memory_at
        from pipelines.wiring import lake_of

        return memory_at(self, lake_of(self), at)

    def step(
        self,
        at: datetime | None = None,
        *,
        live: bool = False,
        on_plan: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Run one decision cycle at ``at`` (None: the present) and return its report; ``live`` executes it.

        ``on_plan`` is called with the plan before anything is signed. A refusal is an outcome with its verdicts, not an
        exception. Safe to call again, and by two at once: the vault's lease and journal let one plan be in flight, and
        the decision of an epoch is executed once. Raises ConfigError where vault, chain and signer do not fit together,
        or where ``at`` is not the present of a vault on a chain; NotEnoughData where the lake does not reach ``at``.
        """
        from pipelines.vault_setup.cycle import run_cycle

        return run_cycle(self, at, live=live, on_plan=on_plan)


def deployments(settings: Settings) -> tuple[Deployment, ...]:
    """Return the project's deployments, that of the top sections first."""
    return tuple(Deployment(**{f.name: getattr(v, f.name) for f in fields(v)}) for v in vaults_of(settings))


def chosen(settings: Settings, name: str | None) -> tuple[Deployment, ...]:
    """Return the deployment called ``name`` alone, or all of them (None)."""
    return deployments(settings) if name is None else (deployment(settings, name),)


def deployment(settings: Settings, name: str | None = None) -> Deployment:
    """Return the deployment called ``name`` (None: the first). Raises ConfigError naming those that there are."""
    known = {d.name: d for d in deployments(settings)}
    if name is None:
        return next(iter(known.values()))
    if name not in known:
        raise ConfigError(f"there is no deployment {name!r}{nearest(name, known)} (there are: {', '.join(known)})")
    return known[name]
