"""Gauges of a portfolio on several chains: cash by chain, what is in transit, transfers by state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

FIGURES = {"usd": "usd", "cash": "cash_usd", "floor": "floor_usd"}


class FleetGauges:
    """The gauges; a project on one chain leaves them without a row."""

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Gauge

        self.moving = Gauge(
            "foredrift_in_transit_usd", "Cash between two chains, USD", ["bridge", "from", "to"], registry=registry
        )
        self.age = Gauge(
            "foredrift_transfer_age_seconds", "Age of a transfer in transit", ["transfer"], registry=registry
        )
        self.states = Gauge("foredrift_transfers", "Transfers by state", ["state"], registry=registry)
        self.chains = Gauge(
            "foredrift_chain_usd",
            "Of one chain: value, cash and its floor, USD",
            ["chain", "figure"],
            registry=registry,
        )
        self.mismatch = Gauge("foredrift_ledger_mismatch", "1 while the cash does not add up", registry=registry)

    def update(self, report: Mapping[str, Any]) -> None:
        """Set the gauges from a status report; what is no longer in transit has no row any more."""
        for gauge in (self.moving, self.age, self.states):
            gauge.clear()
        for row in report.get("in_transit", ()):
            self.moving.labels(row["bridge"], row["from"], row["to"]).inc(row["usd"])
            self.age.labels(row["saga_id"][:12]).set(row["age_s"])
        for state, n in Counter(t["state"] for t in report.get("transfers", ())).items():
            self.states.labels(state).set(n)
        for row in report.get("chains", ()):
            for figure, key in FIGURES.items():
                self.chains.labels(row["chain"], figure).set(row[key])
        self.mismatch.set(float(bool(report.get("mismatch"))))
