"""The parts of an import: keys seen before, rows set aside, columns found, units and constants read."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError, SchemaError
from lake.sources.columns import IMPORTABLE, columns_of, importable, scale_of, typed_constants, zone_of
from lake.sources.formats import FileShape
from lake.sources.rejects import Rejects, SeenKeys, reject_path
from lake.sources.rows import Problems
from lake.store import Lake
from lake.tables import TABLES


@settings(max_examples=60, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 30), max_size=25), max_size=12))
def test_a_key_is_new_once_whatever_batch_it_comes_in(batches):
    seen, known = SeenKeys(), set()
    for batch in batches:
        found = seen.repeats(pl.Series(batch, dtype=pl.UInt64)).to_list()
        for value, repeated in zip(batch, found, strict=True):
            assert repeated == (value in known)
            known.add(value)
    assert sum(run.size for run in seen.runs) == len(known)


def test_keys_are_kept_in_few_sorted_runs():
    seen, rng = SeenKeys(), np.random.default_rng(1)
    for _ in range(200):
        seen.repeats(pl.Series(rng.integers(0, 2**63, 50, dtype=np.uint64)))
    assert len(seen.runs) <= 15
    assert all((np.diff(run) > 0).all() for run in seen.runs)


def batch_of(values: list[int]) -> pl.DataFrame:
    return pl.DataFrame({"a": [str(v) for v in values]})


def flagged(values: list[int], bad: list[int]) -> tuple[pl.DataFrame, Problems, pl.Series]:
    rows, problems = batch_of(values), Problems()
    problems.add("is bad", pl.Series([i in bad for i in range(len(values))]))
    return rows, problems, problems.bad(rows.height)


@pytest.mark.parametrize("as_csv", [True, False])
def test_bad_rows_are_kept_with_their_number_and_reason_over_batches(tmp_path, as_csv):
    path = tmp_path / ("f.rejects.csv" if as_csv else "f.rejects.parquet")
    made = Rejects(path, as_csv=as_csv)
    made.add(*flagged([1, 2, 3], [1]), 0)
    made.add(*flagged([4, 5], []), 3)
    made.add(*flagged([6, 7], [0, 1]), 5)
    assert made.close() == str(path)
    kept = pl.read_csv(path) if as_csv else pl.read_parquet(path)
    assert kept["row"].to_list() == [2, 6, 7]
    assert kept["a"].cast(pl.Int64).to_list() == [2, 6, 7]
    assert set(kept["reason"]) == {"is bad"}
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_without_bad_rows_nothing_is_kept_and_what_an_earlier_import_left_is_gone(tmp_path):
    path = tmp_path / "f.rejects.csv"
    path.write_text("old")
    (tmp_path / "f.rejects.csv.part0").write_text("half written when it was killed")
    made = Rejects(path, as_csv=True)
    made.add(*flagged([1], []), 0)
    assert made.close() is None
    assert list(tmp_path.iterdir()) == []


def test_rejects_go_beside_the_file_or_beside_the_lake_where_that_cannot_be_written(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    lake = Lake(str(tmp_path / "project" / "lake"))
    assert reject_path(lake, folder / "a.csv", is_text=True) == folder / "a.csv.rejects.csv"
    assert reject_path(lake, folder / "a.parquet", is_text=False).name == "a.parquet.rejects.parquet"
    folder.chmod(0o555)
    try:
        assert reject_path(lake, folder / "a.csv", is_text=True) == tmp_path / "project" / "a.csv.rejects.csv"
    finally:
        folder.chmod(0o755)


def test_only_tables_for_own_data_take_files():
    assert [importable(name).name for name in IMPORTABLE] == list(IMPORTABLE)
    for name in sorted(set(TABLES) - set(IMPORTABLE)):
        with pytest.raises(ConfigError, match=f"cannot be loaded into '{name}'"):
            importable(name)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", None])
def test_a_zone_is_one_that_exists(zone):
    assert zone_of(zone) == zone
    with pytest.raises(ConfigError, match="no time zone"):
        zone_of("Europe/Atlantis")


PRICES = TABLES["prices"]
GIVEN = {"asset": "ETH", "step": "1h"}
NAMES = ["ts", "open", "high", "low", "close", "volume"]


def test_columns_are_matched_by_name_or_map_and_the_rest_left_out():
    constants = dict(GIVEN)
    columns, left = columns_of(PRICES, ["time", *NAMES[1:], "colour"], {"ts": "time"}, constants)
    assert columns["ts"] == "time"
    assert columns["close"] == "close"
    assert left == ("colour",)
    assert constants["source"] == "file"
    assert "asset" not in columns


@pytest.mark.parametrize(
    ("names", "mapping", "constants", "error", "words"),
    [
        (NAMES, {"nope": "ts"}, {}, ConfigError, "has no columns ['nope']"),
        (NAMES, {"close": "close"}, {"close": 1.0}, ConfigError, "both mapped and set"),
        (NAMES, {"close": "last"}, GIVEN, SchemaError, "mapped columns ['last'] are not in the file"),
        (["ts", "close"], {}, {}, SchemaError, "needs columns ['asset'"),
    ],
)
def test_what_is_wrong_with_the_columns_is_named_at_once(names, mapping, constants, error, words):
    with pytest.raises(error) as caught:
        columns_of(PRICES, names, dict(mapping), dict(constants))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [("step", "1h", 3_600), ("step", 60, 60), ("close", "1.5", 1.5), ("asset", "ETH", "ETH"), ("volume", 3, 3.0)],
)
def test_constants_get_the_type_of_their_column(name, value, kept):
    found = typed_constants(PRICES, {name: value})[name]
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("close", "much", "does not fit"), ("asset", "", "cannot be set"), ("step", "soon", "duration")],
)
def test_constants_that_do_not_fit_are_refused(name, value, words):
    with pytest.raises(ConfigError, match=words):
        typed_constants(PRICES, {name: value})


def test_wei_is_divided_by_a_billion_once_and_gwei_not_at_all():
    shape = FileShape(pl.LazyFrame())
    scale, notes = scale_of({"base_fee_gwei": "Base Fee (Wei)", "priority_fee_gwei": "tip_gwei"}, shape)
    assert scale == {"base_fee_gwei": 1e-9}
    assert notes == ["'Base Fee (Wei)' is in wei: divided by 1e9"]
    own = FileShape(pl.LazyFrame(), scale={"base_fee_gwei": 1e-9})
    assert scale_of({"base_fee_gwei": "Value (Wei)"}, own) == ({"base_fee_gwei": 1e-9}, [])
    assert scale_of({"close": "price in wei"}, shape) == ({}, [])


def test_the_report_of_an_import_adds_up(tmp_path: Path) -> None:
    from lake.sources.files import Beforehand, import_file

    path = tmp_path / "p.csv"
    rows = "".join(f"2024-01-01T{h:02d}:00Z,{10 + h},{11 + h},{9 + h},{10 + h},1\n" for h in range(6))
    path.write_text("ts,open,high,low,close,volume\n" + rows + "2024-01-01T05:00Z,1,1,1,1,1\nnever,1,1,1,1,1\n")
    lake = Lake(str(tmp_path / "lake"))
    known = Beforehand(now=datetime.fromisoformat("2024-02-01T00:00+00:00"))
    for added in (6, 0):
        report = import_file(lake, "prices", path, {}, {"asset": "ETH", "step": "1h"}, known)
        assert report.rows == 8 == report.added + report.updated + report.unchanged + report.rejected
        assert (report.added, report.rejected, report.duplicates) == (added, 2, 1)
        assert report.reject_path is not None
