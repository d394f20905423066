"""Rows of the future are a state of their own: they neither freshen a dead series nor hide its age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.freshness import FUTURE_TOLERANCE_S, freshness, state_of
from lake.store import Lake
from lake.tables import TABLES
from pipelines.settings import load
from pipelines.stages.status import status
from pipelines.wiring import lake_of

NOW = datetime(2024, 6, 1, tzinfo=UTC)
H = timedelta(hours=1)


def known_at(*moments: datetime) -> pl.DataFrame:
    """Gas rows known at these moments."""
    rows = [{"chain_id": 1, "ts": m - H, "base_fee_gwei": 1.0, "available_at": m} for m in moments]
    return pl.DataFrame(rows, schema={c: TABLES["gas"].columns[c] for c in rows[0]})


@pytest.mark.parametrize("ahead", [timedelta(minutes=3), 5 * H, timedelta(days=400)])
def test_a_future_row_is_named_and_the_age_is_that_of_the_rows_before_it(lake: Lake, ahead: timedelta) -> None:
    lake.write("gas", known_at(NOW - 7 * H, NOW + ahead))
    found = freshness(lake, "gas", NOW, 3 * 3600).row(0, named=True)
    assert (found["state"], found["future"], found["age_s"], found["known"]) == ("future", 1, 7 * 3600, NOW - 7 * H)
    assert freshness(lake, "gas", NOW + ahead + H, 3 * 3600)["state"].to_list() == ["fresh"]


@pytest.mark.parametrize(("age", "state"), [(-60, "fresh"), (0, "fresh"), (3 * 3600, "fresh"), (3 * 3600 + 1, "stale")])
def test_states_by_age(lake: Lake, age: int, state: str) -> None:
    lake.write("gas", known_at(NOW - timedelta(seconds=age)))
    assert freshness(lake, "gas", NOW, 3 * 3600)["state"].to_list() == [state]
    assert freshness(lake, "prices", NOW, 3600).is_empty()


@given(age=st.floats(-1e9, 1e9), rows=st.integers(0, 5))
def test_nothing_from_the_future_is_ever_fresh(age: float, rows: int) -> None:
    state = state_of(age, rows, 3600)
    assert (state == "future") == (rows > 0 or age < -FUTURE_TOLERANCE_S)
    assert state_of(None, 0, 3600) == "none"


def test_status_names_future_rows_and_never_calls_the_series_fresh(tmp_path: Path) -> None:
    (tmp_path / "foredrift.toml").write_text("")
    settings = load(tmp_path / "foredrift.toml")
    lake_of(settings).write("gas", known_at(NOW - 30 * H, NOW + 5 * H))
    report = status(settings, NOW)
    row = report["tables"][0]
    assert (row["state"], row["future"], row["age_h"]) == ("future", 1, 30.0)
    assert any("known only after now" in line and "lake undo" in line for line in report["advice"])
    only = load(tmp_path / "foredrift.toml").model_copy(update={"root": tmp_path / "other"})
    lake_of(only).write("gas", known_at(NOW + 5 * H))
    assert status(only, NOW)["tables"][0]["state"] == "future"
