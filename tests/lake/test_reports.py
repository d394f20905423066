"""Files as people bring them: read as what they are, or refused in words with nothing written."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lake.errors import ConfigError, ForedriftError
from lake.plausibility import flagged
from lake.sources.files import Beforehand, import_file, longer_than_an_hour
from lake.sources.reading import Reading
from lake.sources.stamps import times
from lake.store import Lake

T0 = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
H = timedelta(hours=1)
HOURS = range(6)
PLAIN = "ts,asset,close\n" + "".join(f"{(T0 + i * H).isoformat()},BTC,{42000 + 13.25 * i}\n" for i in HOURS)
TRUTH = [42000 + 13.25 * i for i in HOURS]


def loaded(lake: Lake, name: str, path: Path, **how: Any) -> pl.DataFrame:
    """Import ``path`` and return the table, oldest first."""
    if "preset" in how:
        how["reading"] = Reading(preset=how.pop("preset"))
    import_file(lake, name, path, known=Beforehand(now=NOW), **how)
    return lake.scan(name).sort("ts").collect()


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def stamped(stamps: list[str]) -> str:
    return "ts,asset,close\n" + "".join(f"{t},BTC,{c}\n" for t, c in zip(stamps, TRUTH, strict=True))


STAMPS = {
    "s": (1704067200, 3600), "ms": (1704067200000, 3_600_000), "us": (1704067200000000, 3_600_000_000),
    "ns": (1704067200000000000, 3_600_000_000_000),
}  # fmt: skip
ZONELESS = {
    "compact 14": [f"20240101{i:02}0000" for i in HOURS], "compact 12": [f"20240101{i:02}00" for i in HOURS],
    "compact 10": [f"20240101{i:02}" for i in HOURS], "excel": [f"{45292 + i / 24:.6f}" for i in HOURS],
    "naive": [f"2024-01-01 {i:02}:00:00" for i in HOURS],
}  # fmt: skip


@pytest.mark.parametrize("unit", STAMPS)
def test_unix_numbers_are_read_by_the_only_date_they_can_be(lake: Lake, tmp_path: Path, unit: str) -> None:
    start, step = STAMPS[unit]
    got = loaded(lake, "prices", written(tmp_path, "a.csv", stamped([str(start + i * step) for i in HOURS])))
    assert (got["ts"].to_list(), got["close"].to_list()) == ([T0 + i * H for i in HOURS], TRUTH)


@pytest.mark.parametrize("kind", ZONELESS)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_times_without_a_zone_are_refused_with_value_and_remedy_and_read_with_it(
    lake: Lake, tmp_path: Path, kind: str, suffix: str
) -> None:
    path = written(tmp_path, "a.csv", stamped(ZONELESS[kind]))
    if suffix == "parquet":
        pl.read_csv(path).write_parquet(path := tmp_path / "a.parquet")
    with pytest.raises(ForedriftError, match=r"--tz UTC") as refused:
        import_file(lake, "prices", path, known=Beforehand(now=NOW))
    assert ZONELESS[kind][0].rstrip("0") in str(refused.value)
    assert lake.version("prices") == -1
    got = loaded(lake, "prices", path, constants={"tz": "UTC"})
    assert (got["ts"].to_list(), got["close"].to_list()) == ([T0 + i * H for i in HOURS], TRUTH)


def test_an_hour_that_a_zone_has_twice_or_never_is_refused_with_that_reason(lake: Lake, tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", stamped([f"2023-11-05 0{h}:30:00" for h in range(6)]))
    report = import_file(lake, "prices", path, constants={"tz": "America/New_York"}, known=Beforehand(now=NOW))
    assert (report.added, report.rejected) == (5, 1)
    assert "shown twice or never by the clock of America/New_York" in report.examples[0]


ODD_TYPES = {
    "a time": pl.col("ts"), "a date": pl.col("ts").dt.date(), "a span": pl.duration(hours=1), "a truth": pl.lit(True),
    "bytes": pl.lit(b"1"), "a list": pl.concat_list("close"), "a record": pl.struct("close"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD_TYPES)
@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_a_column_of_another_type_is_no_price(lake: Lake, tmp_path: Path, kind: str, suffix: str) -> None:
    plain = pl.DataFrame({"ts": [T0, T0 + H], "asset": ["BTC", "BTC"], "close": [1.0, 2.0]})
    odd, path = plain.with_columns(close=ODD_TYPES[kind]), tmp_path / f"a.{suffix}"
    odd.write_parquet(path) if suffix == "parquet" else odd.write_ipc(path)
    with pytest.raises(ForedriftError, match="'close' holds .*, which cannot be close: map another column"):
        import_file(lake, "prices", path, known=Beforehand(now=NOW))
    assert lake.version("prices") == -1


@pytest.mark.parametrize("encoding", ["hex", "zip", "rot13", "undefined", "utf-99"])
def test_an_encoding_of_no_text_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(ConfigError, match=f"--encoding '{encoding}' is not known"):
        Reading(encoding=encoding)


def test_what_is_no_file_that_can_be_read_twice_is_named(lake: Lake, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    odd = Path(os.fsdecode(bytes(tmp_path) + b"/\xff.csv"))
    odd.write_text(PLAIN)
    for path, words in (
        (tmp_path / "pipe", "is a pipe or device"), (tmp_path / "loop", "cannot be opened"), (odd, "name is no UTF-8"),
        (tmp_path / ("x" * 300), "cannot be opened .File name too long"), (tmp_path / "none", "there is no file"),
    ):  # fmt: skip
        with pytest.raises(ForedriftError, match=words):
            import_file(lake, "prices", path, known=Beforehand(now=NOW))


IMPOSSIBLE = ["26110101000000", "5", "0", "-1", "12345", "2024", "99999999999999999", "253402300799",
              "1.70407E+12", "2030-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "3000000000"]  # fmt: skip


@pytest.mark.parametrize("bad", IMPOSSIBLE)
def test_an_impossible_date_is_never_stored(lake: Lake, tmp_path: Path, bad: str) -> None:
    path = written(tmp_path, "a.csv", PLAIN + f"{bad},BTC,1\n")
    report = import_file(lake, "prices", path, known=Beforehand(now=NOW))
    assert (report.added, report.rejected) == (6, 1)
    assert bad in report.examples[0]
    assert "row 7" in report.examples[0]
    rejects = Path(report.reject_path)
    assert rejects.name == "a.csv.rejects.csv"
    assert bad in rejects.read_text()


def test_no_number_has_two_readings() -> None:
    """Every whole number of any notation gives one date, and its neighbours give dates near it or none."""
    values = pl.Series([45292, 20240101, 2024010100, 202401010000, 20240101000000, 1704067200, 1704067200000])
    for raw in (values, values.cast(pl.Float64), values.cast(pl.String)):
        assert times(raw, "UTC", NOW)[0].to_list() == [T0] * values.len()


def test_a_bar_that_is_not_over_is_no_bar_yet(lake: Lake, tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", PLAIN)
    report = import_file(lake, "prices", path, known=Beforehand(now=T0 + 5.5 * H))
    assert (report.added, report.rejected) == (5, 1)
    assert "known only after now" in report.examples[0]


KLINE = [[1704067200000 + i * 3_600_000, TRUTH[i], TRUTH[i] + 50, TRUTH[i] - 50, TRUTH[i] + 5, 10,
          1704067200000 + (i + 1) * 3_600_000 - 1, 1, 1, 1, 1, 0] for i in HOURS]  # fmt: skip
KLINE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)


def micro(row: list[float]) -> list[float]:
    return [row[0] * 1000, *row[1:6], (row[6] + 1) * 1000 - 1, *row[7:]]


@pytest.mark.parametrize("header", [KLINE_HEADER + "\n", KLINE_HEADER.replace("_", " ").title() + "\n", ""])
@pytest.mark.parametrize("unit", ["ms", "us", "mixed"])
def test_binance_klines(lake: Lake, tmp_path: Path, header: str, unit: str) -> None:
    rows = [micro(r) if unit == "us" or (unit == "mixed" and i > 2) else r for i, r in enumerate(KLINE)]
    text = header + "".join(",".join(str(v) for v in r) + "\n" for r in rows)
    got = loaded(lake, "prices", written(tmp_path, "BTCUSDT-1h-2024-01.csv", text), preset="binance-klines")
    assert got.select("source", "asset", "step").unique().rows() == [("binance", "BTC", 3600)]
    assert got["ts"].to_list() == [T0 + i * H for i in HOURS]
    assert got["close"].to_list() == [c + 5 for c in TRUTH]
    if not header:
        with pytest.raises(ForedriftError, match="--no-header.*binance-klines"):
            import_file(lake, "prices", tmp_path / "BTCUSDT-1h-2024-01.csv", known=Beforehand(now=NOW))
        mapping = {"ts": "column_1", "close": "column_5"}
        how = {
            "mapping": mapping,
            "constants": {"asset": "B"},
            "reading": Reading(header=False),
            "known": Beforehand(now=NOW),
        }
        assert import_file(lake, "prices", tmp_path / "BTCUSDT-1h-2024-01.csv", **how).added == 6


def test_columns_left_out_steps_and_times_are_reported(lake: Lake, tmp_path: Path) -> None:
    text = KLINE_HEADER + "\n" + "".join(",".join(str(v) for v in r) + "\n" for r in [*KLINE, KLINE[0]])
    path = written(tmp_path, "k.csv", text)
    report = import_file(lake, "prices", path, {"ts": "open_time"}, {"asset": "BTC"}, known=Beforehand(now=NOW))
    assert report.left_out == tuple(KLINE_HEADER.split(",")[6:])
    assert dict(report.columns) == {"ts": "open_time"} | {c: c for c in ("open", "high", "low", "close", "volume")}
    assert (report.steps, report.duplicates) == ({"file/BTC": 3600}, 1)
    assert (report.first, report.last) == (T0, T0 + 5 * H)


def test_cryptodatadownload(lake: Lake, tmp_path: Path) -> None:
    text = (
        "https://www.CryptoDataDownload.com\nUnix,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USDT,tradecount\n"
    )
    text += "".join(f"{r[0]},{T0 + i * H:%Y-%m-%d %H:%M:%S},BTC/USDT,{r[1]},{r[2]},{r[3]},{r[4]},1.5,63000,2000\n"
                    for i, r in reversed(list(enumerate(KLINE))))  # fmt: skip
    path = written(tmp_path, "c.csv", text)
    with pytest.raises(ForedriftError, match="--skip 1.*cryptodatadownload"):
        import_file(lake, "prices", path, known=Beforehand(now=NOW))
    assert lake.version("prices") == -1
    got = loaded(lake, "prices", path, preset="cryptodatadownload")
    assert got.select("asset", "volume", "step").unique().rows() == [("BTC", 1.5, 3600)]
    assert got["close"].to_list() == [c + 5 for c in TRUTH]
    mapping = {c: c.title() for c in ("open", "high", "low", "close")} | {"ts": "Unix", "asset": "Symbol"}
    assert import_file(lake, "prices", path, mapping, reading=Reading(skip=1), known=Beforehand(now=NOW)).added == 6


ETHERSCAN = '"Date(UTC)","UnixTimeStamp","Value (Wei)"\n' + "".join(
    f'"1/{i + 1}/2024","{1704067200 + 86400 * i}","{(24 + i) * 10**9}"\n' for i in HOURS
)


def test_etherscan_gas_is_in_wei_and_wei_taken_for_gwei_is_flagged(lake: Lake, tmp_path: Path) -> None:
    path = written(tmp_path, "g.csv", ETHERSCAN)
    got = loaded(lake, "gas", path, preset="etherscan-gas")
    assert got["base_fee_gwei"].to_list() == pytest.approx([24.0 + i for i in HOURS], rel=1e-15)
    assert (got["available_at"] - got["ts"]).unique().to_list() == [24 * H]
    by_name = import_file(
        lake, "gas", path, {"ts": "UnixTimeStamp", "base_fee_gwei": "Value (Wei)"}, known=Beforehand(now=NOW)
    )
    assert by_name.unchanged == 6
    assert any("divided by 1e9" in n for n in by_name.notes)
    other = Lake(lake.root + "2")
    renamed = written(tmp_path, "h.csv", ETHERSCAN.replace("Value (Wei)", "price"))
    report = import_file(
        other, "gas", renamed, {"ts": "UnixTimeStamp", "base_fee_gwei": "price"}, known=Beforehand(now=NOW)
    )
    assert len(report.flagged) == 6
    assert flagged(other, "gas").height == 6


def test_freqtrade_feather_and_json(lake: Lake, tmp_path: Path) -> None:
    frame = pl.DataFrame({"date": pl.Series([T0 + i * H for i in HOURS], dtype=pl.Datetime("ms", "UTC")),
                          "open": TRUTH, "high": TRUTH, "low": TRUTH, "close": TRUTH, "volume": 1.0})  # fmt: skip
    frame.write_ipc(tmp_path / "ETH_USDT-1h.feather", compression="lz4")
    rows = [[1704067200000 + i * 3_600_000, c, c, c, c, 1.0] for i, c in enumerate(TRUTH)]
    written(tmp_path, "SOL_USDT-1h.json", json.dumps(rows))
    for name, asset in (("ETH_USDT-1h.feather", "ETH"), ("SOL_USDT-1h.json", "SOL")):
        got = loaded(lake, "prices", tmp_path / name, preset="freqtrade").filter(pl.col("asset") == asset)
        assert (got["ts"].to_list(), got["close"].to_list()) == ([T0 + i * H for i in HOURS], TRUTH)
        assert got["step"].unique().to_list() == [3600]


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_coingecko(lake: Lake, tmp_path: Path, kind: str) -> None:
    if kind == "json":
        prices = [[1704067200000 + i * 3_600_000 + 4_321 * (i % 3), c] for i, c in enumerate(TRUTH)]
        path = written(tmp_path, "g.json", json.dumps({"prices": prices, "market_caps": [], "total_volumes": []}))
        with pytest.raises(ForedriftError, match="CoinGecko.*--format coingecko"):
            import_file(lake, "prices", path, known=Beforehand(now=NOW))
    else:
        text = "snapped_at,price,market_cap,total_volume\n"
        path = written(tmp_path, "btc-usd-max.csv", text + "".join(
            f"{T0 + i * H:%Y-%m-%d %H:%M:%S} UTC,{c},1,2\n" for i, c in enumerate(TRUTH)))  # fmt: skip
    got = loaded(lake, "prices", path, preset="coingecko", constants={"asset": "BTC"})
    assert (got["ts"].to_list(), got["close"].to_list()) == ([T0 + i * H for i in HOURS], TRUTH)
    assert ((got["available_at"] - got["ts"]) >= H).all()


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_dune(lake: Lake, tmp_path: Path, kind: str) -> None:
    rows = [
        {"hour": f"{T0 + i * H:%Y-%m-%d %H:%M:%S}.000 UTC", "symbol": "ETH", "price": c} for i, c in enumerate(TRUTH)
    ]
    if kind == "json":
        path = written(tmp_path, "d.json", json.dumps({"execution_id": "x", "result": {"rows": rows[::-1]}}))
    else:
        pl.DataFrame(rows).write_csv(path := tmp_path / "d.csv")
    got = loaded(lake, "prices", path, preset="dune")
    assert (got["ts"].to_list(), got["close"].to_list()) == ([T0 + i * H for i in HOURS], TRUTH)
    gas = "block_time,avg_gas_price\n" + "".join(f"{T0 + i * H:%Y-%m-%d %H:%M},{(20 + i) * 10**9}\n" for i in HOURS)
    got = loaded(lake, "gas", written(tmp_path, "g.csv", gas), preset="dune")
    assert got["base_fee_gwei"].to_list() == pytest.approx([20.0 + i for i in HOURS])


READABLE = {
    "utf-16": PLAIN.encode("utf-16"), "utf-16-le": PLAIN.encode("utf-16-le"), "utf-8-sig": PLAIN.encode("utf-8-sig"),
    "utf-32": PLAIN.encode("utf-32"), "crlf": PLAIN.replace("\n", "\r\n").encode(),
    "old mac": PLAIN.replace("\n", "\r").encode(), "blank first": b"\n\n" + PLAIN.encode(),
    "padded names": PLAIN.replace("ts,asset,close", "ts, asset , close").encode(),
    "gzip": gzip.compress(PLAIN.encode()),
    "tabs": PLAIN.replace(",", "\t").encode(), "pipes": PLAIN.replace(",", "|").encode(),
}  # fmt: skip


@pytest.mark.parametrize("kind", READABLE)
def test_what_can_be_read_without_guessing_is_read(lake: Lake, tmp_path: Path, kind: str) -> None:
    got = loaded(lake, "prices", written(tmp_path, "a.csv", READABLE[kind]))
    assert (got["ts"].to_list(), got["close"].to_list()) == ([T0 + i * H for i in HOURS], TRUTH)


def test_a_zip_of_one_file_is_read_and_of_two_is_refused(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", PLAIN)
    assert loaded(lake, "prices", path)["close"].to_list() == TRUTH
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b.csv", PLAIN)
    with pytest.raises(ForedriftError, match="archive of 2 files"):
        import_file(lake, "prices", path, known=Beforehand(now=NOW))


def workbook(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
        archive.writestr("xl/workbook.xml", "<x/>")
    return path.read_bytes()


def tarball(path: Path) -> bytes:
    written(path.parent, "in.csv", PLAIN)
    with tarfile.open(path, "w") as archive:
        archive.add(path.parent / "in.csv", "in.csv")
    return path.read_bytes()


REFUSED = {
    "html": (b"<!DOCTYPE html><html><body>Log in</body></html>", "HTML"),
    "xml": (b"<?xml version='1.0'?><a/>", "HTML or XML"),
    "json": (b'[{"ts": 1, "close": 2}]', "JSON"),
    "ndjson": (b'{"ts": 1, "close": 2}\n{"ts": 2, "close": 2}\n', "JSON"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "Excel"),
    "pdf": (b"%PDF-1.7\n", "PDF"),
    "sqlite": (b"SQLite format 3\0" + bytes(90), "SQLite"),
    "bz2": (b"BZh91AY", "bzip2"),
    "latin-1": (
        PLAIN.replace("close", "close,remarqué").replace("\n2", ",à\n2").encode("latin-1"),
        "--encoding latin-1",
    ),
    "empty": (b"", "empty"),
    "blank": (b"\n \n", "empty"),
    "utf-16 empty": (b"\xff\xfe", "empty|no header"),
    "comments": (b"# made by x\n# on a Monday\n" + PLAIN.encode(), "--skip 2"),
    "headerless": (PLAIN.split("\n", 1)[1].encode(), "--no-header"),
    "twice": (PLAIN.replace("ts,asset,close", "ts,close,close").encode(), "several columns"),
    "broken gzip": (gzip.compress(PLAIN.encode())[:-12], "archive"),
    "damaged gzip": (gzip.compress(PLAIN.encode())[:10] + b"\xff" * 40, "archive"),
    "cut feather": (b"ARROW1\0\0" + b"\xff" * 80, "Feather file that cannot be read"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n", "needs columns"),
}


@pytest.mark.parametrize("kind", [*REFUSED, "workbook", "tar"])
def test_what_is_no_table_is_named_with_the_remedy_and_nothing_is_written(
    lake: Lake, tmp_path: Path, kind: str
) -> None:
    extra = {"workbook": (workbook, "Excel"), "tar": (tarball, "tar archive")}
    content, word = REFUSED[kind] if kind in REFUSED else (extra[kind][0](tmp_path / "made"), extra[kind][1])
    with pytest.raises(ForedriftError, match=word) as refused:
        import_file(lake, "prices", written(tmp_path, "own.csv", content), known=Beforehand(now=NOW))
    assert "\n" not in str(refused.value)
    assert lake.version("prices") == -1


COMMAS = "ts;asset;close;volume\n" + "".join(
    f"{(T0 + i * H).isoformat()};BTC;{TRUTH[i]:_.2f};1_00{i}.00\n".replace(".", ",").replace("_", ".") for i in HOURS
)


def test_decimal_commas_are_refused_with_the_remedy_and_read_with_it(lake: Lake, tmp_path: Path) -> None:
    path = written(tmp_path, "c.csv", COMMAS)
    with pytest.raises(ForedriftError, match=r"row 1: close '42.000,00'.*--decimal ,.*--thousands \."):
        import_file(lake, "prices", path, known=Beforehand(now=NOW))
    assert lake.version("prices") == -1
    got = loaded(lake, "prices", path, reading=Reading(decimal=",", thousands="."))
    assert (got["close"].to_list(), got["volume"].to_list()) == (TRUTH, [1000.0 + i for i in HOURS])
    half = import_file(Lake(lake.root + "2"), "prices", path, reading=Reading(decimal=","), known=Beforehand(now=NOW))
    assert half.reasons == {"close is no number": 6, "volume is no number": 6}


@pytest.mark.parametrize(
    ("first", "second"),
    [("42.000", "42.013"), ("1.042.000", "1.042.013"), ("42,000", "42,013"), ("42'000.5", "42'013.5")],
)
def test_marks_that_could_be_either_are_asked_for(lake: Lake, tmp_path: Path, first: str, second: str) -> None:
    text = f"ts;asset;close\n{T0.isoformat()};BTC;{first}\n{(T0 + H).isoformat()};BTC;{second}\n"
    with pytest.raises(ForedriftError, match="--thousands|--decimal"):
        import_file(lake, "prices", written(tmp_path, "c.csv", text), known=Beforehand(now=NOW))
    assert lake.version("prices") == -1


@pytest.mark.parametrize("how", [{"decimal": "x"}, {"thousands": "."}, {"decimal": ",", "thousands": ","},
                                 {"skip": -1}, {"encoding": "klingon"}])  # fmt: skip
def test_impossible_ways_of_reading_are_usage_errors(how: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Reading(**how)


def test_a_format_for_another_table_or_file_is_refused(lake: Lake, tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", PLAIN)
    for name, preset in (("prices", "nope"), ("gas", "freqtrade"), ("prices", "etherscan-gas")):
        with pytest.raises(ConfigError, match="format"):
            import_file(lake, name, path, reading=Reading(preset=preset), known=Beforehand(now=NOW))
    for preset in ("binance-klines", "cryptodatadownload", "freqtrade", "coingecko"):
        with pytest.raises(ForedriftError):
            import_file(lake, "prices", path, reading=Reading(preset=preset), known=Beforehand(now=NOW))
    assert lake.version("prices") == -1


def spaced(gaps_h: list[float]) -> str:
    at, rows = T0, ["ts,asset,close"]
    for gap in [0, *gaps_h]:
        at += gap * H
        rows.append(f"{at.isoformat()},BTC,100")
    return "\n".join(rows) + "\n"


MIXED = [
    [1] * 5 + [19] + [24] * 4, [1] * 200 + [24] * 12, [24] * 20 + [1] * 3, [1] * 9 + [0.25] * 4, [1] * 20 + [4] * 10,
    [0.5] * 60 + [1] * 15,
]  # fmt: skip


@pytest.mark.parametrize("gaps", MIXED)
def test_a_series_of_several_bar_lengths_is_refused(lake: Lake, tmp_path: Path, gaps: list[float]) -> None:
    path = written(tmp_path, "m.csv", spaced(gaps))
    with pytest.raises(ForedriftError, match="several spacings.*import them apart"):
        import_file(lake, "prices", path, known=Beforehand(now=NOW))
    assert lake.version("prices") == -1
    text = spaced(gaps).replace("asset,close", "x,base_fee_gwei")
    with pytest.raises(ForedriftError, match="several spacings.*--lag"):
        import_file(lake, "gas", written(tmp_path, "g.csv", text), known=Beforehand(now=NOW))


def test_a_step_given_for_rows_that_lie_further_apart_is_said(lake: Lake, tmp_path: Path) -> None:
    for gaps in ([24] * 5, [1] * 50 + [24] * 5):
        path = written(tmp_path, "m.csv", spaced(gaps))
        report = import_file(lake, "prices", path, constants={"step": "1h"}, known=Beforehand(now=NOW))
        assert "step=3600 s as given, but rows lie otherwise" in " ".join(report.notes)


@pytest.mark.parametrize("gaps", [[1] * 9, [1] * 40 + [2] * 3 + [1] * 40 + [3, 3, 7, 30], [24] * 9, [1] * 5 + [100]])
def test_holes_in_a_series_are_holes(lake: Lake, tmp_path: Path, gaps: list[float]) -> None:
    report = import_file(lake, "prices", written(tmp_path, "m.csv", spaced(gaps)), known=Beforehand(now=NOW))
    assert report.rejected == 0
    assert list(report.steps.values()) == [3600 * min(gaps)]
    assert longer_than_an_hour(report) == (["file/BTC"] if min(gaps) > 1 else [])
