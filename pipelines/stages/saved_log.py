"""What a vault saved so far goes to MLflow with the first decision of each day, and after each trade."""

from __future__ import annotations

from datetime import datetime, timedelta

from lake.errors import ForedriftError
from lake.units import utc
from pipelines.monitor.logs import log
from pipelines.stages.saved import saved
from pipelines.vault_settings import VaultSettings
from policy.execution.records.audit import Audit

SAME = timedelta(minutes=30)
"""Records so shortly before a moment are of its own decision."""


def log_saved_so_far(deployment: VaultSettings, at: datetime, *, traded: bool) -> str | None:
    """Log what ``deployment`` saved up to ``at``; return the MLflow run, None where nothing was due or there to log.

    It is due after a trade, and with the first decision of a day (UTC): the replay takes seconds, the tracker's import
    more. Nothing is logged where no tracking store is named; where it cannot be told, the run goes on and says so.
    """
    if (
        not deployment.mlflow.tracking_uri
        or not deployment.audit.exists()
        or not (traded or first_of_day(deployment, at))
    ):
        return None
    from pipelines.experiments.saved_runs import log_saved

    try:
        return log_saved(deployment, deployment.name, saved(deployment, at), at)
    except (ForedriftError, OSError) as error:
        log("saved so far not logged", error=str(error)[:500], retried="with the next day")
        return None


def first_of_day(deployment: VaultSettings, at: datetime) -> bool:
    """Return whether nothing was decided between midnight and the decision of ``at``."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    bodies = (line.body for line in Audit(deployment.audit).records())
    return not any(midnight <= utc(b["ts"]) < at - SAME for b in bodies if b.get("event") == "decision")
