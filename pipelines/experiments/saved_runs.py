"""What a live portfolio saved so far, in MLflow: one run a vault, a point a day, with the interval."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipelines.experiments import client
from pipelines.monitor.logs import log

SECTION = "saved so far in USD"
RIVALS = {"gas_band": "gas_band", "threshold_5pct": "the 5 pct threshold"}
"""How a rule is called in a metric's name, which may hold no per cent sign."""
ENDS = {"usd": "", "low": " at least", "high": " at most"}


def figures(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of ``pipelines.stages.saved.saved``: USD against each rule, and its 95 % interval's ends.

    An interval that is not known yet has no ends; what was lost is negative.
    """
    return {
        f"against {RIVALS.get(one['rule'], one['rule'])}{end}": float(one[key])
        for one in found["against"]
        for key, end in ENDS.items()
        if one[key] is not None
    }


def log_saved(stores: client.Stores, vault: str, found: Mapping[str, Any], at: datetime) -> str | None:
    """Log what ``vault`` saved from its first decision to ``at``; return the run's id, None where there is nothing.

    The step is the hours since then; an hour that was logged is not logged again. A tracking server that is away is
    reported, and None returned: the next day logs what is true then.
    """
    from mlflow.exceptions import MlflowException

    values = figures(found)
    if not values:
        return None
    try:
        return _logged(stores, vault, values, found, at)
    except (MlflowException, OSError) as error:
        log("saved so far not logged", error=str(error)[:500], retried="with the next day")
        return None


def _logged(
    stores: client.Stores, vault: str, values: Mapping[str, float], found: Mapping[str, Any], at: datetime
) -> str:
    from mlflow.entities import Metric

    mlf = client.client(stores)
    experiment = client.experiment(stores, mlf, client.LIVE)
    known = mlf.search_runs([experiment.experiment_id], "tags.kind = 'saved'", max_results=1_000)
    run_id = next((str(r.info.run_id) for r in known if r.data.tags.get("vault") == vault), None)
    if run_id is None:
        tags = {"kind": "saved", "vault": vault}
        with client.run(mlf, experiment.experiment_id, f"saved so far: {vault}", tags) as made:
            run_id = made
    first = f"{SECTION}/{next(iter(values))}"
    if any(m.step >= found["hours"] for m in mlf.get_metric_history(run_id, first)):
        return run_id
    stamp = int(at.timestamp() * 1_000)
    mlf.log_batch(run_id, metrics=[Metric(f"{SECTION}/{k}", v, stamp, int(found["hours"])) for k, v in values.items()])
    said = f"{found['words']} (since {found['since'][:10]}, {found['weeks']} calendar weeks, {found['trades']} trades)"
    mlf.set_tag(run_id, "mlflow.note.content", said)
    return run_id
