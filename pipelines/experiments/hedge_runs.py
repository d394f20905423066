"""MLflow runs of a hedge comparison: one a rule and cell, tagged ``kind=hedge``, beside the policies' runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient

from pipelines.experiments import client
from pipelines.experiments.comparison_runs import dollars
from pipelines.progress import Progress, silent

FIGURES = ("objective_bp", "cost_bp", "gas_bp", "te_bp", "trades", "width")


def identity(found: Mapping[str, Any]) -> str:
    """Return 12 hex digits over the figures and the code's revision: equal comparisons have equal ids."""
    whole = json.dumps(found, sort_keys=True, default=str) + client.git_sha()
    return hashlib.sha256(whole.encode()).hexdigest()[:12]


def log_hedges(stores: client.Stores, found: Mapping[str, Any], progress: Progress = silent) -> str:
    """Log every rule of every cell of ``found`` (the comparison's JSON) once; return the comparison's id.

    An attempt that was interrupted is deleted first, so that no rule shows twice.
    """
    mlf, which = client.client(stores), identity(found)
    experiment = client.experiment(stores, mlf, client.COMPARISON).experiment_id
    rows = [(cell, score) for cell in found["cells"] for score in cell["scores"]]
    of = f"tags.comparison_id = '{which}' AND tags.kind = 'hedge'"
    known = mlf.search_runs([experiment], of, max_results=5_000)
    if len(known) == len(rows) and all(r.info.status == "FINISHED" for r in known):
        return which
    for run in known:
        mlf.delete_run(run.info.run_id)
    common = {"comparison_id": which, "kind": "hedge", "window": f"{found['from']}..{found['to']}"} | client.lineage()
    for i, (cell, score) in enumerate(rows):
        progress("log runs", i, len(rows))
        _hedge_run(mlf, experiment, common | {"template": found["template"]["kind"]}, cell, score)
    progress("log runs", len(rows), len(rows))
    return which


def _hedge_run(
    mlf: MlflowClient, experiment: str, common: Mapping[str, str], cell: Mapping[str, Any], score: Mapping[str, Any]
) -> None:  # fmt: skip
    terms, rule = cell["terms"], score["rule"]
    tags = {
        **common, "policy": rule, "asset": cell["asset"], "chain": terms["chain"], "nav_usd": f"{terms['nav_usd']:.0f}",
    }  # fmt: skip
    params = {"policy": rule, "gamma": cell["gamma"], **terms}
    name = f"{rule} {cell['asset']} {dollars(terms['nav_usd'])} {terms['chain']} gamma {cell['gamma']:g}"
    with client.run(mlf, experiment, name, tags, params) as run_id:
        client.log_values(mlf, run_id, {k: score[k] for k in FIGURES if score[k] is not None})
        pair = next((p for p in cell["pairs"] if p["against"] == rule), None)
        if pair is not None and pair["objective"]["value"] is not None:
            client.log_values(mlf, run_id, {"gas_band_over_this": pair["objective"]["value"]}, "pairs")
