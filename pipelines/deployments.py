"""Deployments: every vault of a project as one record, with all that a decision about it is told by the settings.

``[portfolio]``, ``[chain]``, ``[vault]``, ``[policy]`` and ``[mandate]`` make the first one; ``[[deployments]]`` rows
join it. No two share a vault, a key on one chain, a journal, an audit record or a paper vault's file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lake.errors import ConfigError
from pipelines.sections import (
    ChainSection,
    CompareSection,
    CostsSection,
    MandateSection,
    MlflowSection,
    ModelsSection,
    PolicySection,
    PortfolioSection,
    Sources,
    VaultSection,
    start_weights,
)
from pipelines.setting_types import nearest
from pipelines.settings import Settings


@dataclass(frozen=True, slots=True)
class Deployment:
    """One vault with its chain, portfolio, policy, limits and files; ``root`` is the project's folder.

    ``live``: whether scheduled runs execute what they decide; ``cron``: when they run. ``label`` is what the rows of
    its decisions are marked with.
    """

    name: str
    label: str
    root: Path
    portfolio: PortfolioSection
    chain: ChainSection
    vault: VaultSection
    policy: PolicySection
    mandate: MandateSection
    sources: Sources
    costs: CostsSection
    compare: CompareSection
    models: ModelsSection
    mlflow: MlflowSection
    live: bool
    cron: str

    def path(self, relative: str) -> Path:
        """Return a project path, absolute."""
        return (self.root / relative).resolve()

    @property
    def journal(self) -> Path:
        """File of the plans in flight."""
        return self.path(self.vault.journal)

    @property
    def audit(self) -> Path:
        """File of the record of every decision."""
        return self.path(self.vault.audit)

    @property
    def start_weights(self) -> dict[str, float]:
        """What the paper vault begins with; see ``pipelines.sections.start_weights``."""
        return start_weights(self.portfolio, self.vault)


def first(settings: Settings) -> Deployment:
    """Return the deployment of the sections at the top of the file."""
    given = settings
    return Deployment(
        given.portfolio.name, given.vault.address or given.vault.kind, given.root, given.portfolio, given.chain,
        given.vault, given.policy, given.mandate, given.sources, given.costs, given.compare, given.models, given.mlflow,
        given.live_on_schedule, given.schedule.rebalance,
    )  # fmt: skip


def deployments(settings: Settings) -> tuple[Deployment, ...]:
    """Return the project's deployments, that of the top sections first; those that share anything were not loaded."""
    found = [first(settings)]
    for row in settings.deployments:
        sources = settings.sources.model_copy(update={"pools": row.pools or (), "feeds": row.feeds or ()})
        live = row.vault.kind == "simulated" if row.live is None else row.live
        found.append(Deployment(
            row.name, f"{row.name}: {row.vault.address or row.vault.kind}", settings.root, row.portfolio, row.chain,
            row.vault, row.policy, row.mandate, sources, settings.costs, settings.compare, settings.models,
            settings.mlflow, live, row.rebalance or settings.schedule.rebalance,
        ))  # fmt: skip
    return tuple(found)


def chosen(settings: Settings, name: str | None) -> tuple[Deployment, ...]:
    """Return the deployment called ``name`` alone, or all of them (None)."""
    return deployments(settings) if name is None else (deployment(settings, name),)


def deployment(settings: Settings, name: str | None = None) -> Deployment:
    """Return the deployment called ``name`` (None: the first). Raises ConfigError naming those that there are."""
    known = {d.name: d for d in deployments(settings)}
    if name is None:
        return first(settings)
    if name not in known:
        raise ConfigError(f"there is no deployment {name!r}{nearest(name, known)} (there are: {', '.join(known)})")
    return known[name]
