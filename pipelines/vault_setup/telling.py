"""What a recorded decision says to people: from the audit's record of it to the sentence's parts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lake.units import BPS
from pipelines.reports.words import Told
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.paper import address
from policy.execution.records.hashlog import Body


def told_of(deployment: VaultSettings, body: Body, outcome: str, gas_low: tuple[float, datetime] | None = None) -> Told:
    """Return what ``body`` says: weights, trigger and gas as they were then.

    ``outcome``: what became of it; ``gas_low``: (gwei, when) of cheaper gas that is expected now.
    """
    given, snapshot = deployment.portfolio, body.get("snapshot") or {}
    return Told(
        body["action"], outcome, body["why"], body["verdicts"], given.assets, body.get("weights_before", ()),
        body.get("weights_wanted", ()), [given.weights[a] for a in given.assets],
        [given.caps[a] for a in given.assets], float((body.get("expected") or {}).get("nav_usd", 0.0)),
        prices_usd(deployment, snapshot), body.get("details") or {},
        int(snapshot["base_fee_wei"]) / 1e9 if "base_fee_wei" in snapshot else None, gas_low,
        deployment.mandate.max_turnover_bps / BPS,
    )  # fmt: skip


def prices_usd(deployment: VaultSettings, snapshot: Mapping[str, Any]) -> dict[str, float]:
    """Return USD by asset from the feeds a decision read, as far as the settings name the tokens."""
    assets = deployment.portfolio.assets
    known = {t.lower(): a for a, t in deployment.vault.tokens.items()}
    if deployment.vault.kind == "simulated":
        known = {address(a).lower(): a for a in assets}
    rows = (snapshot.get("prices_e8") or {}).items()
    return {known[t.lower()]: int(row[0]) / 1e8 for t, row in rows if t.lower() in known}
