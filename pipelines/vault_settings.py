"""What the settings say of every vault of a project: one record with all that a decision about it may read of them.

``[portfolio]``, ``[chain]``, ``[vault]``, ``[policy]`` and ``[mandate]`` make the first one; ``[[deployments]]`` rows
join it. No two share a vault, a key on one chain, a journal, an audit record or a paper vault's file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipelines.hedge_section import HedgeSection
from pipelines.sections import (
    BridgeSection,
    ChainSection,
    CompareSection,
    CostsSection,
    FleetChain,
    LakeSection,
    MandateSection,
    MlflowSection,
    ModelsSection,
    PolicySection,
    PortfolioSection,
    ScheduleSection,
    Sources,
    TransfersSection,
    VaultSection,
    start_weights,
)
from pipelines.settings import Settings


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What the vaults of one portfolio on several chains share: the chains, the routes between them, the limits."""

    chains: tuple[FleetChain, ...]
    bridges: tuple[BridgeSection, ...]
    transfers: TransfersSection


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """One vault with its chain, portfolio, policy, limits and files; ``root`` is the project's folder.

    ``live``: whether scheduled runs execute what they decide; ``cron``: when they run, as given (``wiring.cron_at``
    says at which minute). ``label`` is what the rows of its decisions are marked with. ``hedge``: the account that
    stands beside the first one.
    """

    name: str
    label: str
    root: Path
    lake: LakeSection = field(repr=False)  # its options may open an object store
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
    schedule: ScheduleSection = field(repr=False)
    fleet: FleetSettings | None = field(default=None, repr=False)
    hedge: HedgeSection | None = field(default=None, repr=False)

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


def vaults_of(settings: Settings) -> tuple[VaultSettings, ...]:
    """Return the settings of every vault, that of the top sections first; those that share anything were not loaded."""
    given = settings
    fleet = FleetSettings(given.chains, given.bridges, given.transfers) if given.chains else None
    ids = {c.id for c in given.chains}
    found = [VaultSettings(
        given.portfolio.name, given.vault.address or given.vault.kind, given.root, given.lake, given.portfolio,
        given.chain, given.vault, given.policy, given.mandate, given.sources, given.costs, given.compare, given.models,
        given.mlflow, given.live_on_schedule, given.schedule.rebalance, given.schedule, fleet, given.hedge,
    )]  # fmt: skip
    for row in given.deployments:
        sources = given.sources.model_copy(update={"pools": row.pools or (), "feeds": row.feeds or ()})
        live = row.vault.kind == "simulated" if row.live is None else row.live
        found.append(VaultSettings(
            row.name, f"{row.name}: {row.vault.address or row.vault.kind}", given.root, given.lake, row.portfolio,
            row.chain, row.vault, row.policy, row.mandate, sources, given.costs, given.compare, given.models,
            given.mlflow, live, row.rebalance or given.schedule.rebalance, given.schedule,
            fleet if row.chain.id in ids else None,
        ))  # fmt: skip
    return tuple(found)
