"""An import can be taken out again: everything it did, nothing that others did since, however often it is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError
from lake.imports import imports, undo
from lake.sources import files
from lake.sources.files import import_file
from lake.store import Lake

T0 = datetime(2024, 1, 30, tzinfo=UTC)
H = timedelta(hours=1)


def bars(first: int, n: int, close: float, asset: str = "BTC") -> pl.DataFrame:
    """Hourly bars of one asset."""
    ts = pl.Series([T0 + (first + i) * H for i in range(n)], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"ts": ts, "asset": asset, "close": close})


def load(lake: Lake, folder: Path, frame: pl.DataFrame, name: str = "own.parquet") -> str:
    frame.write_parquet(folder / name)
    return import_file(lake, "prices", folder / name).import_id


def test_undo_removes_what_was_added_and_puts_back_what_was_changed(lake: Lake, tmp_path: Path) -> None:
    load(lake, tmp_path, bars(0, 60, 1.0))
    before = lake.digest("prices")
    wrong = load(lake, tmp_path, bars(40, 60, 2.0), "wrong.parquet")
    assert lake.scan("prices").collect().height == 100
    report = undo(lake, wrong)
    assert (report.removed, report.restored, report.left, report.already) == (40, 20, 0, False)
    assert lake.digest("prices") == before
    assert undo(lake, wrong).already
    assert lake.digest("prices") == before
    assert imports(lake)["state"].to_list() == ["done", "undone"]


def test_the_same_import_again_has_the_same_id_and_one_undo_takes_all_of_it(lake: Lake, tmp_path: Path) -> None:
    first = load(lake, tmp_path, bars(0, 10, 1.0))
    assert load(lake, tmp_path, bars(0, 10, 1.0)) == first
    row = imports(lake).row(0, named=True)
    assert (row["rows"], row["added"], row["first"], row["last"]) == (10, 10, T0, T0 + 9 * H)
    undo(lake, first[:6])
    assert lake.scan("prices").collect().is_empty()
    assert load(lake, tmp_path, bars(0, 10, 1.0)) == first
    assert imports(lake)["state"].to_list() == ["done"]
    undo(lake, first)
    assert lake.scan("prices").collect().is_empty()


def test_rows_written_again_since_stay(lake: Lake, tmp_path: Path) -> None:
    wrong = load(lake, tmp_path, bars(0, 10, 1.0))
    stored = lake.scan("prices").collect().sort("ts")
    lake.write("prices", stored.head(4).with_columns(close=pl.lit(5.0)))
    report = undo(lake, wrong)
    assert (report.removed, report.left) == (6, 4)
    assert lake.scan("prices").collect()["close"].to_list() == [5.0] * 4


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_overlapping_imports_can_be_undone_in_either_order(
    lake: Lake, tmp_path: Path, order: tuple[int, int]
) -> None:
    load(lake, tmp_path, bars(0, 10, 1.0))
    before = lake.digest("prices")
    ids = [load(lake, tmp_path, bars(5, 10, c), f"{c}.parquet") for c in (2.0, 3.0)]
    for i in order:
        undo(lake, ids[i])
    assert lake.digest("prices") == before


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(spans=[(0, 2, 1.0), (0, 2, 2.0), (0, 2, 1.0)], gone=[0, 1, 2])  # the third has the first one's id
@given(
    spans=st.lists(
        st.tuples(st.integers(0, 30), st.integers(2, 30), st.sampled_from([1.0, 2.0])), min_size=1, max_size=3
    ),
    gone=st.permutations([0, 1, 2]),
)
def test_after_any_imports_and_undos_of_them_all_the_lake_is_as_before(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int, float]], gone: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("u")
    lake = Lake(str(folder / "lake"))
    load(lake, folder, bars(10, 8, 9.0))
    before = lake.digest("prices")
    ids = [load(lake, folder, bars(*span), f"{i}.parquet") for i, span in enumerate(spans)]
    for i in gone:
        if i < len(ids):
            undo(lake, ids[i])
    assert lake.digest("prices") == before


def test_an_unknown_id_names_the_known_ones_and_ids_are_of_content_and_arguments(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none"):
        undo(lake, "abc")
    first = load(lake, tmp_path, bars(0, 10, 1.0))
    with pytest.raises(ConfigError, match=first):
        undo(lake, "zzz")
    with pytest.raises(ConfigError, match="no import"):
        undo(lake, "")
    other = import_file(lake, "prices", tmp_path / "own.parquet", constants={"source": "x"}).import_id
    assert other != first


def test_batches_are_undone_newest_first(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BATCH_ROWS", 16)
    load(lake, tmp_path, bars(0, 50, 1.0))
    before = lake.digest("prices")
    wrong = load(lake, tmp_path, pl.concat([bars(20, 60, 2.0), bars(0, 20, 2.0)]), "wrong.parquet")
    assert undo(lake, wrong).restored == 50
    assert lake.digest("prices") == before
