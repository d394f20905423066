"""``foredrift networks``: the checked-in rows of the known networks, with where each was read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lake.networks.rows import Network, names, network, sources
from pipelines.stages.start import heartbeat

Shown = dict[str, Any]


def listed() -> list[Shown]:
    """Return every network in short: {name, chain_id, usable: symbols, missing: words}."""
    return [_short(network(name)) for name in names()]


def one(name: str) -> Shown:
    """Return all rows of one network, its chain's constants, and its sources in words; ConfigError for another name."""
    found = network(name)
    rows = asdict(found)
    named = {s for group in ("contracts", "tokens", "feeds", "pools") for row in rows[group] for s in row["sources"]}
    named |= {s for row in rows["feeds"] for s in row["heartbeat_sources"]}
    for row in rows["feeds"]:
        row["accepted_age"] = heartbeat(row["heartbeat_s"]) if row["heartbeat_s"] else None
    return {**_short(found), "chain": asdict(found.chain), **rows, "sources": {s: sources()[s] for s in sorted(named)}}


def _short(found: Network) -> Shown:
    return {
        "name": found.name, "chain_id": found.chain_id, "usable": list(found.usable()), "missing": list(found.missing),
    }  # fmt: skip
