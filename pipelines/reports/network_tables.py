"""Tables of ``foredrift networks``. Figures come ready made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.reports import terminal


def networks(result: Sequence[Mapping[str, Any]]) -> None:
    """Print the networks in short."""
    rows = [[n["name"], str(n["chain_id"]), ", ".join(n["usable"]) or "none"] for n in result]
    terminal.table("Networks", ["name", "chain", "tokens a portfolio can hold"], rows, whole=2)
    terminal.say("foredrift networks NAME prints every row with its sources, and what is left out")


def network(result: Mapping[str, Any]) -> None:
    """Print one network, row by row."""
    chain = result["chain"]
    terminal.say(
        f"{result['name']}: chain {result['chain_id']}, a block every {chain['block_time_s']:g} s, gas in "
        f"{chain['native']}, base fee moves by at most 1/{chain['denominator']} a block"
    )
    tokens = [[t["symbol"], t["asset"], t["address"], str(t["decimals"]), f"{t['issuer']}, {t['kind']}",
               " ".join(t["sources"])] for t in result["tokens"]]  # fmt: skip
    terminal.table("Tokens", ["symbol", "asset", "address", "decimals", "issuer", "sources"], tokens, whole=4)
    feeds = [[f["pair"], f["address"], _seconds(f["heartbeat_s"]), f["accepted_age"], _bps(f["deviation_bps"]),
              " ".join(f["sources"]), " ".join(f["heartbeat_sources"])] for f in result["feeds"]]  # fmt: skip
    columns = ["feed", "address", "heartbeat", "accepted age", "deviation", "sources", "of the heartbeat"]
    terminal.table("Price feeds", columns, feeds, whole=5)
    pools = [[" / ".join(p["tokens"]), f"{p['fee_pips'] / 10_000:g} %", p["address"], " ".join(p["sources"])]
             for p in result["pools"]]  # fmt: skip
    terminal.table(f"Pools (venue {result['router_venue']})", ["pair", "fee", "address", "sources"], pools, whole=3)
    contracts = [[c["name"], c["address"], " ".join(c["sources"])] for c in result["contracts"]]
    terminal.table("Contracts", ["name", "address", "sources"], contracts, whole=2)
    terminal.table("Left out", ["what two public sources do not give"], [[m] for m in result["missing"]], whole=0)
    terminal.table("Sources", ["name", "what was read"], [[k, v] for k, v in result["sources"].items()], whole=1)


def _seconds(value: int | None) -> str:
    return "not confirmed" if value is None else f"{value} s"


def _bps(value: int | None) -> str:
    return "not confirmed" if value is None else f"{value} bp"
