"""Exports of known sites that are not what their name says: each is refused with what is wrong and what to do."""

from __future__ import annotations

import errno
import gzip
import json
import os
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError, DataError, SchemaError, StoreError
from lake.sources.files import Beforehand, import_file
from lake.sources.formats import PRESETS, looks_like, pair_asset
from lake.sources.reading import Reading
from lake.store import Lake

T0 = datetime(2024, 1, 1, tzinfo=UTC)
NOW = T0 + timedelta(days=90)
MS = int(T0.timestamp()) * 1_000
BAR = [MS, "1", "2", "0.5", "1.5", "10", MS + 3_599_999]


def refused(lake: Lake, file: Path, preset: str | None, table: str = "prices", kind: type = DataError, **set_) -> str:
    """Import ``file`` and return why it was refused: one line, and nothing in the lake."""
    with pytest.raises(kind) as error:
        import_file(lake, table, file, {}, set_, reading=Reading(preset=preset), known=Beforehand(now=NOW))
    assert "\n" not in str(error.value)
    assert lake.version(table) == -1
    return str(error.value)


def saved(folder: Path, name: str, content: object) -> Path:
    file = folder / name
    text = content if isinstance(content, str) else json.dumps(content)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("preset", "content", "words"),
    [
        ("coingecko", '{"prices": [[1, 2', "begins like JSON but is none"),
        ("coingecko", '{"prices": [[1, 2', "download it again"),
        (
            "coingecko",
            {"status": {"error_code": 429}},
            "is no CoinGecko market chart: it lacks prices as [time, price]",
        ),
        ("coingecko", {"prices": []}, "it lacks prices as [time, price]"),
        ("coingecko", {"prices": [[MS, 1.0, 2.0]]}, "it lacks prices as [time, price]"),
        ("dune", {"error": "query timed out"}, "is no Dune result: it lacks result.rows"),
        ("dune", {"result": {"rows": []}}, "it lacks result.rows"),
        ("dune", {"result": None}, "it lacks result.rows"),
        ("dune", {"result": [1, 2]}, "it lacks result.rows"),
        ("coingecko", '{"prices":' + "[" * 5_000, "begins like JSON but is none"),
        ("dune", [[MS, 1.0]], "it lacks result.rows"),
        ("binance-klines", {"code": -1121, "msg": "Invalid symbol."}, "is no array of klines; it is JSON: convert it"),
        ("binance-klines", [BAR[:5]], "is no array of klines; it is JSON arrays of candles"),
        ("freqtrade", [[*BAR[:6], 9]], "is no array of [time, open, high, low, close, volume]; is it another format?"),
        ("etherscan-gas", {"status": "0"}, "is JSON: convert it to CSV or Parquet"),
        ("cryptodatadownload", {"prices": [[MS, 1.0]]}, "a CoinGecko market chart in JSON: add --format coingecko"),
    ],
)
def test_json_of_another_shape_is_named(lake: Lake, tmp_path: Path, preset: str, content: object, words: str) -> None:
    table = "gas" if preset == "etherscan-gas" else "prices"
    assert words in refused(lake, saved(tmp_path, "BTCUSDT.json", content), preset, table)


@pytest.mark.parametrize(
    ("preset", "header", "lacks"),
    [
        ("cryptodatadownload", "unix,date,open,high,low,close", "symbol"),
        ("freqtrade", "date,open,high,low,close", "volume"),
        ("coingecko", "snapped_at,market_cap,total_volume", "price"),
        ("etherscan-gas", "UnixTimeStamp,Gwei", "value_wei"),
        ("deribit-chain", "ts,asset,expiry,strike,kind,forward", "mark_iv"),
        ("dvol", "ts,open,high,low", "close"),
    ],
)
def test_an_export_without_its_columns_is_told_by_the_one_that_lacks(lake, tmp_path, preset, header, lacks):
    [table] = PRESETS[preset].tables
    row = ",".join("1" for _ in header.split(","))
    said = refused(lake, saved(tmp_path, "own.csv", f"{header}\n{row}\n"), preset, table)
    assert f"is no {preset} export: it lacks {lacks} and has" in said
    assert "leave --format out and use --map" in said


def test_klines_begin_with_their_open_time(lake, tmp_path):
    said = refused(lake, saved(tmp_path, "a.csv", "close,a,b,c,d,e,f\n1,2,3,4,5,6,7\n"), "binance-klines")
    assert "its first column is 'close', not open_time" in said
    said = refused(lake, saved(tmp_path, "a.csv", "open_time,close\n1,2\n"), "binance-klines")
    assert "has 2 columns; klines have 12" in said


def test_columns_that_differ_in_case_only_are_asked_to_be_renamed(lake, tmp_path):
    header = "date,open,high,low,close,Close,volume"
    said = refused(lake, saved(tmp_path, "a.csv", f"{header}\n{T0.isoformat()},1,1,1,1,1,1\n"), "freqtrade")
    assert "has columns that differ in case or blanks only" in said
    assert said.endswith("rename them")


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_format_is_of_its_tables_only_and_an_unknown_one_lists_all(lake, tmp_path, preset):
    file = saved(tmp_path, "a.csv", "ts,close\n1,2\n")
    other = "oracle"
    said = refused(lake, file, preset, other, ConfigError)
    assert said == f"--format {preset} holds {' or '.join(PRESETS[preset].tables)}, not {other}"
    said = refused(lake, file, preset + "x", "prices", ConfigError)
    assert all(name in said for name in PRESETS)


def test_klines_of_json_and_csv_are_the_same_rows(tmp_path):
    rows = [
        [BAR[0] + i * 3_600_000, "1", "2", "0.5", f"{1.5 + i / 10}", "10", BAR[6] + i * 3_600_000] for i in range(4)
    ]
    as_json = saved(tmp_path, "BTCUSDT.json", rows)
    as_csv = saved(tmp_path, "BTCUSDT.csv", "\n".join(",".join(map(str, r)) for r in rows))
    frames = []
    for file in (as_json, as_csv):
        lake = Lake(str(tmp_path / file.suffix[1:]))
        report = import_file(lake, "prices", file, reading=Reading(preset="binance-klines"), known=Beforehand(now=NOW))
        assert (report.added, report.rejected) == (4, 0)
        frames.append(lake.scan("prices").sort("ts").collect())
    assert frames[0].equals(frames[1])
    assert frames[0]["close"].to_list() == [1.5, 1.6, 1.7, 1.8]
    assert frames[0]["step"].unique().to_list() == [3_600]
    assert (frames[0]["asset"][0], frames[0]["source"][0]) == ("BTC", "binance")


def test_a_bar_whose_times_are_no_whole_second_apart_has_no_step_and_is_set_aside(lake, tmp_path):
    rows = [BAR, [MS + 3_600_000, *BAR[1:6], MS + 7_199_000]]
    file = saved(tmp_path, "ETHUSDT.json", rows)
    report = import_file(lake, "prices", file, reading=Reading(preset="binance-klines"), known=Beforehand(now=NOW))
    assert report.added + report.rejected == 2
    steps = lake.scan("prices").collect()["step"].to_list()
    assert 3_600 in steps
    assert all(s in {3_600, 3_599} for s in steps)


@given(
    base=st.from_regex(r"[A-Z0-9]{2,8}", fullmatch=True),
    quote=st.sampled_from(["USDT", "USDC", "USD", "EUR", "DAI"]),
    mark=st.sampled_from(["_", "-"]),
    tail=st.sampled_from(["", "-1h", "_2024-01", ".csv", "-1d.feather"]),
)
def test_the_asset_of_a_file_named_by_its_market_is_what_stands_before_the_quote(base, quote, mark, tail):
    found = pair_asset(Path(f"/x/{base}{mark}{quote}{tail}"))
    assert found is not None
    assert (base + mark).startswith(found)
    if not any(q in base for q in ("USD", "EUR", "DAI")):
        assert found == base


@pytest.mark.parametrize("name", ["prices.csv", "my btc.csv", "USDT.csv", "BTCUSDTX.csv", "", "2024-01.csv"])
def test_a_file_named_otherwise_names_no_asset(name):
    assert pair_asset(Path(name)) is None


def test_an_export_is_told_by_its_header_in_any_case():
    assert looks_like(["Open Time", "Open", "Close", "Close Time"]) == "binance-klines"
    assert looks_like(["UnixTimeStamp", "Value (Wei)"]) == "etherscan-gas"
    assert looks_like(["snapped_at", "price", "market_cap", "total_volume"]) == "coingecko"
    assert looks_like(["ts", "close"]) is None


@pytest.mark.parametrize(
    ("query", "unit"),
    [("base_fee_gwei", 1.0), ("gas_price_gwei", 1.0), ("base_fee_per_gas", 1e-9), ("gas_price", 1e-9)],
)
def test_gas_of_a_dune_query_is_in_gwei_whatever_the_column_is_called(lake, tmp_path, query, unit):
    rows = [{"hour": f"2024-01-01 0{i}:00:00.000 UTC", query: (20 + i) / unit} for i in range(3)]
    file = saved(tmp_path, "q.json", {"result": {"rows": rows}})
    report = import_file(lake, "gas", file, {}, {"chain_id": "1"}, reading=Reading(preset="dune"),
                         known=Beforehand(now=NOW))  # fmt: skip
    assert report.added == 3
    got = lake.scan("gas").sort("ts").collect()
    assert got["base_fee_gwei"].to_list() == pytest.approx([20.0, 21.0, 22.0])
    assert got["ts"].to_list() == [T0 + i * timedelta(hours=1) for i in range(3)]


def test_an_archive_in_an_archive_and_a_folder_are_refused(lake, tmp_path):
    inner = gzip.compress(b"ts,asset,close\n2024-01-01T00:00:00Z,BTC,1\n")
    twice = tmp_path / "a.csv.gz.gz"
    twice.write_bytes(gzip.compress(inner))
    assert "holds an archive in an archive: unpack it first" in refused(lake, twice, None)
    assert "give one Parquet or CSV file" in refused(lake, tmp_path, None)
    locked = tmp_path / "bad.zip"
    with zipfile.ZipFile(locked, "w") as made:
        made.writestr("a.csv", "ts,asset,close\n")
    locked.write_bytes(locked.read_bytes().replace(b"PK\x01\x02", b"PK\x00\x00"))
    assert "is an archive that cannot be unpacked" in refused(lake, locked, None)


def test_a_single_bar_has_no_spacing_and_is_asked_for_its_step(lake, tmp_path):
    file = saved(tmp_path, "a.csv", f"ts,asset,close\n{T0.isoformat()},BTC,1\n")
    assert "no series has two times, so its spacing is unknown; add --set step=1h" in refused(
        lake, file, None, "prices", SchemaError
    )
    fees = saved(tmp_path, "g.csv", f"ts,base_fee_gwei\n{T0.isoformat()},1\n")
    assert "add --lag 1h" in refused(lake, fees, None, "gas", SchemaError, chain_id="1")


@pytest.mark.parametrize("same", [".", ","])
def test_one_mark_cannot_be_both_decimal_and_thousands(same):
    with pytest.raises(ConfigError, match="give the other one as well"):
        Reading(decimal=same, thousands=same)


def test_a_dvol_bar_in_points_is_stored_as_a_fraction_thirty_days_ahead(lake, tmp_path):
    rows = [(T0 + i * timedelta(hours=1), 60.0 + i) for i in range(3)]
    text = "ts,open,high,low,close\n" + "".join(f"{t.isoformat()},1,1,1,{v}\n" for t, v in rows)
    report = import_file(lake, "volindex", saved(tmp_path, "dvol.csv", text), {}, {"asset": "ETH"},
                         reading=Reading(preset="dvol"), known=Beforehand(now=NOW))  # fmt: skip
    assert report.added == 3
    got = lake.scan("volindex").sort("ts").collect()
    assert got["value"].to_list() == pytest.approx([0.60, 0.61, 0.62])
    assert got["horizon_s"].unique().to_list() == [30 * 86_400]
    assert (got["available_at"] > got["ts"]).all()


def test_a_frame_of_another_resolution_is_the_same_rows(lake, tmp_path):
    bars = pl.DataFrame({"date": [T0 + i * timedelta(hours=1) for i in range(3)], "open": 1.0, "high": 1.0, "low": 1.0,
                         "close": [1.0, 2.0, 3.0], "volume": 0.0})  # fmt: skip
    bars.with_columns(pl.col("date").dt.cast_time_unit("ms"), pl.col("close").clip(upper_bound=1.0)).write_ipc(
        tmp_path / "BTC_USDT-1h.feather"
    )
    report = import_file(
        lake, "prices", tmp_path / "BTC_USDT-1h.feather", reading=Reading(preset="freqtrade"), known=Beforehand(now=NOW)
    )
    assert (report.added, report.rejected) == (3, 0)
    assert lake.scan("prices").sort("ts").collect()["ts"].to_list() == bars["date"].to_list()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_more_is_not_blamed_on_the_archive(lake, tmp_path, monkeypatch, code):
    file = tmp_path / "gas.csv.gz"
    file.write_bytes(gzip.compress(b"ts,base_fee_gwei\n2024-01-01,10\n"))

    def full(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("lake.sources.reading.shutil.copyfileobj", full)
    told = refused(lake, file, None, "gas", StoreError, chain_id=1)
    assert "cannot be read or written" in told
    assert "get it again" not in told
