"""Gauges of a portfolio on several chains: cash by chain, what is in transit, transfers by state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

WEI = 1e18
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
        self.mismatch_raw = Gauge(
            "foredrift_ledger_mismatch_raw", "What the cash is off by, raw units of the finest token", registry=registry
        )
        self.usual = Gauge(
            "foredrift_transfer_usual_seconds", "Usual age at which a transfer arrives", ["transfer"], registry=registry
        )
        self.below = Gauge(
            "foredrift_cash_below_floor_seconds", "How long a chain's cash has been below its level", ["chain"],
            registry=registry,
        )  # fmt: skip
        self.sequencer = Gauge(
            "foredrift_sequencer_down", "1 while a chain's sequencer is down, in its grace or cannot be asked",
            ["chain"], registry=registry,
        )  # fmt: skip
        self.gas = Gauge(
            "foredrift_gas_money", "Native coins of the keeper on a chain, and those a delivery may need",
            ["chain", "figure"], registry=registry,
        )  # fmt: skip
        self.gap = Gauge(
            "foredrift_oracle_gap_bps", "How far the chains' prices of an asset lie apart, and may",
            ["asset", "figure"], registry=registry,
        )  # fmt: skip
        self.forced = Gauge(
            "foredrift_forced_sales", "Landed sales by which a vault got cash that its chain lacked", registry=registry
        )
        self.cost = Gauge(
            "foredrift_bridge_cost_bp_year", "Fees and gas of settled transfers over NAV, by the year", [],
            registry=registry,
        )  # fmt: skip

    def update(self, report: Mapping[str, Any]) -> None:
        """Set the gauges from a status report; what is no longer in transit has no row any more."""
        for gauge in (self.moving, self.age, self.usual, self.states, self.gap):
            gauge.clear()
        for row in report.get("in_transit", ()):
            self.moving.labels(row["bridge"], row["from"], row["to"]).inc(row["usd"])
            self.age.labels(row["saga_id"][:12]).set(row["age_s"])
            self.usual.labels(row["saga_id"][:12]).set(row["usual_s"])
        for state, n in Counter(t["state"] for t in report.get("transfers", ())).items():
            self.states.labels(state).set(n)
        for row in report.get("chains", ()):
            for figure, key in FIGURES.items():
                self.chains.labels(row["chain"], figure).set(row[key])
            self.below.labels(row["chain"]).set(row["below_floor_s"])
            self.sequencer.labels(row["chain"]).set(float(bool(row["sequencer"])))
            self.gas.labels(row["chain"], "held").set(int(row["gas_money_wei"]) / WEI)
            self.gas.labels(row["chain"], "needed").set(int(row["gas_needed_wei"]) / WEI)
        for row in report.get("oracle_gaps", ()):
            self.gap.labels(row["asset"], "gap").set(row["gap_bps"])
            self.gap.labels(row["asset"], "allowed").set(row["allowed_bps"])
        self.forced.set(report.get("forced_sales", 0))
        self.mismatch_raw.set(int(report.get("mismatch_raw", "0")))
        cost = report.get("bridge_cost_bp_year")
        self.cost.set(float("nan") if cost is None else cost)  # unknown is no zero
        self.mismatch.set(float(bool(report.get("mismatch"))))
