"""What ``foredrift doctor`` says of the routes of cash between chains: each tried dry, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lake.errors import ConfigError, ForedriftError
from pipelines.sections import BridgeSection
from pipelines.stages.transfers import Project
from pipelines.vault_setup.transfer_fleet import Fleet, OpenFleet, fleet_of
from pipelines.vault_setup.transfer_opening import opened_to_look
from policy.execution.transfers.checks import price_e8
from policy.execution.transfers.planning import Wish, plan_transfer

SAMPLE_USD = 1.0
PRICE_ROOM = 0.02
"""The settings count in USD, a port in units of the cash: its price may move so far before they differ."""


def route_findings(project: Project) -> Iterator[dict[str, Any]]:
    """Yield a finding {check, level, found, do} for every route: a dollar is quoted and checked on both chains, dry.

    Nothing where the project has one chain; nothing is signed or written. A route without one back is a warning.
    """
    if all(d.fleet is None for d in project):
        return
    try:
        fleet = fleet_of(project)
        paper = opened_to_look(fleet)
    except ConfigError as error:
        yield {"check": "transfers", "level": "warn", "found": str(error), "do": "see docs/cross-chain.md"}
        return
    except ForedriftError as error:
        yield {
            "check": "transfers",
            "level": "error",
            "found": f"a chain cannot be read: {error}",
            "do": "see docs/cross-chain.md",
        }
        return
    if paper is None:
        do = "foredrift rebalance --live for each deployment"
        yield {"check": "transfers", "level": "warn", "found": "not every vault has begun", "do": do}
        return
    for b in fleet.shared.bridges:
        yield _route(fleet, paper, b)


def _route(fleet: Fleet, paper: OpenFleet, b: BridgeSection) -> dict[str, Any]:
    check = f"route {b.origin} to {b.destination} ({b.kind})"
    ways = {(x.origin, x.destination) for x in fleet.shared.bridges}
    if (b.destination, b.origin) not in ways:
        words = f"no [[bridges]] row leads back from {b.destination} to {b.origin}: money there could not come home"
        return {"check": check, "level": "warn", "found": words, "do": "add the row back"}
    cash = paper.context.ends[b.origin].cash
    wish = Wish(fleet.kind(b), b.origin, b.destination, b.route, int(SAMPLE_USD * 10**cash.decimals), "a check")
    try:
        made = plan_transfer(paper.context, wish)
    except ForedriftError as error:
        return {"check": check, "level": "error", "found": str(error), "do": "see docs/cross-chain.md"}
    said = [f"{v.check}: {v.reason}" for v in made.verdicts] + list(_other_limits(paper, b))
    if not said:
        return {"check": check, "level": "ok", "found": "quoted and checked on both chains", "do": ""}
    words = "; ".join(said)
    return {"check": check, "level": "warn", "found": words, "do": "docs/cross-chain.md says what each name means"}


def _other_limits(paper: OpenFleet, b: BridgeSection) -> Iterator[str]:
    """Say where the limits of the port's own row are below those set: a transfer within the settings would revert."""
    end = paper.context.ends[b.origin]
    row, snapshot = end.vault.port_route(b.route), end.vault.snapshot()
    price = price_e8(snapshot, end.cash.address) / 1e8
    if row is None or price <= 0:
        return
    unit = price / 10**end.cash.decimals
    for name, set_usd, raw in (
        ("max_transfer_usd", b.max_transfer_usd, row.max_one),
        ("max_transit_usd", b.max_transit_usd, row.max_in_transit),
    ):
        if raw * unit < set_usd * (1 - PRICE_ROOM):
            yield f"route_mismatch: {name} is {set_usd:,.0f}, the port's row allows {raw * unit:,.0f} USD"
