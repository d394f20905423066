"""Import: what is bad is set aside with its row and reason, the rest is loaded, nothing is guessed silently."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError, DataError, SchemaError
from lake.sources import files
from lake.sources.files import Beforehand, import_file
from lake.sources.rows import Recipe, times, typed, words
from lake.sources.sample import simulate
from lake.store import Lake
from lake.tables import TABLES, table
from lake.units import from_word

T0 = datetime(2022, 1, 1, tzinfo=UTC)
IMPORT_ROWS = int(os.environ.get("FOREDRIFT_IMPORT_ROWS", "2000000"))
H = timedelta(hours=1)


def bars(n: int = 30, assets: tuple[str, ...] = ("BTC", "ETH")) -> pl.DataFrame:
    """Good bars: ts, asset, open, high, low, close, volume."""
    frames = [
        pl.DataFrame({"ts": [T0 + i * H for i in range(n)], "asset": a, "open": 10.0, "high": 12.0, "low": 9.0,
                      "close": [10.0 + i % 2 for i in range(n)], "volume": 5.0})
        for a in assets
    ]  # fmt: skip
    return pl.concat(frames).with_columns(pl.col("ts").dt.cast_time_unit("us"))


def csv(folder: Path, text: str, name: str = "own.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_good_parquet_is_loaded_with_step_source_and_availability(lake: Lake, tmp_path: Path) -> None:
    bars().write_parquet(path := tmp_path / "p.parquet")
    report = import_file(lake, "prices", path)
    assert (report.rows, report.added, report.rejected, report.reject_path) == (60, 60, 0, None)
    got = lake.scan("prices").collect()
    assert got.select("source", "step").unique().rows() == [("file", 3600)]
    assert (got["available_at"] - got["ts"]).unique().to_list() == [H]
    assert (report.first, report.last) == (T0, T0 + 29 * H)
    again = import_file(lake, "prices", path)
    assert (again.added, again.updated, again.unchanged) == (0, 0, 60)


def test_csv_and_parquet_give_the_same_lake(lake: Lake, tmp_path: Path) -> None:
    bars().write_parquet(tmp_path / "p.parquet")
    bars().write_csv(tmp_path / "p.csv")
    bars().write_csv(tmp_path / "p2.csv", separator=";")
    digests = []
    for name in ("p.parquet", "p.csv", "p2.csv"):
        other = Lake(f"{lake.root}{name}")
        import_file(other, "prices", tmp_path / name)
        digests.append(other.digest("prices"))
    assert len(set(digests)) == 1


BAD = {
    "close is NaN or infinite": {"close": float("nan")},
    "open is NaN or infinite": {"open": float("inf")},
    "close is not above 0": {"close": -1.0},
    "low is not above 0": {"low": 0.0},
    "volume is below 0": {"volume": -3.0},
    "high is below low": {"high": 8.0},
    "close lies outside low..high": {"close": 50.0},
    "close is missing": {"close": None},
    "asset is missing": {"asset": None},
    "ts is missing": {"ts": None},
    "asset is not a known one": {"asset": "DOGE"},
}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_every_kind_of_bad_row_is_set_aside_with_row_and_reason(lake: Lake, tmp_path: Path, suffix: str) -> None:
    frame = bars(len(BAD) + 5, ("BTC",))
    for i, change in enumerate(BAD.values()):
        for column, value in change.items():
            frame[i, column] = value
    path = tmp_path / f"own.{suffix}"
    frame.write_parquet(path) if suffix == "parquet" else frame.write_csv(path)
    report = import_file(lake, "prices", path, constants={"step": "1h"}, known=Beforehand(assets=frozenset({"BTC"})))
    assert (report.rows, report.rejected, report.added) == (frame.height, len(BAD), 5)
    assert report.reject_path == str(tmp_path / f"own.{suffix}.rejects.{suffix}")
    rejects = pl.read_parquet(report.reject_path) if suffix == "parquet" else pl.read_csv(report.reject_path)
    assert rejects["row"].to_list() == list(range(1, len(BAD) + 1))
    for expected, got in zip(BAD, rejects["reason"], strict=True):
        assert expected in got.split("; ")
        assert report.reasons[expected] >= 1
    assert set(rejects.columns) == {"row", "reason", *frame.columns}


def test_times_of_every_notation_and_naive_ones_refused(lake: Lake, tmp_path: Path) -> None:
    text = "ts,asset,close\n" + "".join(
        f"{t},BTC,{i + 1}\n"
        for i, t in enumerate((
            "2022-01-01T00:00:00Z", "2022-01-01 01:00:00+00:00", "2022-01-01T05:00:00+03:00", "2022-01-01 03:00:00 UTC",
            "1641009600", "1641013200000", "2022-01-01T06:00:00.000+0000", "2022-01-01T07:00Z",
            "2022-01-01T08:00:00", "2022-01-01", "soon", "",
        ))
    )  # fmt: skip
    path = csv(tmp_path, text)
    report = import_file(lake, "prices", path, constants={"step": "1h"})
    assert lake.scan("prices").sort("ts").collect()["ts"].to_list() == [T0 + h * H for h in range(8)]
    assert report.reasons == {"ts has no time zone": 2, "ts is no time": 1, "ts is missing": 1}
    assert import_file(lake, "prices", path, constants={"step": "1h", "tz": "UTC"}).rejected == 3  # midnight is there


def test_a_file_of_naive_times_only_says_what_to_add(lake: Lake, tmp_path: Path) -> None:
    frame = bars().with_columns(pl.col("ts").dt.replace_time_zone(None))
    for path, write in ((tmp_path / "n.parquet", frame.write_parquet), (tmp_path / "n.csv", frame.write_csv)):
        write(path)
        with pytest.raises(SchemaError, match="--set tz=UTC"):
            import_file(lake, "prices", path)
        assert lake.version("prices") == -1
    assert import_file(lake, "prices", tmp_path / "n.csv", constants={"tz": "UTC"}).added == 60
    assert import_file(lake, "prices", tmp_path / "n.parquet", constants={"tz": "UTC"}).unchanged == 60


def test_repeated_keys_keep_the_first_good_row_across_batches(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BATCH_ROWS", 7)
    frame = bars(20, ("BTC",)).with_columns(close=pl.Series([10.0 + i / 20 for i in range(20)]))
    frame[0, "close"] = -1.0
    later = frame.with_columns(close=pl.lit(11.5))
    pl.concat([frame, later[::-1]]).write_parquet(path := tmp_path / "d.parquet")
    report = import_file(lake, "prices", path)
    assert report.reasons == {
        "duplicate key in the file": 19, "close is not above 0": 1, "close lies outside low..high": 1
    }  # fmt: skip
    got = lake.scan("prices").sort("ts").collect()["close"].to_list()
    assert got == [11.5, *(10.0 + i / 20 for i in range(1, 20))]
    assert pl.read_parquet(report.reject_path)["row"].to_list() == [1, *range(21, 40)]


def test_a_repaired_file_leaves_no_old_rejects(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    bars().with_columns(close=-1.0).write_parquet(path)
    first = import_file(lake, "prices", path)
    assert (first.added, first.rejected) == (0, 60)
    assert Path(first.reject_path).exists()
    bars().write_parquet(path)
    assert import_file(lake, "prices", path).added == 60
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lake", "p.parquet"]


def test_rejects_go_beside_the_lake_when_the_folder_is_read_only(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    bars().with_columns(close=-1.0).write_parquet(folder / "p.parquet")
    folder.chmod(0o555)
    try:
        report = import_file(lake, "prices", folder / "p.parquet")
    finally:
        folder.chmod(0o755)
    assert report.reject_path == str(tmp_path / "p.parquet.rejects.parquet")


@pytest.mark.parametrize(
    ("content", "name", "error", "words"),
    [
        (b"", "a.csv", DataError, "empty"),
        (b"\n\n", "a.csv", DataError, "empty"),
        (b"ts,asset,close\n", "a.csv", DataError, "no rows"),
        (b"when,what\n1,2\n", "a.csv", SchemaError, r"needs columns \['asset', 'ts', 'close'\].*when, what"),
        (
            b"ts,asset,close\n2022-01-01T00:00:00Z,BTC,1\n2022-01-01T01:00:00Z,BTC,1,9\n",
            "a.csv",
            DataError,
            "cannot be read",
        ),
        (b"ts,asset,close\nmonday,BTC,1\n", "a.csv", SchemaError, "usable time"),
        (b"PK\x03\x04rubbish", "a.xlsx", DataError, "export it"),
        (bytes(range(256)) * 9, "a.csv", DataError, "neither Parquet nor CSV"),
        (b"PAR1 cut off here", "a.parquet", DataError, "cannot be read"),
        (b"not parquet", "a.parquet", DataError, "neither Parquet nor CSV"),
        (b"ts,asset,close\n\xff\xfe,BTC,1\n", "a.csv", DataError, "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_is_one_clear_error_and_nothing_is_written(
    lake: Lake, tmp_path: Path, content: bytes, name: str, error: type[Exception], words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=words):
        import_file(lake, "prices", tmp_path / name)
    assert lake.version("prices") == -1


def test_truncated_parquet_and_missing_files(lake: Lake, tmp_path: Path) -> None:
    bars(500).write_parquet(path := tmp_path / "t.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        import_file(lake, "prices", path)
    with pytest.raises(DataError, match="no file"):
        import_file(lake, "prices", tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("name", "mapping", "constants", "lag", "words"),
    [
        ("forecasts", {}, {}, None, "tables for own data"),
        ("prices", {"nope": "x"}, {}, None, "no columns"),
        ("prices", {"close": "close"}, {"close": 1.0}, None, "both mapped and set"),
        ("prices", {}, {"step": "soon"}, None, "no duration"),
        ("prices", {}, {"volume": "much"}, None, "does not fit"),
        ("prices", {}, {"source": ""}, None, "cannot be set"),
        ("prices", {}, {"tz": "Mars/Olympus"}, None, "no time zone"),
        ("prices", {}, {"step": "1h"}, timedelta(minutes=5), "before the bar ends"),
    ],
)
def test_wrong_arguments_are_usage_errors(
    lake: Lake, tmp_path: Path, name: str, mapping: dict, constants: dict, lag: timedelta | None, words: str
) -> None:
    bars().write_parquet(path := tmp_path / "p.parquet")
    with pytest.raises(ConfigError, match=words):
        import_file(lake, name, path, mapping, constants, Beforehand(lag))
    assert lake.version("prices") == -1


def test_columns_are_renamed_filled_and_the_others_named(lake: Lake, tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "day,index,colour\n2022-01-01T00:00:00Z,10,red\n2022-01-02T00:00:00Z,20,blue\n2022-01-03T00:00:00Z,x,\n",
    )
    report = import_file(lake, "signals", path, {"ts": "day", "value": "index"}, {"name": "mood", "key": "market"})
    assert (report.added, report.reasons) == (2, {"value is no number": 1})
    assert "colour" in " ".join(report.notes)
    got = lake.scan("signals").sort("ts").collect()
    assert got["value"].to_list() == [10.0, 20.0]
    assert (got["available_at"] - got["ts"]).unique().to_list() == [timedelta(days=1)]


def test_irregular_signals_are_known_at_once_and_lag_overrides(lake: Lake, tmp_path: Path) -> None:
    hours = (0, 1, 5, 6, 17, 19, 40)
    path = csv(tmp_path, "ts,value\n" + "".join(f"{(T0 + h * H).isoformat()},1\n" for h in hours))
    import_file(lake, "signals", path, {}, {"name": "news", "key": "m"})
    assert lake.scan("signals").collect().select((pl.col("available_at") == pl.col("ts")).all()).item()
    import_file(lake, "signals", path, {}, {"name": "news", "key": "m"}, known=Beforehand(lag=timedelta(minutes=90)))
    got = lake.scan("signals").collect()
    assert (got["available_at"] - got["ts"]).unique().to_list() == [timedelta(minutes=90)]


def test_steps_differ_by_asset_and_unknown_spacing_is_asked_for(lake: Lake, tmp_path: Path) -> None:
    daily = bars(9, ("DAY",)).with_columns(ts=pl.Series([T0 + i * 24 * H for i in range(9)]).dt.cast_time_unit("us"))
    pl.concat([bars(9, ("BTC",)), daily]).sample(fraction=1.0, shuffle=True, seed=1).write_parquet(
        path := tmp_path / "m.parquet"
    )
    import_file(lake, "prices", path)
    got = dict(lake.scan("prices").select("asset", "step").unique().collect().rows())
    assert got == {"BTC": 3600, "DAY": 86400}
    one = csv(tmp_path, "ts,asset,close\n2022-01-01T00:00:00Z,BTC,1\n")
    with pytest.raises(SchemaError, match="--set step=1h"):
        import_file(lake, "prices", one)


def test_a_row_that_claims_to_be_known_before_its_bar_ends_is_refused(lake: Lake, tmp_path: Path) -> None:
    frame = bars(4, ("BTC",)).with_columns(available_at=pl.col("ts"))
    frame[2, "available_at"] = T0 + 9 * H
    frame.write_parquet(path := tmp_path / "a.parquet")
    report = import_file(lake, "prices", path)
    assert report.reasons == {"available_at is before the row could be known": 3}
    assert lake.scan("prices").collect()["available_at"].to_list() == [T0 + 9 * H]


def test_pool_words_from_floats_integers_and_text(lake: Lake, tmp_path: Path) -> None:
    big = 2**200 + 1
    text = "ts,pool,liquidity_raw,fee_pips\n" + "".join(
        f"{(T0 + i * H).isoformat()},0xA,{v},{f}\n"
        for i, (v, f) in enumerate(((big, 3000), ("7.5e17", 500), (-1, 500), ("1.5", 500), ("", 500), (1, "30.5")))
    )
    report = import_file(lake, "pool_state", csv(tmp_path, text))
    got = lake.scan("pool_state").sort("ts").collect()["liquidity_raw"].to_list()
    assert [None if w is None else from_word(w) for w in got] == [big, 75 * 10**16, None]
    assert report.reasons == {"liquidity_raw is no unsigned 256-bit integer": 2, "fee_pips is no whole number": 1}
    floats = words(pl.Series([7.647898e17, float("nan"), -5.0, None, 2.0**300]))
    assert [None if w is None else from_word(w) for w in floats] == [int(7.647898e17), None, None, None, None]


def test_oracle_rounds_keep_their_integers(lake: Lake, tmp_path: Path) -> None:
    path = csv(tmp_path, f"feed,round,answer,updated_at\nETH/USD,{2**70},-5,2022-01-01T00:00:00Z\n")
    import_file(lake, "oracle", path)
    assert lake.scan("oracle").select("chain_id", "round", "answer").collect().rows() == [(1, str(2**70), "-5")]


def test_progress_counts_to_the_end(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BATCH_ROWS", 25)
    bars().write_parquet(path := tmp_path / "p.parquet")
    seen: list[tuple[str, int, int]] = []
    import_file(lake, "prices", path, progress=lambda *a: seen.append(a))
    assert [d for _, d, _ in seen] == [25, 50, 60]
    assert {t for _, _, t in seen} == {60}


def test_dates_need_a_zone_and_zones_are_converted() -> None:
    raw = pl.Series([date(2022, 1, 1)])
    assert times(raw, None)[1].to_list() == [True]
    assert times(raw, "UTC")[0].to_list() == [T0]
    assert times(pl.Series(["2022-01-01T01:00:00"]), "Europe/Paris")[0].to_list() == [T0]
    assert times(pl.Series(["2022-03-27T02:30:00"]), "Europe/Paris")[0].to_list() == [
        None
    ]  # skipped by the clock change


number = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(0.5, 20), st.none())


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(number, number, number, number, number), min_size=1, max_size=12))
def test_rows_without_problems_always_fit_the_table_and_the_others_never_do(rows: list[tuple]) -> None:
    """Row checks here and the table's own rules agree on every row, both ways."""
    spec = table("prices")
    names = ["open", "high", "low", "close", "volume"]
    chunk = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.Float64), orient="row").with_columns(
        ts=pl.Series([T0 + i * H for i in range(len(rows))]).dt.cast_time_unit("us"), asset=pl.lit("BTC")
    )
    recipe = Recipe(spec, {c: c for c in [*names, "ts", "asset"]}, {"source": "f", "step": 3600})
    frame, problems = typed(recipe, chunk)
    fits, _ = spec.schema.filter(frame)
    assert frame.filter(~problems.bad(frame.height))["ts"].to_list() == fits.sort("ts")["ts"].to_list()


@pytest.mark.parametrize("name", ["prices", "gas", "pool_state", "signals"])
def test_what_the_lake_exports_it_imports_again(lake: Lake, tmp_path: Path, name: str) -> None:
    frame = simulate(hours=100)[name]
    frame.write_parquet(path := tmp_path / "x.parquet")
    assert import_file(lake, name, path).added == frame.height
    assert lake.digest(name) == lake.digest(name, frame)
    assert dict(lake.scan(name).collect_schema()) == TABLES[name].columns


@pytest.mark.real
def test_recorded_history_loads_as_it_is(lake: Lake, real_data: Path) -> None:
    def load(name: str, file: str, mapping: dict | None = None, constants: dict | None = None):
        return import_file(lake, name, real_data / file, mapping, constants)

    for report in (
        load("prices", "prices_1h.parquet"),
        load("gas", "gas_1h.parquet", {"base_fee_gwei": "gas_price_gwei"}),
        load("pool_state", "pool_1h.parquet", {"price": "price_usdc_per_weth"}),
        load("signals", "fear_greed_1d.parquet", {"value": "fear_greed"}, {"name": "fear_greed", "key": "market"}),
        load("signals", "funding_1d.parquet", {"key": "asset", "value": "funding_rate_8h_mean"}, {"name": "funding"}),
    ):
        assert report.rejected == 0, report
        assert report.added == report.rows > 700
    news = load("signals", "headlines.parquet", {"value": "polarity", "key": "subject"}, {"name": "sentiment"})
    raw = pl.read_parquet(real_data / "headlines.parquet")
    assert news.added == raw.unique(["ts", "subject"]).height
    assert news.reasons == {"duplicate key in the file": raw.height - news.added}
    for name in ("prices", "gas", "pool_state"):
        got = lake.scan(name).select((pl.col("available_at") - pl.col("ts")).unique()).collect()
        assert got.to_series().to_list() == [H]
    by_name = lake.scan("signals").group_by("name").agg((pl.col("available_at") - pl.col("ts")).unique()).collect()
    assert dict(by_name.iter_rows()) == {
        "fear_greed": [timedelta(days=1)], "funding": [timedelta(days=1)], "sentiment": [timedelta(0)],
    }  # fmt: skip
    pool = pl.read_parquet(real_data / "pool_1h.parquet").sort("ts")
    got = lake.scan("pool_state").sort("ts").collect()
    assert [from_word(w) for w in got["liquidity_raw"]] == [int(v) for v in pool["liquidity_raw"]]


@pytest.mark.slow
def test_memory_of_an_import_is_bounded(tmp_path: Path) -> None:
    """A fresh process imports bars of a file sorted by asset (the hard order) and tells its peak memory.

    Two million by default, ten million by `make kills`, within the same 1.5 GiB: what is held does not grow with the
    file. Alone ten million take 0.79 GiB.
    """
    import json
    import os
    import subprocess
    import sys

    rng, n = np.random.default_rng(1), IMPORT_ROWS // 20
    ts = pl.datetime_range(T0, T0 + timedelta(minutes=n - 1), "1m", time_unit="us", time_zone="UTC", eager=True)
    close = 100 * np.exp(np.cumsum(rng.standard_normal(n)) * 1e-4)
    bar = pl.LazyFrame({"ts": ts, "open": close, "high": close, "low": close, "close": close, "volume": 1.0})
    path = tmp_path / "big.parquet"
    pl.concat([bar.with_columns(asset=pl.lit(f"A{i}")) for i in range(20)]).sink_parquet(path)
    code = (
        "import json, sys; from lake.store import Lake; from lake.sources.files import import_file;"
        "r = import_file(Lake(sys.argv[1]), 'prices', sys.argv[2]);"
        "(peak,) = [x.split()[1] for x in open('/proc/self/status') if x.startswith('VmHWM')];"
        "print(json.dumps([r.added, r.rejected, int(peak)]))"  # getrusage would count the process it came from, too
    )
    command = [sys.executable, "-c", code, str(tmp_path / "lake"), str(path)]
    env = os.environ | {"_RJEM_MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0", "POLARS_MAX_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=env)
    added, rejected, peak_kib = json.loads(done.stdout)
    assert (added, rejected) == (20 * n, 0)
    assert peak_kib < 1.5 * 1024**2
