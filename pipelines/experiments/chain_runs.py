"""MLflow runs of a comparison on several chains: one a policy and cell, siblings tagged ``kind=chains``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.experiments import client
from pipelines.experiments.comparison_runs import dollars
from pipelines.experiments.hedge_runs import identity
from pipelines.progress import Progress, silent

FIGURES = (
    "total_bp", "gas_bp", "fee_bp", "impact_bp", "bridge_bp", "tracking_bp", "saved_vs_alone_bp", "trades",
    "transfers", "forced_sales", "moved_nav",
)  # fmt: skip


def log_chains(stores: client.Stores, found: Mapping[str, Any], progress: Progress = silent) -> str:
    """Log every policy of every cell of ``found`` (the comparison's JSON) once; return the comparison's id.

    An attempt that was interrupted is deleted first, so that no policy shows twice.
    """
    mlf, which = client.client(stores), identity(found)
    experiment = client.experiment(stores, mlf, client.COMPARISON).experiment_id
    rows = [(c, p) for c in (*found["cells"], *found["sensitivity"]) for p in c["policies"]]
    known = mlf.search_runs([experiment], f"tags.comparison_id = '{which}' AND tags.kind = 'chains'", max_results=5_000)
    if len(known) == len(rows) and all(r.info.status == "FINISHED" for r in known):
        return which
    for run in known:
        mlf.delete_run(run.info.run_id)
    chains = ",".join(str(c) for c in found["chains"])
    common = {"comparison_id": which, "kind": "chains", "chains": chains, "window": f"{found['from']}..{found['to']}"}
    for i, (cell, row) in enumerate(rows):
        progress("log runs", i, len(rows))
        tags = common | client.lineage() | {"policy": row["policy"], "cell": cell["cell"]}
        params = {"policy": row["policy"], "nav_usd": cell["nav_usd"], "trigger": row["trigger"], "cell": cell["cell"]}
        name = f"{row['policy']} {dollars(cell['nav_usd'])} {cell['cell']}"
        with client.run(mlf, experiment, name, tags, params) as run_id:
            client.log_values(mlf, run_id, {k: row[k] for k in FIGURES if row[k] is not None})
            pair = next((p for p in cell["pairs"] if p["against"] == row["policy"]), None)
            if pair is not None and pair["ratio"] is not None:
                client.log_values(mlf, run_id, {"global_over_this": pair["ratio"]}, "pairs")
    progress("log runs", len(rows), len(rows))
    return which
