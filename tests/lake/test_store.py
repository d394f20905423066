"""The lake's promises: as-of reads, idempotent atomic writes, append-only logs, replaced ranges, refused rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from lake import store
from lake.errors import DataError, SchemaError
from lake.store import Lake, check, frame_digest
from lake.tables import TABLES, table

T0 = datetime(2022, 1, 1, tzinfo=UTC)


def signal(hours: list[int], values: list[float] | None = None, delay_h: int = 1, key: str = "k") -> pl.DataFrame:
    """Rows of table signals at ``T0 + hours``, known ``delay_h`` later."""
    ts = [T0 + timedelta(hours=h) for h in hours]
    return pl.DataFrame(
        {
            "name": ["n"] * len(hours),
            "key": [key] * len(hours),
            "ts": ts,
            "value": [float(v) for v in (values or hours)],
            "available_at": [t + timedelta(hours=delay_h) for t in ts],
        },
        schema=TABLES["signals"].columns,
    )


def gas(hours: list[int], fee: float = 1.0) -> pl.DataFrame:
    """Rows of table gas."""
    ts = [T0 + timedelta(hours=h) for h in hours]
    return pl.DataFrame(
        {"chain_id": 1, "ts": ts, "base_fee_gwei": fee, "available_at": [t + timedelta(hours=1) for t in ts]},
        schema_overrides={
            "chain_id": pl.Int64,
            "ts": pl.Datetime("us", "UTC"),
            "available_at": pl.Datetime("us", "UTC"),
        },
    )


def forecast(mean: float) -> pl.DataFrame:
    """One forecast row."""
    return pl.DataFrame(
        {
            "target": ["gas"], "key": ["1"], "issued_at": [T0], "horizon_s": [3600], "mean": [mean],
            "model_version": ["v"], "abstain": [False], "available_at": [T0],
        }
    ).with_columns(pl.col("issued_at", "available_at").dt.cast_time_unit("us"))  # fmt: skip


def test_unwritten_table_scans_empty_with_its_schema(lake: Lake) -> None:
    for name, spec in TABLES.items():
        frame = lake.scan(name).collect()
        assert frame.is_empty()
        assert dict(frame.schema) == spec.columns
        assert lake.version(name) == -1


def test_write_reports_new_changed_and_same_rows(lake: Lake) -> None:
    assert lake.write("signals", signal([0, 1, 2])).added == 3
    report = lake.write("signals", signal([1, 2, 3], [1, 20, 3]))
    assert (report.added, report.updated, report.unchanged) == (1, 1, 1)
    assert lake.scan("signals").sort("ts").collect()["value"].to_list() == [0, 1, 20, 3]


def test_repeating_a_write_makes_no_new_version(lake: Lake) -> None:
    first = lake.write("gas", gas(list(range(2000))))
    again = lake.write("gas", gas(list(range(2000))))
    assert (again.added, again.updated, again.version) == (0, 0, first.version)


def test_last_of_two_rows_with_one_key_wins_inside_a_batch(lake: Lake) -> None:
    lake.write("signals", pl.concat([signal([5], [1.0]), signal([5], [2.0])]))
    assert lake.scan("signals").collect()["value"].to_list() == [2.0]


def test_old_versions_stay_readable(lake: Lake) -> None:
    first = lake.write("gas", gas([0], 1.0)).version
    lake.write("gas", gas([0], 2.0))
    assert lake.scan("gas", version=first).collect()["base_fee_gwei"].to_list() == [1.0]
    assert lake.scan("gas").collect()["base_fee_gwei"].to_list() == [2.0]


def test_append_only_rows_are_never_changed(lake: Lake) -> None:
    lake.write("forecasts", forecast(1.0))
    report = lake.write("forecasts", forecast(2.0))
    assert (report.added, report.updated, report.unchanged) == (0, 0, 1)
    assert lake.scan("forecasts").collect()["mean"].to_list() == [1.0]
    with pytest.raises(DataError, match="append-only"):
        lake.replace("forecasts", forecast(2.0), T0, T0 + timedelta(days=1))


def test_replace_swaps_exactly_its_range(lake: Lake) -> None:
    lake.write("gas", gas(list(range(10))))
    lake.replace("gas", gas([4, 5], 9.0), T0 + timedelta(hours=3), T0 + timedelta(hours=7))
    got = lake.scan("gas").sort("ts").collect()
    assert [t.hour for t in got["ts"]] == [0, 1, 2, 4, 5, 7, 8, 9]
    assert got["base_fee_gwei"].to_list() == [1, 1, 1, 9, 9, 1, 1, 1]


def test_replace_with_nothing_clears_its_range_and_refuses_rows_outside(lake: Lake) -> None:
    lake.write("gas", gas(list(range(4))))
    lake.replace("gas", gas([]), T0, T0 + timedelta(hours=2))
    assert lake.scan("gas").collect().height == 2
    with pytest.raises(DataError, match="outside the range"):
        lake.replace("gas", gas([2]), T0, T0 + timedelta(hours=2))


def test_features_take_further_columns_and_keep_old_rows(lake: Lake) -> None:
    base = signal([0, 1]).select("key", "ts", "available_at")
    lake.write("features", base.with_columns(a=pl.lit(1.0)))
    late = base.with_columns(pl.col("ts", "available_at") + timedelta(days=1), b=pl.lit(2.0))
    lake.write("features", late)
    got = lake.scan("features").sort("ts").collect()
    assert got["a"].to_list() == [1.0, 1.0, None, None]
    assert got["b"].to_list() == [None, None, 2.0, 2.0]


def test_columns_types_and_rules_are_enforced(lake: Lake) -> None:
    good = signal([0])
    for bad, error, words in (
        (good.drop("value"), SchemaError, "missing columns"),
        (good.with_columns(x=1), SchemaError, "unknown columns"),
        (good.with_columns(pl.col("value").cast(pl.String)), SchemaError, "value is String"),
        (good.with_columns(pl.col("ts").dt.replace_time_zone(None)), SchemaError, "ts is Datetime"),
        (good.with_columns(value=float("nan")), DataError, "rules"),
        (good.with_columns(value=None), DataError, "rules"),
    ):
        with pytest.raises(error, match=words):
            lake.write("signals", bad)
    assert lake.version("signals") == -1


def test_categories_become_text_instead_of_a_panic(lake: Lake) -> None:
    lake.write("signals", signal([0, 1]).with_columns(pl.col("key").cast(pl.Categorical)))
    assert lake.scan("signals").collect().schema["key"] == pl.String


def test_digest_ignores_storage_layout_and_sees_values(lake: Lake) -> None:
    lake.write("signals", signal([0, 1, 2]))
    other = Lake(lake.root + "2")
    for hour in (2, 0, 1):
        other.write("signals", signal([hour]))
    assert lake.digest("signals") == other.digest("signals")
    other.write("signals", signal([1], [7.0]))
    assert lake.digest("signals") != other.digest("signals")
    assert frame_digest(signal([0], [1.0])) != frame_digest(signal([0], [2.0]))


def test_compact_keeps_every_row(lake: Lake) -> None:
    for hour in range(6):
        lake.write("gas", gas([hour]))
    before = lake.digest("gas")
    lake.compact()
    assert lake.digest("gas") == before


def test_many_small_writes_are_merged_on_the_way(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "COMPACT_EVERY", 10)
    for hour in range(25):
        lake.write("gas", gas([hour]))
    files = DeltaTable(lake.uri("gas")).file_uris()
    assert len(files) <= 12
    assert lake.digest("gas") == lake.digest("gas", gas(list(range(25))).pipe(lambda f: check(table("gas"), f)))


def test_check_fills_optional_columns_in_order() -> None:
    rows = check(table("gas"), gas([0]))
    assert rows.columns == list(TABLES["gas"].columns)
    assert rows["priority_fee_gwei"].to_list() == [None]


@settings(max_examples=15, deadline=None)
@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=12),
        min_size=1,
        max_size=4,
    ),
    as_of_h=st.integers(0, 35),
)
def test_lake_equals_a_dictionary_and_as_of_hides_the_later(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[int, int, int]]], as_of_h: int
) -> None:
    """Any sequence of writes leaves what a dict would hold; no as-of read shows a row not yet available."""
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    truth: dict[int, tuple[float, int]] = {}
    for batch in batches:
        lake.write("signals", pl.concat([signal([h], [v], delay) for h, delay, v in batch]))
        truth.update({h: (float(v), h + delay) for h, delay, v in batch})
    got = lake.scan("signals").sort("ts").collect()
    assert [(t - T0) / timedelta(hours=1) for t in got["ts"]] == sorted(truth)
    assert got["value"].to_list() == [truth[h][0] for h in sorted(truth)]
    seen = lake.scan("signals", as_of=T0 + timedelta(hours=as_of_h)).collect()
    assert {(t - T0) / timedelta(hours=1) for t in seen["ts"]} == {h for h, (_, at) in truth.items() if at <= as_of_h}
