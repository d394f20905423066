"""What else a portfolio has to show: chains with what is on its way between them, and the Greeks of its book."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lake.errors import ForedriftError
from lake.store import Lake
from pipelines.reports.words import without_paths
from pipelines.stages.book_greeks import book_greeks, totals
from pipelines.stages.book_lake import book_of
from pipelines.stages.greeks import view
from pipelines.stages.hedge_status import last_hedge
from pipelines.stages.transfers import fleet_report
from pipelines.vault_settings import VaultSettings

GREEKS = ("delta_usd", "cash_gamma_usd", "vega_usd_per_point", "theta_usd_per_day", "net_exposure")


DAYS = 30


def chains_of(
    deployment: VaultSettings, project: Sequence[VaultSettings], lake: Lake, at: datetime
) -> dict[str, Any] | None:
    """Return the places of one portfolio on several chains and what is under way; None for a vault on one chain.

    {places: [chain, deployment, usd, share, cash_usd, floor_usd, gas_gwei], under_way: [from, to, bridge, usd, state,
    age_s, usual_s], words: what does not add up or has not begun, "" where nothing, history (``_lay``)}.
    """
    if deployment.fleet is None:
        return None
    found = fleet_report(project)
    places = ("chain", "deployment", "usd", "share", "cash_usd", "floor_usd", "gas_gwei")
    under_way = ("saga_id", "from", "to", "bridge", "usd", "state", "age_s", "usual_s")
    wrong = [f"The cash does not add up, no transfer departs: {found['mismatch']}."] if found["mismatch"] else []
    if found["waiting"]:
        wrong.append(f"Not begun yet: {', '.join(found['waiting'])}.")
    return {
        "places": [{k: row[k] for k in places} for row in found["chains"]],
        "under_way": [{k: row[k] for k in under_way} for row in found["in_transit"]],
        "words": without_paths(" ".join(wrong)), "history": _lay(lake, at),
    }  # fmt: skip


def _lay(lake: Lake, at: datetime) -> dict[str, Any]:
    """Return {ts, usd: by chain, moves: [ts, from, to, usd]}: what lay where at each look of the last DAYS days, and
    the transfers that were settled between.
    """
    since = pl.col("ts").is_between(at - timedelta(days=DAYS), at)
    rows = lake.scan("places", as_of=at).filter(since).collect()
    once = rows.unique(["ts", "chain_id", "asset"], keep="last")  # of a decision and a look of the same moment one
    lay = once.pivot("chain_id", index="ts", values="usd", aggregate_function="sum").sort("ts").fill_null(0.0)
    moved = lake.scan("transfers", as_of=at).filter(since & pl.col("usd").is_not_null()).sort("ts").collect()
    return {
        "ts": [t.isoformat() for t in lay["ts"]],
        "usd": {c: lay[c].to_list() for c in sorted(lay.columns[1:], key=int)},
        "moves": [
            {"ts": r["ts"].isoformat(), "from": r["origin"], "to": r["destination"], "usd": r["usd"]}
            for r in moved.iter_rows(named=True)
        ],
    }


def greeks_of(deployment: VaultSettings, lake: Lake, at: datetime) -> dict[str, Any] | None:
    """Return the Greeks of the deployment's book and its hedge's last decision; None where it has neither.

    {ts, nav_usd, assets: [asset, delta_usd, cash_gamma_usd, vega_usd_per_point, theta_usd_per_day, net_exposure],
    hedged: whether there is a hedge account,
    hedge (``hedge_status.last_hedge``, or None), words: why the book cannot be told, "" where it can}, and of
    ``book_greeks`` delta_usd, gamma_usd, theta_usd_day, vega_usd_point, as_of, units, source, portfolio,
    hedge_delta_usd, net_delta_usd, unpriced. Without positions the book is the lines the last hedge decision read.
    """
    hedge = deployment.hedge
    kept = hedge is not None and hedge.account is not None
    name = hedge.portfolio if hedge is not None and hedge.portfolio else deployment.name
    held = lake.scan("positions", as_of=at).filter(pl.col("portfolio") == name).head(1).collect().height > 0
    if not held and not kept:
        return None
    whole = book_greeks(deployment, lake, at)
    found: dict[str, Any] = totals(whole, at) | {"ts": None, "nav_usd": None, "assets": [], "hedged": kept}
    found |= {"hedge": None, "words": ""}
    if kept and hedge is not None:
        found["hedge"] = last_hedge(deployment.path(hedge.audit))
    if held:
        try:
            seen = view(book_of(lake, name, at))
        except ForedriftError as error:
            return found | {"words": f"The book's Greeks are not known: {without_paths(str(error))}."}
        rows = [{"asset": a["asset"], **{k: float(a[k]) for k in GREEKS}} for a in seen["assets"]]
        found |= {"ts": seen["ts"], "nav_usd": seen["nav_usd"], "assets": rows}
    elif whole is not None and whole["unpriced"] is None:
        nav = (found["hedge"] or {}).get("nav_usd")
        rows = [{"asset": a["asset"], "delta_usd": a["delta_usd"], "cash_gamma_usd": a["gamma_usd"],
                 "vega_usd_per_point": a["vega_usd_point"], "theta_usd_per_day": a["theta_usd_day"],
                 "net_exposure": a["delta_usd"] / nav if nav else 0.0} for a in whole["assets"]]  # fmt: skip
        found |= {"ts": whole["as_of"], "nav_usd": nav, "assets": rows}
    return found
