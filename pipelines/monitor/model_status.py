"""How the models in force stand, as the last forecast run saw them: what ``foredrift status`` and the metrics show.

Age and coverage need the registry and the learners' code, which take seconds to load. The forecast stage has them in
hand every hour, so it leaves what it saw in ``.foredrift/models.json``, whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from lake.private import opener, private_folder
from lake.units import DAY_S, utc

FILE = ".foredrift/models.json"

Coverage = Mapping[tuple[str, int], tuple[float, int]]
"""By target and horizon (s): the share of recent outcomes within the 90 % interval, and how many there were."""


def note(path: Path, at: datetime, versions: Mapping[str, tuple[str, datetime]], coverage: Coverage) -> None:
    """Keep in ``path`` each model's version and end of training data, and ``coverage``, as seen at ``at``."""
    body = {
        "at": at.isoformat(),
        "models": [{"family": f, "version": v, "trained_until": t.isoformat()} for f, (v, t) in versions.items()],
        "coverage": [
            {"target": target, "horizon_h": horizon_s // 3600, "coverage90": share, "outcomes": n}
            for (target, horizon_s), (share, n) in sorted(coverage.items())
        ],
    }
    private_folder(path.parent)
    scratch = path.with_name(path.name + ".new")
    with open(scratch, "w", encoding="utf-8", opener=opener) as file:
        json.dump(body, file, indent=1)
    scratch.replace(path)


def models_in_force(path: Path, at: datetime) -> dict[str, Any]:
    """Return ``models`` (family, version, trained_until, age_d at ``at``) and ``coverage``; empty before a forecast."""
    if not path.exists():
        return {"models": [], "coverage": []}
    kept = json.loads(path.read_text(encoding="utf-8"))
    for row in kept["models"]:
        row["age_d"] = round((at - utc(row["trained_until"])).total_seconds() / DAY_S, 2)
    return {"models": kept["models"], "coverage": kept["coverage"]}
