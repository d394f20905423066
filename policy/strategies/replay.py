"""Taking a recorded decision again from its audit record alone: state, forecasts, memory in, the same weights out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lake.errors import DataError
from policy.base import Decision
from policy.chains.recorded import place_again
from policy.memory import PolicyMemory, forecasts_from, state_from
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.registry import recall


@dataclass(frozen=True, slots=True)
class Replay:
    """A decision as recorded and as taken again; ``differs`` names what is not the same to the bit."""

    decision_id: str
    recorded: tuple[float, ...]
    again: tuple[float, ...]
    differs: tuple[str, ...]


def replay(record: Mapping[str, Any]) -> Replay:
    """Take the decision of an audit ``record`` (event ``decision``) again and compare.

    Raises DataError where the record lacks what it takes: it was written by an older version, or by a policy of the
    caller's own that has no memory.
    """
    missing = [name for name in ("state", "forecasts", "memory", "decided") if record.get(name) is None]
    if missing:
        raise DataError(
            f"decision {record.get('decision_id')} cannot be taken again: its record has no {', '.join(missing)}"
        )
    whole = record.get("portfolio")
    if whole is not None and "waits" in whole:
        raise DataError(f"decision {record.get('decision_id')} was not taken: {whole['waits']}")
    memory = PolicyMemory.from_json(record["memory"])
    state = state_from(record["state"])
    decision: Decision = RulePolicy(recall(memory), memory).decide(state, forecasts_from(record["forecasts"]))
    recorded, again = (tuple(float(w) for w in weights) for weights in (record["decided"], decision.weights))
    differs = []
    if not np.array_equal(recorded, again):
        differs.append("weights")
    if decision.action != record.get("answer", record["action"]):
        differs.append("action")
    if memory.digest != record.get("memory_digest"):
        differs.append("memory")
    if whole is not None and place_again(whole, state, decision) != whole["placement"]:
        differs.append("placement")
    return Replay(str(record["decision_id"]), recorded, again, tuple(differs))
