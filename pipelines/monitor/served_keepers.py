"""What ``foredrift serve`` says of the keepers it has started, in a file that ``status`` reads."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lake.private import opener, private_folder

FILE = "served-keepers.json"
SILENT_S = 60.0  # a file that is written every few seconds and was not for so long: its serve was killed


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put ``rows``, one a keeper, into ``path`` with the present time, whole or not at all."""
    private_folder(path.parent)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(fresh, "w", opener=opener) as file:
            json.dump({"time": time.time(), "keepers": list(rows)}, file)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def read(path: Path, now_s: float | None = None) -> list[dict[str, Any]]:
    """Return the keepers that a living ``serve`` has started, empty where none does.

    Keys: vaults, live, state (running | waiting | gone), pid (None unless it runs), restarts (in the last hour), why
    and age_s, how long ago ``serve`` said so. Where ``serve`` has been silent for SILENT_S, every state is gone.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        age = (time.time() if now_s is None else now_s) - float(body["time"])
        rows = [dict(row) for row in body["keepers"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        return []  # nothing rests on it: who keeps a vault is the owner's lock
    silent = {"state": "gone", "pid": None, "why": "foredrift serve ended without a word; start it again"}
    return [row | (silent if age > SILENT_S else {}) | {"age_s": round(age, 1)} for row in rows]


def advice(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each keeper that does not run."""
    return [f"keeper of {', '.join(r['vaults'])}: {r['why']}" for r in rows if r["state"] != "running"]
