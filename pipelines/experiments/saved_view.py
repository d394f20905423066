"""The saved MLflow views of a comparison: one a cell, opened at what each policy costs in total.

MLflow keeps shared views as experiment tags in an undocumented form (``deflate;`` + base64 of zlib-compressed JSON):
filter, columns and the order of the charts. A test guards that form against the installed MLflow, and a browser looks
at it; where it is not understood, the plain page still opens. Bar charts are titled by the metric's own name, whatever
the stored title is: hence names that people can read, beside the short ones for machines (``summary/``).
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

TAG = "mlflow.sharedViewState."
COLOUR = "mlflow.runColor"
"""Tag of a run that gives its bars and lines a colour; a group's colour lies in each browser, so charts show runs."""
PREFIX = "deflate;"
SHOWN = "tags.policy != 'calendar_daily'"
COST, TRADING = "bp a year", "trading"
NAMED: Mapping[str, str] = {
    "total_bp": f"{COST}/total", "gas_bp": f"{COST}/gas", "fee_bp": f"{COST}/swap fees",
    "impact_bp": f"{COST}/price impact", "tracking_bp": f"{COST}/tracking",
    "trades_per_year": f"{TRADING}/trades a year", "violations": f"{TRADING}/hours outside the mandate",
}  # fmt: skip
"""Metric that a person reads, by the figure of a comparison; the charts stand in this order."""
BARS = 20  # more than there are policies: MLflow draws the first ten by itself
Cell = tuple[str, float]
"""Mandate and NAV (USD)."""


def named(row: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the figures of a policy under the names that people read: {section: {name: value}}."""
    found: dict[str, dict[str, float]] = {}
    for figure, metric in NAMED.items():
        section, _, name = metric.partition("/")
        if row.get(figure) is not None:
            found.setdefault(section, {})[name] = float(row[figure])
    return found


def state(comparison_id: str, cell: Cell) -> dict[str, Any]:
    """Return the view of one cell: filter, columns, grouping and charts, as MLflow's run page stores them.

    calendar_daily is left out: its cost hides all others on the bars. Sections and charts come in the order of NAMED;
    what else was logged stands below, folded.
    """
    scenario, nav_usd = cell
    chosen = f"tags.comparison_id = '{comparison_id}' AND tags.kind = 'policy' AND {SHOWN}"
    sections = [(COST, True), (TRADING, True), ("ts", True), ("summary", False)]
    return {
        "searchFilter": f"{chosen} AND tags.scenario = '{scenario}' AND tags.nav_usd = '{nav_usd:.0f}'",
        "orderByKey": f"metrics.`{NAMED['total_bp']}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "selectedColumns": [*(f"metrics.`{metric}`" for metric in NAMED.values()), "tags.`policy`"],
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "policy"}]},
        "useGroupedValuesInCharts": False,
        "hideEmptyCharts": True,
        "runsHiddenMode": "FIRST_20_RUNS",
        "autoRefreshEnabled": False,
        "isAccordionReordered": True,
        "compareRunSections": [
            {"uuid": name, "name": name, "display": shown, "isReordered": True, "deleted": False, "isGenerated": True,
             "columns": 2, "cardHeight": 360}
            for name, shown in sections
        ],
        "compareRunCharts": [
            {"uuid": metric, "type": "BAR", "metricKey": metric, "metricSectionId": metric.partition("/")[0],
             "runsCountToCompare": BARS, "deleted": False, "isGenerated": True}
            for metric in NAMED.values()
        ],
    }  # fmt: skip


def encode(view: dict[str, Any]) -> str:
    """Return ``view`` in MLflow's stored form."""
    packed = zlib.compress(json.dumps(view, separators=(",", ":")).encode())
    return PREFIX + base64.b64encode(packed).decode()


def decode(text: str) -> dict[str, Any]:
    """Return the view that :func:`encode` stored; raises ValueError on any other form."""
    if not text.startswith(PREFIX):
        raise ValueError(f"not a stored view: it starts with {text[:12]!r}")
    return dict(json.loads(zlib.decompress(base64.b64decode(text.removeprefix(PREFIX)))))


def keys(comparison_id: str, cells: Sequence[Cell]) -> dict[Cell, str]:
    """Return the key of each cell's view; the first one's, which is opened, is the comparison's own."""
    return {c: comparison_id if i == 0 else f"{comparison_id}-{c[0]}-{c[1]:.0f}" for i, c in enumerate(cells)}


def save(mlf: MlflowClient, experiment_id: str, comparison_id: str, cells: Mapping[Cell, str]) -> None:
    """Store a view of each of ``cells`` (with its title) on the experiment, under ``keys``."""
    now = int(time.time() * 1_000)
    for cell, key in keys(comparison_id, list(cells)).items():
        value = {
            "name": f"{cells[cell]}, {comparison_id}", "createdAt": now, "updatedAt": now,
            "state": encode(state(comparison_id, cell)),
        }  # fmt: skip
        mlf.set_experiment_tag(experiment_id, TAG + key, json.dumps(value))


def link(base: str, experiment_id: str, key: str | None, *, chart: bool = True) -> str:
    """Return the page of an experiment, at the saved view ``key`` when there is one."""
    page = f"{base}/#/experiments/{experiment_id}/runs"
    if key is None:
        return page
    return f"{page}?{'compareRunsMode=CHART&' if chart else ''}viewStateShareKey={key}"
