"""Recorded blocks played again: each block of the local chain takes one's time, base fee and fullness."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from lake.errors import DataError
from lake.sources.files import import_file
from lake.store import Lake


@dataclass(frozen=True, slots=True)
class RecordedBlock:
    """A block as recorded: ``time`` in Unix seconds, fee in wei per gas."""

    time: int
    base_fee_wei: int
    gas_used: int
    gas_limit: int

    @property
    def at(self) -> datetime:
        """Its time, UTC."""
        return datetime.fromtimestamp(self.time, UTC)


def recorded_blocks(path: Path) -> list[RecordedBlock]:
    """Return the blocks of a Parquet or CSV file, oldest first, checked as an import into table ``heads`` is.

    It has ``number`` (or ``block_number``), ``ts``, ``base_fee_wei``, ``gas_used`` and ``gas_limit``. Raises
    SchemaError or DataError naming file, column and rows when it is no such file, has rows that fit no block, or
    blocks that do not follow on each other.
    """
    with TemporaryDirectory() as folder:
        lake = Lake(str(Path(folder) / "lake"))
        report = import_file(lake, "heads", path)
        if report.rejected:
            raise DataError(
                f"{path}: {report.rejected} of {report.rows} rows are no blocks ({'; '.join(report.examples)}); "
                "correct or remove them"
            )
        rows = lake.scan("heads").sort("number").collect()
    _follow_on(path, rows)
    columns = rows.select(pl.col("ts").dt.epoch("s"), "base_fee_wei", "gas_used", "gas_limit")
    return [RecordedBlock(*row) for row in columns.iter_rows()]


def shown(block: RecordedBlock) -> dict[str, str]:
    """Return the header fields of a recorded block that the local chain's own does not have: how full it was."""
    return {"gasUsed": hex(block.gas_used), "gasLimit": hex(block.gas_limit)}


def _follow_on(path: Path, rows: pl.DataFrame) -> None:
    """Raise DataError where a block is missing or not later than the one before."""
    steps = rows.with_columns(jump=pl.col("number").diff(), later=pl.col("ts").diff().dt.total_seconds())
    wrong = steps.filter((pl.col("jump") != 1) | (pl.col("later") < 1))
    if wrong.height:
        number = wrong["number"][0]
        raise DataError(
            f"{path}: block {number} does not follow the one before it by one block and at least one second "
            f"({wrong.height} such places); a replay needs consecutive blocks of one chain"
        )
