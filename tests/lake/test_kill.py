"""Kill -9 at random moments, and writers racing: no row is lost, doubled or half there."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from lake.sources.sample import simulate
from lake.store import Lake
from lake.tables import table
from tests.lake.worker import T0

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("FOREDRIFT_KILLS", "8"))  # of import and of ingest each; `make kills` asks for 25
Ask = Callable[..., str]


@pytest.fixture(scope="module")
def worker() -> Iterator[Ask]:
    """Ask the forking process for one job; returns what became of it."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.lake.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:

        def ask(job: str, lake: str, path: str, kill_after_s: float | None = None, commits: int = 0) -> str:
            order = {"job": job, "lake": lake, "path": path, "kill_after_s": kill_after_s, "commits": commits}
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield ask
        process.stdin.close()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "prices.parquet"
    simulate(start=T0, hours=1200)["prices"].write_parquet(path)
    return path


def whole(lake: Lake, truth: dict, spec_key: list[str]) -> pl.DataFrame:
    """The lake's rows; fails on a doubled key or a row that is not as in the uninterrupted run."""
    rows = lake.scan("prices").collect()
    assert rows.select(spec_key).is_unique().all()
    assert rows.join(truth["rows"], on=rows.columns, how="anti", nulls_equal=True).is_empty()
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("job", ["import", "ingest"])
def test_killed_at_random_moments_then_run_again_equals_uninterrupted(
    worker: Ask, recorded: Path, tmp_path: Path, job: str
) -> None:
    key = table("prices").key
    reference = Lake(str(tmp_path / "reference"))
    assert worker(job, reference.root, str(recorded)) == "done"
    truth = {"rows": reference.scan("prices").collect(), "digest": reference.digest("prices")}
    rng, kills, number, cut = random.Random(7), 0, 0, 0
    while kills < KILLS:
        number += 1
        assert number <= 2 * KILLS, "the job ends before it can be killed"
        lake = Lake(str(tmp_path / f"{number}"))
        for _ in range(5):
            outcome = worker(job, lake.root, str(recorded), rng.uniform(0.0, 0.06), rng.randrange(5))
            rows = whole(lake, truth, key)
            if outcome == "done":
                break
            assert outcome == "killed"
            kills += 1
            cut += 0 < rows.height < truth["rows"].height
        assert worker(job, lake.root, str(recorded)) == "done"
        assert lake.digest("prices") == truth["digest"]
    assert cut >= max(1, KILLS // 5), "hardly any kill struck between the first and the last row"


@pytest.mark.slow
def test_an_import_and_its_undo_killed_at_random_moments_end_where_they_began(
    worker: Ask, recorded: Path, tmp_path: Path
) -> None:
    """Half of the rows were there with other values; whatever was cut off, the next run ends with these again."""
    rows = pl.read_parquet(recorded).drop("source", "available_at").head(3600)
    wrong = tmp_path / "wrong.parquet"
    rows.write_parquet(wrong)
    there = rows.head(1800).with_columns(
        pl.lit("sample").alias("source"), (pl.col("ts") + pl.duration(seconds="step")).alias("available_at"),
        pl.col("close", "open", "high", "low") / 2,
    )  # fmt: skip
    rng, kills, number = random.Random(11), 0, 0
    while kills < KILLS:
        number += 1
        assert number <= 2 * KILLS, "the job ends before it can be killed"
        lake = Lake(str(tmp_path / f"{number}"))
        lake.write("prices", there)
        before = lake.digest("prices")
        for _ in range(3):
            if worker("undo", lake.root, str(wrong), rng.uniform(0.0, 0.06), rng.randrange(8)) == "done":
                break
            kills += 1
            keys = lake.scan("prices").select(table("prices").key).collect()
            assert keys.is_unique().all()
            assert keys.height >= there.height
        assert worker("undo", lake.root, str(wrong)) == "done"
        assert lake.digest("prices") == before


@pytest.mark.slow
def test_two_processes_writing_the_same_table_lose_and_double_nothing(recorded: Path, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "raced"))
    job = json.dumps({"job": "write", "lake": lake.root, "path": str(recorded), "kill_after_s": None, "commits": 0})
    command = [sys.executable, "-m", "tests.lake.worker"]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)
    ]
    for racer in racers:
        racer.stdin.write(job + "\n")
        racer.stdin.flush()
    for racer in racers:
        assert racer.communicate()[0].strip() == "done"
    expected = pl.read_parquet(recorded)[:2000]
    assert lake.digest("prices") == lake.digest("prices", expected)
