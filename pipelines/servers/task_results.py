"""What Prefect keeps of the tasks of scheduled runs: for their owner only, and no longer than a run may need it."""

from __future__ import annotations

from pathlib import Path

from lake.private import tighten
from lake.units import DAY_S

RESULTS = Path("prefect", "storage")
"""Where the scheduler that `foredrift serve` starts keeps results, below the state's folder."""


def settle_results(state: Path, now_s: float, keep_s: float = 2 * DAY_S) -> int:
    """Close results below ``state`` to others and remove those written ``keep_s`` before ``now_s``; return how many.

    Prefect writes them by the umask and never removes one; only a retry of the same run reads them again.
    """
    folder, gone = state / RESULTS, 0
    for file in folder.glob("*") if folder.is_dir() else ():
        try:
            if file.is_file() and now_s - file.stat().st_mtime > keep_s:
                file.unlink()
                gone += 1
        except FileNotFoundError:  # another run has just removed it
            continue
    tighten(folder)
    return gone
