"""Gas now, the past day, and what the forecast expects; and the keeper's own money for it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lake.errors import ForedriftError
from lake.store import Lake
from lake.units import utc
from pipelines.vault_settings import VaultSettings
from policy.execution.vaults.simulated import adapter

DAY = timedelta(days=1)
CHEAPER = 0.95  # expected gas counts as cheaper below this share of gas now: less is within any forecast's error
WEI = 10**18


def gas_ahead(lake: Lake, chain_id: int, at: datetime) -> dict[str, Any]:
    """Return ``now_gwei``, ``past`` ({ts, gwei} of a day), ``fan`` (ts, q05 .. q95 of the newest issue), ``low``.

    ``low`` is the lowest median of the forecast, {gwei, by}, where it is clearly below gas now; else None. ``issued``:
    when the forecast was made.
    """
    rows = lake.scan("gas", as_of=at).filter((pl.col("chain_id") == chain_id) & (pl.col("available_at") > at - DAY))
    past = rows.sort("available_at").select("available_at", "base_fee_gwei").collect()
    made = lake.scan("forecasts", as_of=at).filter(
        (pl.col("target") == "gas") & (pl.col("key") == str(chain_id)) & ~pl.col("abstain")
    )
    newest = made.select(pl.col("issued_at").max()).collect().item()
    now = past["base_fee_gwei"][-1] if past.height else None
    found: dict[str, Any] = {
        "now_gwei": now, "past": [{"ts": t.isoformat(), "gwei": g} for t, g in past.iter_rows()], "fan": [],
        "issued": None, "low": None,
    }  # fmt: skip
    if newest is None or at - newest > DAY:
        return found
    fan = made.filter(pl.col("issued_at") == newest).sort("horizon_s").collect()
    levels = ("q05", "q25", "q50", "q75", "q95")
    found["issued"] = newest.isoformat()
    found["fan"] = [
        {"ts": (newest + timedelta(seconds=r["horizon_s"])).isoformat(), **{q: r[q] for q in levels}}
        for r in fan.iter_rows(named=True)
        if r["q50"] is not None
    ]
    ahead = [f for f in found["fan"] if utc(f["ts"]) > at]
    if ahead and now is not None:
        best = min(ahead, key=lambda f: f["q50"])
        found["low"] = {"gwei": best["q50"], "by": best["ts"]} if best["q50"] < CHEAPER * now else None
    return found


def gas_money(deployment: VaultSettings, lake: Lake, at: datetime) -> dict[str, Any]:
    """Return the keeper's balance: {native, usd, words}; None with the reason in ``words`` where it is not known."""
    try:
        wei = _balance(deployment)
    except (ForedriftError, OSError):
        return {"native": None, "usd": None, "words": "not known (`foredrift doctor` says why)"}
    if wei is None:
        return {"native": None, "usd": None, "words": "not known yet"}
    coin = deployment.chain.native
    row = lake.scan("prices", as_of=at).filter(pl.col("asset") == coin).sort("available_at").tail(1).collect()
    usd = wei / WEI * row["close"][0] if row.height else None
    return {"native": wei / WEI, "usd": usd, "words": f"{wei / WEI:,.4g} {coin}"}


def _balance(deployment: VaultSettings) -> int | None:
    if deployment.vault.kind == "simulated":
        path = deployment.path(deployment.vault.state)
        if not path.exists():
            return None
        chain, spec = adapter.load(path)
        return chain.balance(spec.keeper)
    if not deployment.vault.keeper:
        return None
    from lake.rpc import quantity
    from pipelines.wiring import rpc_of

    return quantity(rpc_of(deployment.chain).call("eth_getBalance", [deployment.vault.keeper, "latest"]))
