"""What an import does not load: rows whose key came before, and bad rows, kept beside the file with their reasons."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from lake.sources.rows import Problems
from lake.store import Lake


@dataclass(slots=True)
class SeenKeys:
    """Hashes of the keys loaded so far, as a few sorted runs (8 bytes a row).

    Two keys share a 64-bit hash with probability n**2 / 2**65: 3e-6 for a whole file of 10 million rows.
    """

    runs: list[np.ndarray[tuple[int], np.dtype[np.uint64]]] = field(default_factory=list)

    def repeats(self, hashes: pl.Series) -> pl.Series:
        """Return which hashes came before, in this batch or an earlier one, and remember the others."""
        order = np.argsort(hashes.to_numpy(), kind="stable")  # sorted queries walk a run instead of jumping in it
        values = hashes.to_numpy()[order]
        new = np.ones(values.size, dtype=np.bool_)
        new[1:] = values[1:] != values[:-1]
        for run in self.runs:
            at = np.searchsorted(run, values)
            new &= run[np.minimum(at, run.size - 1)] != values
        if new.any():
            self.runs.append(values[new])
        first = np.empty_like(new)
        first[order] = new
        while len(self.runs) > 1 and self.runs[-2].size < 2 * self.runs[-1].size:
            self.runs[-2:] = [np.sort(np.concatenate(self.runs[-2:]), kind="stable")]
        return pl.Series(~first)


class Rejects:
    """Bad rows as they stand in the file, with ``row`` (1 = first data row) and ``reason``, spilled batch by batch."""

    def __init__(self, path: Path, *, as_csv: bool) -> None:
        """Start over: remove what an earlier import of the same file left."""
        self.path, self.as_csv = path, as_csv
        self.parts: list[Path] = []
        for old in [path, *(p for p in path.parent.iterdir() if p.name.startswith(f"{path.name}.part"))]:
            old.unlink(missing_ok=True)

    def add(self, batch: pl.DataFrame, problems: Problems, bad: pl.Series, before: int) -> None:
        """Set the bad rows of a batch aside; ``before`` rows of the file came before it."""
        if not bad.any():
            return
        numbered = batch.with_columns(
            row=pl.int_range(before + 1, before + 1 + batch.height), reason=problems.reasons()
        )
        part = self.path.with_name(f"{self.path.name}.part{len(self.parts)}")
        part.parent.mkdir(parents=True, exist_ok=True)
        numbered.select("row", "reason", pl.exclude("row", "reason")).filter(bad).write_parquet(part)
        self.parts.append(part)

    def close(self) -> str | None:
        """Join the parts into one file and return its path; None where no row was bad."""
        if not self.parts:
            return None
        whole = self.path.with_name(f"{self.path.name}.part")
        rows = pl.scan_parquet(self.parts, glob=False)
        rows.sink_csv(whole) if self.as_csv else rows.sink_parquet(whole)
        whole.replace(self.path)
        for part in self.parts:
            part.unlink()
        return str(self.path)


def reject_path(lake: Lake, path: Path, *, is_text: bool) -> Path:
    """Return where bad rows go: beside the file, or beside the lake when the file's folder is read-only."""
    name = f"{path.name}.rejects.{'csv' if is_text else 'parquet'}"
    writable = path.parent.stat().st_mode & 0o222 and os.access(path.parent, os.W_OK)
    if writable:
        return path.parent / name
    return (Path.cwd() if "://" in lake.root else Path(lake.root).parent) / name
