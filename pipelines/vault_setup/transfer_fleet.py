"""The vaults of one portfolio on several chains, what they share, and what a run sees of their opened chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lake.errors import ConfigError
from lake.units import duration
from pipelines.sections import BridgeSection
from pipelines.sections.chains import ROWS
from pipelines.vault_settings import FleetSettings, VaultSettings
from policy.execution.transfers.ends import RouteKey, TransferContext, TransferRules
from policy.execution.transfers.journal import TransferLog
from policy.execution.transfers.saga import Saga


@dataclass(frozen=True, slots=True)
class Fleet:
    """The vaults of one portfolio on several chains, by chain id, and what they share."""

    members: Mapping[int, VaultSettings]
    shared: FleetSettings

    @property
    def first(self) -> VaultSettings:
        """The deployment whose folder the transfers lie beside."""
        return next(iter(self.members.values()))

    @property
    def on_paper(self) -> bool:
        """Whether its chains are simulated ones."""
        return self.first.vault.kind == "simulated"

    @property
    def log(self) -> TransferLog:
        """The journal of the transfers."""
        return TransferLog(self.first.path(self.shared.transfers.journal))

    @property
    def cash(self) -> str:
        """The asset that moves."""
        return self.shared.bridges[0].token if self.shared.bridges else "USDC"

    def kind(self, route: BridgeSection) -> str:
        """Return the row of ``lake.universe.BRIDGES`` that a route is: the simulated one on paper."""
        return ROWS[route.kind] if self.on_paper else route.kind

    def key(self, route: BridgeSection) -> RouteKey:
        """Return the key of a route's bridge."""
        return self.kind(route), route.origin, route.destination


class OpenFleet(Protocol):
    """The opened chains of a fleet. ``looks``: of one run at every transfer, with ``mine`` between two of them."""

    fleet: Fleet
    context: TransferContext
    looks: int

    def mine(self) -> None:
        """Let a block pass where that is ours to do: on paper."""
        ...

    def others_act(self, sagas: Sequence[Saga]) -> None:
        """Play what other people do to transfers: on paper."""
        ...

    def flow(self, chain_id: int, usd: float) -> None:
        """Do as an investor does on one chain; ConfigError where the vault is not on paper."""
        ...


def decides_as_one(deployment: VaultSettings) -> bool:
    """Return whether the vault is one of several that are decided on as one portfolio."""
    return deployment.fleet is not None and deployment.fleet.transfers.weights == "portfolio"


def leader(project: Sequence[VaultSettings], deployment: VaultSettings) -> VaultSettings:
    """Return the vault whose runs and keeper decide for ``deployment``: of one portfolio the first, else itself."""
    if not decides_as_one(deployment):
        return deployment
    return next(d for d in project if decides_as_one(d))


def kept_alone(deployment: VaultSettings) -> None:
    """Return where a keeper may decide on the vault by itself; ConfigError where it is part of a decision on a whole.

    A look at one vault knows its distance from its own targets; a whole portfolio's is measured over all chains.
    """
    if decides_as_one(deployment):
        raise ConfigError(
            f"{deployment.name} is decided on with the other chains of its portfolio and has no keeper of its own: "
            'keep the portfolio\'s first vault, or set [transfers] weights = "chain"'
        )


def fleet_of(project: Sequence[VaultSettings]) -> Fleet:
    """Return the fleet of a project's deployments; ConfigError where it has none, or vaults that cannot join one."""
    members = {d.chain.id: d for d in project if d.fleet is not None}
    shared = next((d.fleet for d in project if d.fleet is not None), None)
    if shared is None:
        raise ConfigError("there is one chain; transfers need two or more [[chains]] in the settings")
    kinds = {d.vault.kind for d in members.values()}
    if len(kinds) > 1:
        words = ", ".join(f"{d.name} is {d.vault.kind}" for d in members.values())
        raise ConfigError(f"{words}: the vaults of one portfolio are all on paper or all on their chains")
    if not kinds <= {"simulated", "reference"}:
        raise ConfigError(
            f"{', '.join(d.name for d in members.values())}: transfers leave by the port of a reference vault; a "
            f"{kinds.pop()} vault has none, so its chains cannot be one portfolio"
        )
    return Fleet(members, shared)


def not_begun(fleet: Fleet) -> list[str]:
    """Return the names of the fleet's paper vaults that have no state yet."""
    return [d.name for d in fleet.members.values() if fleet.on_paper and not d.path(d.vault.state).exists()]


def rules_of(fleet: Fleet) -> TransferRules:
    """Return the machine's bounds as set."""
    given = fleet.shared.transfers
    rows = {b.kind: fleet.kind(b) for b in fleet.shared.bridges}
    return TransferRules(
        max_share=given.max_transfer_share,
        max_in_transit_share=given.max_in_transit_share,
        max_bridge_day_share=given.max_bridge_day_share,
        max_open=given.max_open,
        max_usd={fleet.key(b): b.max_transfer_usd for b in fleet.shared.bridges},
        overdue_s={rows[k]: duration(v).total_seconds() for k, v in given.overdue.items() if k in rows},
        unverified_haircut=given.haircut,
    )
