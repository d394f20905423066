"""One decision cycle of a portfolio over several chains: decided once on the whole, each vault trades its part.

Every vault's own cycle runs as always, with its guards, its mandate, its journal; only what it is asked to do comes
from the whole. A run that dies between two vaults leaves the rest to the next one, which decides on where the money is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lake.store import Lake
from pipelines.reports.decision import Shown
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.abstaining import recorded
from pipelines.vault_setup.cycle import moment_of, run_cycle
from pipelines.vault_setup.decider import Choice, decider
from pipelines.vault_setup.transfer_fleet import fleet_of
from pipelines.vault_setup.whole_look import WholeLook, look_at_whole
from pipelines.wiring import lake_of
from policy.base import Decision, Policy, State
from policy.chains.deciding import WholeDecision, cheapest, decide_whole, part_of
from policy.chains.recorded import placement_json, whole_json
from policy.execution.records.audit import Audit


@dataclass(frozen=True, slots=True)
class WholePart:
    """What the vault on ``chain_id`` does of ``whole``: an engine's Part."""

    whole: WholeDecision
    chain_id: int

    def decide(self, here: State, untradable: Sequence[int]) -> tuple[State, Decision, Decision]:
        """Return what the policy was asked, its answer, and this vault's part of it."""
        return self.whole.asked, self.whole.said, part_of(self.whole, self.chain_id, here, untradable)

    def record(self) -> Mapping[str, Any]:
        """Return the whole decision."""
        return whole_json(self.whole)


@dataclass(frozen=True, slots=True)
class Apart:
    """No part: the whole could not be decided on, for the reason ``why``; the vault waits. An engine's Part."""

    why: str

    def decide(self, here: State, untradable: Sequence[int]) -> tuple[State, Decision, Decision]:
        """Return a decision to wait."""
        del untradable
        said = Decision("wait", here.weights, 0.0, 0.0, 0.0, f"the portfolio waits: {self.why}")
        return here, said, said

    def record(self) -> Mapping[str, Any]:
        """Return why."""
        return {"waits": self.why}


@dataclass(frozen=True, slots=True)
class WholeCycle:
    """What a cycle of the whole did: every vault's report by name, and the decision they are parts of (None: none)."""

    reports: Mapping[str, dict[str, Any]]
    look: WholeLook
    whole: WholeDecision | None

    def json(self) -> dict[str, Any]:
        """Return the decision for reports: where it is traded, what cash goes first, why it waits."""
        made = None if self.whole is None else placement_json(self.whole)
        p = self.look.portfolio
        return {
            "nav_usd": None if p is None else p.nav_usd,
            "in_transit_usd": None if p is None else p.in_transit / 1e18,
            "weights": None if self.whole is None else [float(w) for w in self.whole.asked.weights],
            "wanted": None if self.whole is None else [float(w) for w in self.whole.said.weights],
            "action": "wait" if self.whole is None else self.whole.said.action,
            "placement": made,
            "waits": self.look.why,
        }

    def placed(self) -> dict[str, Any] | None:
        """Return what ``placed`` below does."""
        names = {c: self.reports[one.deployment.name]["decision_id"] for c, one in self.look.looks.items()}
        return placed(self.whole, names)


def placed(whole: WholeDecision | None, plans: Mapping[int, str]) -> dict[str, Any] | None:
    """Return {change_usd: by chain and asset, plans: the vaults' decisions by chain}; None where nothing is traded.

    The decisions ``plans`` name what was executed, or refused, of each part.
    """
    if whole is None or whole.placement is None or not whole.placement.trades:
        return None
    assets = whole.portfolio.assets
    change = {t.chain_id: dict(zip(assets, map(float, t.change_usd), strict=True)) for t in whole.placement.trades}
    return {"change_usd": change, "plans": dict(plans)}


def run_whole(
    project: Sequence[VaultSettings],
    at: datetime | None,
    *,
    live: Callable[[VaultSettings], bool],
    on_plan: Callable[[Shown], None] | None = None,
) -> WholeCycle:
    """Decide on all chains of ``project`` at ``at``; the vaults that are ``live`` execute their parts in turn.

    Raises as ``run_cycle`` does.
    """
    fleet = fleet_of(project)
    moments = {c: moment_of(d, at) for c, d in fleet.members.items()}
    lake = lake_of(fleet.first)
    choices = {c: _choice(d, lake, moments[c]) for c, d in fleet.members.items()}
    look = look_at_whole(fleet, choices, lake, max(moments.values()))
    whole = decided(look, {c: one.policy for c, one in choices.items()})
    asked = None if whole is None else choices[cheapest(whole.portfolio.places).chain_id]
    reports = {}
    for chain_id, deployment in fleet.members.items():
        part = Apart(look.why) if whole is None else WholePart(whole, chain_id)
        own = choices[chain_id]
        given = own if asked is None else replace(own, policy=asked.policy, note=asked.note, abstained=asked.abstained)
        reports[deployment.name] = run_cycle(
            deployment, moments[chain_id], live=live(deployment), on_plan=on_plan, given=(given, part)
        )  # fmt: skip
    return WholeCycle(reports, look, whole)


def _choice(deployment: VaultSettings, lake: Lake, at: datetime) -> Choice:
    with recorded(deployment, Audit(deployment.audit), at):
        return decider(deployment, lake, at)


def decided(look: WholeLook, policies: Mapping[int, Policy]) -> WholeDecision | None:
    """Ask the policy of the chain where a swap costs least, whose gas is the whole's; None: the look says why.

    ``policies`` by chain; each is given the forecasts that its chain's choice was made with.
    """
    if look.portfolio is None or look.terms is None:
        return None
    chain_id = cheapest(look.portfolio.places).chain_id
    policy, forecasts = policies[chain_id], look.looks[chain_id].choice.forecasts
    return decide_whole(look.portfolio, lambda state: policy.decide(state, forecasts), look.terms)
