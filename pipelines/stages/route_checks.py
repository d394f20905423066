"""What ``foredrift doctor`` says of the routes of cash between chains: each tried dry, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lake.errors import ConfigError, ForedriftError
from pipelines.sections import BridgeSection
from pipelines.sections.chains import ROWS
from pipelines.stages.transfers import Project
from pipelines.vault_setup.transfer_view import opened_to_look
from pipelines.vault_setup.transfer_world import Fleet, PaperFleet, fleet_of
from policy.execution.transfers.planning import Wish, plan_transfer

SAMPLE_USD = 1.0


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
    if paper is None:
        do = "foredrift rebalance --live for each deployment"
        yield {"check": "transfers", "level": "warn", "found": "not every vault has begun", "do": do}
        return
    for b in fleet.shared.bridges:
        yield _route(fleet, paper, b)


def _route(fleet: Fleet, paper: PaperFleet, b: BridgeSection) -> dict[str, Any]:
    check = f"route {b.origin} to {b.destination} ({b.kind})"
    ways = {(x.origin, x.destination) for x in fleet.shared.bridges}
    if (b.destination, b.origin) not in ways:
        words = f"no [[bridges]] row leads back from {b.destination} to {b.origin}: money there could not come home"
        return {"check": check, "level": "warn", "found": words, "do": "add the row back"}
    cash = paper.ends[b.origin].cash
    wish = Wish(ROWS[b.kind], b.origin, b.destination, b.route, int(SAMPLE_USD * 10**cash.decimals), "a check")
    try:
        made = plan_transfer(paper.context, wish)
    except ForedriftError as error:
        return {"check": check, "level": "error", "found": str(error), "do": "see docs/cross-chain.md"}
    if not made.verdicts:
        return {"check": check, "level": "ok", "found": "quoted and checked on both chains", "do": ""}
    words = "; ".join(f"{v.check}: {v.reason}" for v in made.verdicts)
    return {"check": check, "level": "warn", "found": words, "do": "docs/cross-chain.md says what each name means"}
