"""The saved MLflow view of a comparison: runs of one comparison_id, grouped by policy.

MLflow keeps shared views as experiment tags in an undocumented form (``deflate;`` + base64 of zlib-compressed JSON). A
test guards that form against the installed MLflow; where it is not understood, the plain page still opens.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

TAG = "mlflow.sharedViewState."
PREFIX = "deflate;"
SHOWN = "tags.policy != 'calendar_daily'"
LEAVES = ("total_bp", "gas_bp", "fee_bp", "impact_bp", "tracking_bp", "trades_a_year", "violations")


def state(comparison_id: str) -> dict[str, Any]:
    """Return the view state: filter, columns and grouping, as MLflow's run page stores it.

    calendar_daily is left out: its cost hides all others on the bars, and the page averages the first 100 runs only,
    which a full comparison of ten policies in eleven cells exceeds by ten.
    """
    columns = [f"metrics.`summary/{leaf}`" for leaf in LEAVES]
    return {
        "searchFilter": f"tags.comparison_id = '{comparison_id}' AND tags.kind = 'policy' AND {SHOWN}",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "selectedColumns": [*columns, "tags.`policy`", "tags.`scenario`", "tags.`nav_usd`"],
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "policy"}]},
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "runsHiddenMode": "FIRST_20_RUNS",
        "autoRefreshEnabled": False,
    }


def encode(view: dict[str, Any]) -> str:
    """Return ``view`` in MLflow's stored form."""
    packed = zlib.compress(json.dumps(view, separators=(",", ":")).encode())
    return PREFIX + base64.b64encode(packed).decode()


def decode(text: str) -> dict[str, Any]:
    """Return the view that :func:`encode` stored; raises ValueError on any other form."""
    if not text.startswith(PREFIX):
        raise ValueError(f"not a stored view: it starts with {text[:12]!r}")
    return dict(json.loads(zlib.decompress(base64.b64decode(text.removeprefix(PREFIX)))))


def save(mlf: MlflowClient, experiment_id: str, comparison_id: str) -> str:
    """Store the view of ``comparison_id`` on its experiment; return its key."""
    now = int(time.time() * 1_000)
    value = {
        "name": f"policies {comparison_id}", "createdAt": now, "updatedAt": now, "state": encode(state(comparison_id)),
    }  # fmt: skip
    mlf.set_experiment_tag(experiment_id, TAG + comparison_id, json.dumps(value))
    return comparison_id


def link(base: str, experiment_id: str, key: str | None, *, chart: bool = True) -> str:
    """Return the page of an experiment, at the saved view ``key`` when there is one."""
    page = f"{base}/#/experiments/{experiment_id}/runs"
    if key is None:
        return page
    return f"{page}?{'compareRunsMode=CHART&' if chart else ''}viewStateShareKey={key}"
