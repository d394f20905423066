"""Prometheus metrics of a served project: the figures of ``foredrift status`` on a port of loopback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

from lake.errors import ForedriftError
from pipelines.scheduled.fleet_gauges import FleetGauges

REFRESH_S = 60.0  # how often the metrics port looks at the stores again


class Metrics:
    """Gauges on an own registry; :meth:`update` takes the report of ``pipelines.stages.status.status``."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self.registry = CollectorRegistry()
        self.age = Gauge(
            "foredrift_table_age_hours",
            "Hours since the newest row was known",
            ["table", "series"],
            registry=self.registry,
        )
        self.forecast_age = Gauge(
            "foredrift_forecast_age_hours", "Age of the newest forecast", ["target"], registry=self.registry
        )
        self.abstained = Gauge(
            "foredrift_forecast_abstained_rows", "Forecast rows that abstain", ["target"], registry=self.registry
        )
        self.model_age = Gauge(
            "foredrift_model_age_days", "Age of the training data in force", ["family"], registry=self.registry
        )
        self.coverage = Gauge(
            "foredrift_forecast_coverage", "Share of recent outcomes within the 90 % interval", ["target", "horizon_h"],
            registry=self.registry,
        )  # fmt: skip
        self.value = Gauge("foredrift_value", "Figures of the last decision", ["name"], registry=self.registry)
        self.outcomes = Gauge("foredrift_decisions", "Decisions kept, by action", ["action"], registry=self.registry)
        self.zombies = Gauge("foredrift_zombie_runs", "Runs whose worker is gone", registry=self.registry)
        self.kept = Gauge(
            "foredrift_keeper", "Of the vault's keeper: fresh (0, 1), block, ages (s), gwei of its order",
            ["vault", "figure"], registry=self.registry,
        )  # fmt: skip
        self.portfolio = Gauge(
            "foredrift_portfolio",
            "NAV, the month's costs, saved so far (USD), keeper's balance (coins), loss budget left (bp), halted",
            ["vault", "figure"], registry=self.registry,
        )  # fmt: skip
        self.weight = Gauge(
            "foredrift_weight", "Weight of an asset, its target, and the ends of its band, fractions",
            ["vault", "asset", "figure"], registry=self.registry,
        )  # fmt: skip
        self.fleet = FleetGauges(self.registry)
        self.failures = Counter(
            "foredrift_status_failures", "Times the stores could not be read", registry=self.registry
        )

    def update(self, report: Mapping[str, Any]) -> None:
        """Set the gauges from a status report."""
        for row in report["tables"]:
            if row["age_h"] is not None:
                self.age.labels(row["table"], row["series"]).set(row["age_h"])
        for row in report["forecasts"]:
            self.forecast_age.labels(row["target"]).set(row["age_h"])
            self.abstained.labels(row["target"]).set(row["abstained"])
        for row in report["models"]:
            self.model_age.labels(row["family"]).set(row["age_d"])
        for row in report["coverage"]:
            self.coverage.labels(row["target"], row["horizon_h"]).set(row["coverage90"])
        for name, figure in report.get("figures", {}).items():
            if figure is not None:
                self.value.labels(name).set(figure)
        for action, count in report.get("actions", {}).items():
            self.outcomes.labels(action).set(count)
        for row in report.get("deployments", ()):
            for figure, value in _kept(row["keeper"]).items():
                self.kept.labels(row["name"], figure).set(value)
        self.fleet.update(report)
        self.zombies.set(len(report.get("zombies", ())))
        for row in report.get("portfolios", ()):
            for figure, value in _figures(row).items():
                self.portfolio.labels(row["name"], figure).set(value)
            for asset in row["assets"]:
                for figure in ("weight", "target", "low", "high"):
                    self.weight.labels(row["name"], asset["asset"], figure).set(asset[figure])

    def serve(self, port: int) -> Callable[[], None]:
        """Answer on 127.0.0.1:port in a daemon thread; return what ends it."""
        from prometheus_client import start_http_server

        server, thread = start_http_server(port, addr="127.0.0.1", registry=self.registry)

        def end() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return end


def _kept(keeper: Mapping[str, Any]) -> dict[str, float]:
    """Return a keeper's figures; an order that is not armed is 0 gwei, which nothing costs."""
    order = keeper["order"] or {}
    found = {"fresh": float(keeper["fresh"]), "order_gwei": order.get("cap_gwei", 0.0)}
    told = {"block": keeper["block"], "age_s": keeper["age_s"], "head_age_s": keeper["head_age_s"]}
    return found | {name: float(v) for name, v in told.items() if v is not None}


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what a portfolio's gauges show; what is not known is left out, never a zero."""
    month, budget = row["cost_month"], row["loss_budget"]
    found = {
        "nav_usd": row["nav"]["usd"], "halted": float(row["halted"] is not None),
        **{f"cost_month_{k}": month[k] for k in ("gas_usd", "fee_usd", "impact_usd", "total_usd")},
        "keeper_native": row["gas_money"]["native"], "loss_budget_left_bp": budget["left_bp"],
    }  # fmt: skip
    for one in row["saved"]["against"]:
        found |= {f"saved_{one['rule']}_{k}": one[k] for k in ("usd", "low", "high")}
    return {name: float(value) for name, value in found.items() if value is not None}


@contextmanager
def metrics_port(
    port: int | None, look: Callable[[], dict[str, Any]], every_s: float = REFRESH_S
) -> Iterator[Metrics | None]:
    """Answer on ``port`` in Prometheus's format while the block lasts; ``look`` gives the status, every ``every_s`` s.

    Yields None and does nothing where ``port`` is None. Stores that cannot be read are counted and logged.
    """
    if port is None:
        yield None
        return
    metrics, done = Metrics(), threading.Event()

    def refresh() -> None:
        while True:
            try:
                metrics.update(look())
            except (ForedriftError, OSError) as error:
                metrics.failures.inc()
                structlog.get_logger().warning("status", error=str(error))
            if done.wait(every_s):
                return

    end = metrics.serve(port)
    worker = threading.Thread(target=refresh, name="metrics", daemon=True)
    worker.start()
    try:
        yield metrics
    finally:
        done.set()
        end()
        worker.join(every_s)
