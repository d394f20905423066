"""Transfers of cash between the vaults of one portfolio: what they are, one run of them, and what people do to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lake.errors import ConfigError, ForedriftError
from lake.store import Lake
from pipelines.monitor import notify
from pipelines.monitor.logs import log
from pipelines.settlements.fleet_rows import write_places, write_transfers
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.cash_levels import cash_levels
from pipelines.vault_setup.fleet_health import fleet_alarms, refused_routes
from pipelines.vault_setup.transfer_decision import needed
from pipelines.vault_setup.transfer_fleet import Fleet, OpenFleet, fleet_of
from pipelines.vault_setup.transfer_opening import open_fleet
from pipelines.vault_setup.transfer_view import fleet_view, saga_row
from pipelines.wiring import lake_of
from policy.chains.netting import CashMove
from policy.execution.transfers.checks import price_e8
from policy.execution.transfers.machine import look_at_all, write_down
from policy.execution.transfers.planning import PlannedTransfer, Wish, plan_transfer

ALARMS = {"overdue": "a transfer is overdue", "stuck": "a transfer is stuck", "reorganised": "a chain took it back"}

Project = Sequence[VaultSettings]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asks for: USD of the cash asset from one chain to another."""

    origin: int
    destination: int
    asset: str
    usd: float


def fleet_report(project: Project) -> dict[str, Any]:
    """Return what :func:`listed` does for ``foredrift status``; empty rows on one chain, or where it cannot be read."""
    empty: dict[str, Any] = {"chains": [], "in_transit": [], "transfers": [], "mismatch": "", "waiting": []}
    empty |= {"mismatch_raw": "0", "oracle_gaps": [], "forced_sales": 0, "bridge_cost_bp_year": None}
    if all(d.fleet is None for d in project):
        return empty
    try:
        return empty | listed(project)
    except ForedriftError as error:
        return empty | {"mismatch": f"the transfers cannot be read: {error}"}


def fleet_advice(report: Mapping[str, Any]) -> list[str]:
    """Return what a person should do about transfers, in sentences."""
    out = [f"the cash does not add up, no transfer departs: {report['mismatch']}"] if report["mismatch"] else []
    if report["waiting"]:
        out.append(f"not begun yet: {', '.join(report['waiting'])}; foredrift rebalance --live --deployment NAME")
    out += [
        f"transfer {row['saga_id'][:12]} is {row['state']}: {row['note']}; foredrift transfers show ID"
        for row in report["transfers"]
        if row["state"] in {"overdue", "stuck"}
    ]
    out += [
        f"cash on chain {row['chain']} is {row['cash_usd']:,.0f} USD, its floor {row['floor_usd']:,.0f}"
        + (f" ({row['floor_why']})" if row.get("floor_why") else "")
        for row in report["chains"]
        if row["cash_usd"] < row["floor_usd"]
    ]
    return out + [f"{title}: {words}" for event, title, words in fleet_alarms(report) if event != "cash_low"]


def listed(project: Project) -> dict[str, Any]:
    """Return {transfers, in_transit, chains} as both chains showed them last; nothing is looked up anew or written."""
    return fleet_view(fleet_of(project))


def shown(project: Project, saga_id: str) -> dict[str, Any]:
    """Return one transfer with what was said when it was planned and its transactions, without signed bytes."""
    fleet = fleet_of(project)
    saga = fleet.log.saga(saga_id)
    hidden = {"raw"}
    sent = [{k: v for k, v in asdict(a).items() if k not in hidden} for a in saga.attempts]
    return {**saga_row(saga, 0.0), "told": dict(saga.told), "transactions": sent}


def run_transfers(
    project: Project,
    at: datetime,
    *,
    live: bool = True,
    decide: bool = True,
    only: str | None = None,
    first: Sequence[CashMove] = (),
    placed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Look every transfer up, move it on, and refill a chain whose cash is below its floor; return what there is then.

    ``only``: a person resumes this one, which may be delivered once more although two deliveries failed. ``first``:
    cash that a trade waits for, sent where no chain lacks any. ``placed``: see ``write_places``. A live run leaves the
    events and where the portfolio lies in the lake. Returns {transfers, in_transit, chains, planned: the
    plan made now or None}.
    """
    fleet = fleet_of(project)
    alarms: list[tuple[str, str, str]] = []
    planned: PlannedTransfer | None = None
    lake = lake_of(fleet.first)
    with open_fleet(fleet, at, live=live, told=lambda *said: alarms.append(said)) as paper:
        levels = cash_levels(paper, lake, at)
        if only is not None:
            saga = paper.context.log.saga(only)
            failed = sum(a.failed for a in saga.of("deliver"))
            rules = replace(paper.context.rules, delivery_tries=failed + 1)
            paper.context = replace(paper.context, rules=rules)
        for turn in range(paper.looks if live else 1):
            sagas = look_at_all(paper.context)
            if turn == 0 and decide and fleet.shared.transfers.decide:
                planned = _decided(paper, needed(paper, levels, lake, at, first))
            if live:
                paper.others_act(sagas)
                paper.mine()
        found = fleet_view(fleet, paper, levels)
        if live:
            write_transfers(paper.context, lake, at, natives_usd(fleet, lake, at))
            write_places(lake, found["chains"], at, fleet.cash, _coming_usd(found), placed)
    _announce(alarms, found, planned)
    return {**found, "planned": None if planned is None else planned.json()}


def planned(project: Project, asked: Asked, at: datetime, *, live: bool) -> dict[str, Any]:
    """Plan one transfer by hand; ``live`` journals it and begins it, else it is a dry run that writes nothing."""
    fleet = fleet_of(project)
    _known(fleet, asked)
    with open_fleet(fleet, at, live=live, told=lambda *_: None) as paper:
        made = plan_transfer(paper.context, _wish(fleet, paper, asked))
        if live and made.saga is not None:
            look_at_all(paper.context)
            paper.mine()
    return made.json()


def written_down(project: Project, saga_id: str, person: str, reason: str, at: datetime) -> dict[str, Any]:
    """Write a stuck transfer down by a named person with a reason; it is looked for ever after."""
    fleet = fleet_of(project)
    with open_fleet(fleet, at, live=True, told=lambda *_: None) as paper:
        saga = write_down(paper.context, paper.context.log.saga(saga_id), person, reason)
    log("transfer_written_down", saga_id=saga.transfer.saga_id, person=person, reason=reason)
    return saga_row(saga, 0.0)


def flowed(project: Project, chain_id: int, usd: float, at: datetime) -> dict[str, Any]:
    """Bring cash to a paper vault, or take it (``usd`` below 0): what an investor does on one chain.

    ConfigError where more is taken than lies there.
    """
    fleet = fleet_of(project)
    if chain_id not in fleet.members:
        raise ConfigError(f"chain {chain_id} is none of [[chains]] ({', '.join(map(str, fleet.members))})")
    with open_fleet(fleet, at, live=True, told=lambda *_: None) as paper:
        paper.flow(chain_id, usd)
        found = fleet_view(fleet, paper)
    return {**found, "chain": chain_id, "usd": usd}


def _decided(paper: OpenFleet, asked: Wish | None) -> PlannedTransfer | None:
    """Plan what the cash rule asks for; None where no chain needs cash."""
    if asked is None:
        return None
    made = plan_transfer(paper.context, asked)
    if made.verdicts:
        log("transfer_refused", reasons="; ".join(f"{v.check}: {v.reason}" for v in made.verdicts))
    return made


def _known(fleet: Fleet, asked: Asked) -> None:
    if asked.asset != fleet.cash:
        raise ConfigError(f"transfers carry {fleet.cash} alone; {asked.asset} stays where it is and is traded there")


def _wish(fleet: Fleet, paper: OpenFleet, asked: Asked) -> Wish:
    route = next(
        (b for b in fleet.shared.bridges if (b.origin, b.destination) == (asked.origin, asked.destination)), None
    )
    if route is None:
        known = ", ".join(f"{b.origin} to {b.destination}" for b in fleet.shared.bridges) or "none"
        raise ConfigError(f"no [[bridges]] row leads from {asked.origin} to {asked.destination} (there are: {known})")
    end = paper.context.ends[asked.origin]
    price = price_e8(end.vault.snapshot(), end.cash.address)
    if price <= 0:
        raise ConfigError(
            f"{fleet.cash} has no price on chain {asked.origin} just now; try again once its feed answers"
        )
    raw = int(asked.usd / (price / 1e8) * 10**end.cash.decimals)
    return Wish(
        fleet.kind(route), asked.origin, asked.destination, route.route, raw, "asked for by hand", speed=route.speed
    )


def natives_usd(fleet: Fleet, lake: Lake, at: datetime) -> dict[int, float]:
    """Return USD of each chain's native coin by the newest price of the last day; chains without one are left out."""
    prices = lake.scan("prices", as_of=at).filter(pl.col("ts") > at - timedelta(days=1)).sort("ts")
    newest = dict(prices.unique("asset", keep="last").select("asset", "close").collect().iter_rows())
    return {c: float(newest[d.chain.native]) for c, d in fleet.members.items() if d.chain.native in newest}


def _coming_usd(found: Mapping[str, Any]) -> dict[int, float]:
    out: dict[int, float] = {}
    for row in found["in_transit"]:
        out[row["to"]] = out.get(row["to"], 0.0) + row["usd"]
    return out


def _announce(
    alarms: Sequence[tuple[str, str, str]], found: dict[str, Any], planned: PlannedTransfer | None
) -> None:  # fmt: skip
    """Tell people what went wrong: a late transfer, a chain that took one back, a count that does not add up.

    And what would go wrong next: a chain that nothing may be sent to, prices that differ, cash or gas money that lacks.
    """
    verdicts = [] if planned is None else planned.json()["verdicts"]
    for event, title, words in (*fleet_alarms(found), *refused_routes(verdicts)):
        log("fleet", alarm=event, words=words)
        notify.notify(event, title, words)
    for name, saga_id, words in dict.fromkeys(alarms):
        log("transfer", alarm=name, saga_id=saga_id, words=words)
        if name in ALARMS:
            notify.notify("transfer", ALARMS[name], f"{saga_id[:12]}: {words}; foredrift transfers show {saga_id[:12]}")
    if found["mismatch"]:
        notify.notify("ledger", "cash on the chains does not add up", found["mismatch"])
