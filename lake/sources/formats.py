"""Exports people have, as rows of a table: which columns they write, in which unit, and what of it the lake keeps.

A preset turns the file's own names into a table's before the usual rules read it, so a preset never makes a value
pass that the rules would refuse. What it assumed is said in its notes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from lake.errors import ConfigError, DataError
from lake.json_text import parsed
from lake.sources.reading import Opened, Reading, feather, names_of, scan_text
from lake.units import WEI_PER_GWEI

_QUOTES = "USDT|USDC|FDUSD|BUSD|TUSD|DAI|USD|EUR"
_PAIR = re.compile(rf"^([A-Z0-9]{{1,15}}?)[_/-]?({_QUOTES})(?=$|[^A-Za-z0-9])")
_KLINES = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count", "taker_buy_volume",
    "taker_buy_quote_volume", "ignore",
)  # fmt: skip


HEADERS = {
    "binance-klines": frozenset({"open_time", "close", "close_time"}),
    "cryptodatadownload": frozenset({"unix", "date", "symbol", "close"}),
    "etherscan-gas": frozenset({"unixtimestamp", "value_wei"}),
    "coingecko": frozenset({"snapped_at", "price", "market_cap"}),
}
"""Columns that tell an export by its header, lower case, blanks as underscores."""


@dataclass(frozen=True, slots=True)
class FileShape:
    """A file in a table's own terms: its rows, table column -> file column, values for all rows, unit factors."""

    scan: pl.LazyFrame
    mapping: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    grid_s: tuple[int, ...] = ()  # bars are rounded down to the one of these nearest to their spacing, seconds


@dataclass(frozen=True, slots=True)
class Preset:
    """How one kind of export is read; ``build`` gets the opened file, how its text is read and the table's name."""

    tables: tuple[str, ...]
    build: Callable[[Opened, Reading, str], FileShape]


def shaped(name: str, table: str, file: Opened, reading: Reading) -> FileShape:
    """Return ``file`` read as export ``name``; raises ConfigError for an unknown preset, DataError for another file."""
    if name not in PRESETS:
        raise ConfigError(f"--format {name!r} is not known; the formats are {', '.join(PRESETS)}")
    preset = PRESETS[name]
    if table not in preset.tables:
        raise ConfigError(f"--format {name} holds {' or '.join(preset.tables)}, not {table}")
    return preset.build(file, reading, table)


def described(file: Opened) -> str:
    """Return what a JSON file seems to be and how to import it."""
    data = _json(file)
    if isinstance(data, dict) and "prices" in data:
        return "a CoinGecko market chart in JSON: add --format coingecko --set asset=SYMBOL"
    if isinstance(data, dict) and "result" in data:
        return "a Dune result in JSON: add --format dune"
    if isinstance(data, list) and data and isinstance(data[0], list):
        return "JSON arrays of candles: add --format freqtrade (or binance-klines for twelve fields) --set asset=SYMBOL"
    return "JSON: convert it to CSV or Parquet, or name the export with --format (coingecko, freqtrade, dune)"


def looks_like(names: Sequence[str]) -> str | None:
    """Return the export whose header these columns are, None where it is none that is known."""
    plain = {re.sub(r"[^a-z0-9]+", "_", n.lower()).strip("_") for n in names}
    return next((export for export, header in HEADERS.items() if header <= plain), None)


def pair_asset(path: Path) -> str | None:
    """Return the asset of a file named by its market, e.g. ``BTCUSDT-1h-2024-01.csv`` or ``ETH_USDT-1h.feather``."""
    found = _PAIR.match(path.name.upper())
    return found[1] if found else None


def _named(file: Opened) -> tuple[dict[str, str], tuple[str, ...]]:
    asset = pair_asset(file.path)
    return ({"asset": asset}, (f"asset {asset} from the file's name",)) if asset else ({}, ())


def _json(file: Opened) -> Any:
    try:
        return parsed(file.text.read_bytes())
    except ValueError as error:
        raise DataError(f"{file.path} begins like JSON but is none ({error}): download it again") from error


def _table(file: Opened, reading: Reading) -> pl.LazyFrame:
    """Return the file's rows under its own column names, whatever container they come in."""
    if file.kind == "parquet":
        return pl.scan_parquet(file.text, glob=False, hive_partitioning=False)
    if file.kind == "feather":
        return feather(file)
    if file.kind == "csv":
        return scan_text(file, reading)[0]
    raise DataError(f"{file.path} is {described(file)}")


def _renamed(scan: pl.LazyFrame, path: Path) -> tuple[pl.LazyFrame, list[str]]:
    """Return the rows with lower-case names whose blanks are underscores, and these names."""
    names = names_of(path, scan)
    plain = [re.sub(r"[^a-z0-9]+", "_", n.lower()).strip("_") or f"column_{i}" for i, n in enumerate(names, 1)]
    if len(set(plain)) < len(plain):
        raise DataError(f"{path} has columns that differ in case or blanks only: {', '.join(names)}; rename them")
    return scan.rename(dict(zip(names, plain, strict=True))), plain


def _need(file: Opened, names: list[str], wanted: tuple[str, ...], preset: str) -> None:
    absent = [w for w in wanted if w not in names]
    if absent:
        raise DataError(
            f"{file.path} is no {preset} export: it lacks {', '.join(absent)} and has {', '.join(names)}; "
            "leave --format out and use --map"
        )


def _klines(file: Opened, reading: Reading, table: str) -> FileShape:
    """Binance klines: twelve columns with or without a header, times in ms or us; step from their span."""
    del table
    if file.kind == "json":
        rows = _json(file)
        if not isinstance(rows, list) or not rows or not all(isinstance(r, list) and len(r) >= 7 for r in rows):
            raise DataError(f"{file.path} is no array of klines; it is {described(file)}")
        columns = {n: pl.Series([str(r[i]) for r in rows]) for i, n in enumerate(_KLINES[: min(map(len, rows))])}
        scan = pl.DataFrame(columns).lazy()
    else:
        scan = _klines_table(file, reading)
    span = _microseconds("close_time", 1) - _microseconds("open_time", 0)
    scan = scan.with_columns(step=pl.when(span % 10**6 == 0).then(span // 10**6).cast(pl.String))
    named, notes = _named(file)
    mapping = {"ts": "open_time"} | {c: c for c in ("open", "high", "low", "close", "volume", "step")}
    return FileShape(
        scan, mapping, {"source": "binance", **named}, notes=(*notes, "step of each bar = close_time - open_time + 1")
    )


def _microseconds(column: str, ahead: int) -> pl.Expr:
    """Return a column of Unix s, ms or us, ``ahead`` of its own units later, in microseconds."""
    value = pl.col(column).cast(pl.Int64, strict=False)
    factor = pl.when(value >= 10**14).then(1).when(value >= 10**11).then(10**3).otherwise(10**6)
    return (value + ahead) * factor


def _klines_table(file: Opened, reading: Reading) -> pl.LazyFrame:
    if file.kind != "csv":
        scan = _table(file, reading)
    else:
        with file.text.open(encoding="utf-8") as text:
            line = next((x for x in list(text)[reading.skip : reading.skip + 20] if x.strip()), "")
        bare = line.lstrip('"')[:1].isdigit()
        scan = _table(file, Reading(reading.skip, not bare, None, reading.decimal, reading.thousands))
    names = names_of(file.path, scan)
    if not 7 <= len(names) <= len(_KLINES):
        raise DataError(f"{file.path} has {len(names)} columns; klines have 12: open time, open, high, low, close, ...")
    if names[0].lower().replace(" ", "_") not in {"open_time", "opentime", "timestamp", "time", "column_1", "date"}:
        raise DataError(f"{file.path} is no binance-klines export: its first column is {names[0]!r}, not open_time")
    return scan.rename(dict(zip(names, _KLINES, strict=False)))


def _cryptodatadownload(file: Opened, reading: Reading, table: str) -> FileShape:
    """CryptoDataDownload: a line with its address, then Unix, Date, Symbol, Open, ..., Volume BTC, Volume USDT."""
    del table
    with file.text.open(encoding="utf-8") as text:
        first = text.readline()
    skip = reading.skip or int("cryptodatadownload.com" in first.lower())
    scan, names = _renamed(_table(file, Reading(skip, True, None, reading.decimal, reading.thousands)), file.path)
    _need(file, names, ("unix", "symbol", "open", "high", "low", "close"), "cryptodatadownload")
    scan = scan.with_columns(asset=pl.col("symbol").str.strip_chars().str.to_uppercase().str.extract(_PAIR_RUST))
    mapping = {"ts": "unix", "asset": "asset"} | {c: c for c in ("open", "high", "low", "close")}
    volume = next((n for n in names if n.startswith("volume")), None)
    mapping |= {"volume": volume} if volume else {}
    return FileShape(
        scan, mapping, {"source": "cryptodatadownload"}, notes=("asset = the first of each Symbol's pair",)
    )


_PAIR_RUST = rf"^([A-Z0-9]{{1,15}}?)[_/-]?(?:{_QUOTES})(?:$|[^A-Z0-9])"


def _etherscan(file: Opened, reading: Reading, table: str) -> FileShape:
    """Etherscan's daily average gas price: Date(UTC), UnixTimeStamp, Value (Wei)."""
    del table
    scan, names = _renamed(_table(file, reading), file.path)
    _need(file, names, ("unixtimestamp", "value_wei"), "etherscan-gas")
    return FileShape(
        scan,
        {"ts": "unixtimestamp", "base_fee_gwei": "value_wei"},
        {},
        {"base_fee_gwei": 1 / WEI_PER_GWEI},
        ("Value (Wei) divided by 1e9; the day's average price (with tips) stands for the base fee",),
    )


def _freqtrade(file: Opened, reading: Reading, table: str) -> FileShape:
    """Freqtrade candles: Feather, Parquet or CSV with date, open, ..., volume, or JSON rows [ms, o, h, l, c, v]."""
    del table
    named, notes = _named(file)
    if file.kind == "json":
        rows = _json(file)
        if not isinstance(rows, list) or not rows or not all(isinstance(r, list) and len(r) == 6 for r in rows):
            raise DataError(f"{file.path} is no array of [time, open, high, low, close, volume]; is it another format?")
        scan = _columns(rows, ("date", "open", "high", "low", "close", "volume"))
        names = ["date", "open", "high", "low", "close", "volume"]
    else:
        scan, names = _renamed(_table(file, reading), file.path)
    _need(file, names, ("date", "open", "high", "low", "close", "volume"), "freqtrade")
    mapping = {"ts": "date"} | {c: c for c in ("open", "high", "low", "close", "volume")}
    return FileShape(scan, mapping, {"source": "freqtrade", "tz": "UTC", **named}, notes=(*notes, "dates are UTC"))


def _coingecko(file: Opened, reading: Reading, table: str) -> FileShape:
    """CoinGecko: market_chart JSON of [ms, price], or the site's CSV with snapped_at, price, total_volume."""
    del table
    note = "a price at t is taken as the bar that starts at t (rounded down to its step), known one step later"
    if file.kind == "json":
        data = _json(file)
        rows = data.get("prices") if isinstance(data, dict) else None
        if not rows or not all(isinstance(r, list) and len(r) == 2 for r in rows):
            raise DataError(f"{file.path} is no CoinGecko market chart: it lacks prices as [time, price]")
        return FileShape(
            _columns(rows, ("ts", "close")), {"ts": "ts", "close": "close"}, {"source": "coingecko"}, {}, (note,), _GRID
        )
    scan, names = _renamed(_table(file, reading), file.path)
    _need(file, names, ("snapped_at", "price"), "coingecko")
    found = re.match(r"([a-z0-9]{1,12})-usd", file.path.name.lower())
    named = {"asset": found[1].upper()} if found else {}
    notes = (note, *([f"asset {named['asset']} from the file's name"] if named else []))
    return FileShape(scan, {"ts": "snapped_at", "close": "price"}, {"source": "coingecko", **named}, {}, notes, _GRID)


_GRID = (300, 3_600, 86_400)
_DUNE = {
    "ts": ("ts", "time", "timestamp", "hour", "minute", "day", "date", "block_time", "block_hour", "block_date", "dt"),
    "asset": ("asset", "symbol", "token", "token_symbol", "ticker"),
    "close": ("close", "price", "price_usd", "avg_price", "median_price", "usd_price", "avg_price_usd"),
    "open": ("open",), "high": ("high",), "low": ("low",), "volume": ("volume",),
    "base_fee_gwei": (
        "base_fee_gwei", "gas_price_gwei", "avg_gas_price_gwei", "median_gas_price_gwei", "avg_base_fee_gwei", "gwei",
        "gas_gwei", "avg_gas_gwei", "median_gas_gwei",
    ),
    "priority_fee_gwei": ("priority_fee_gwei", "avg_priority_fee_gwei"),
}  # fmt: skip
_DUNE_WEI = ("base_fee_per_gas", "gas_price", "avg_gas_price", "base_fee_wei", "gas_price_wei", "avg_base_fee_per_gas")


def _dune(file: Opened, reading: Reading, table: str) -> FileShape:
    """A Dune result (CSV, or JSON of its API): columns by the names queries commonly give them, times in UTC."""
    if file.kind == "json":
        data = _json(file)
        held = data.get("result", data) if isinstance(data, dict) else data
        rows = held.get("rows") if isinstance(held, dict) else held
        if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) for r in rows):
            raise DataError(f"{file.path} is no Dune result: it lacks result.rows")
        names = list(dict.fromkeys(chain.from_iterable(rows)))
        made = _columns([[r.get(n) for n in names] for r in rows], tuple(names))
        scan, names = _renamed(made, file.path)
    else:
        scan, names = _renamed(_table(file, reading), file.path)
    wanted = ("ts", "asset", "close", "open", "high", "low", "volume") if table == "prices" else (
        "ts", "base_fee_gwei", "priority_fee_gwei",
    )  # fmt: skip
    mapping = {c: n for c in wanted if (n := next((a for a in _DUNE[c] if a in names), None)) is not None}
    wei = next((n for n in _DUNE_WEI if n in names), None)
    scale = {}
    if table == "gas" and "base_fee_gwei" not in mapping and wei:
        mapping["base_fee_gwei"], scale["base_fee_gwei"] = wei, 1 / WEI_PER_GWEI
    said = tuple(f"{n} divided by 1e9 (wei)" for n in ([wei] if scale else []) if n)
    return FileShape(scan, mapping, {"tz": "UTC"} | ({"source": "dune"} if table == "prices" else {}), scale, (
        "times are UTC, as Dune writes them", *said,
    ))  # fmt: skip


def _columns(rows: list[list[Any]], names: tuple[str, ...]) -> pl.LazyFrame:
    """Return rows of JSON values as text columns, so that the usual rules read every value."""
    texts = ([None if r[i] is None else str(r[i]) for r in rows] for i in range(len(names)))
    return pl.DataFrame({n: pl.Series(values, dtype=pl.String) for n, values in zip(names, texts, strict=True)}).lazy()


def _deribit_chain(file: Opened, reading: Reading, table: str) -> FileShape:
    """Snapshots of Deribit's inverse options: ts, asset, expiry, strike, kind, mark_iv, forward, bid_coin, ask_coin."""
    del table
    scan, names = _renamed(_table(file, reading), file.path)
    _need(file, names, ("ts", "asset", "expiry", "strike", "kind", "mark_iv", "forward"), "deribit-chain")
    mapping = {c: c for c in ("ts", "asset", "expiry", "strike", "kind", "mark_iv", "forward", "open_interest")}
    mapping |= {"bid": "bid_coin", "ask": "ask_coin", "mark": "mark_coin"}
    mapping = {c: f for c, f in mapping.items() if f in names}
    return FileShape(scan, mapping, {"venue": "deribit", "quote": "coin"}, {}, ("premiums are in coins",))


def _dvol(file: Opened, reading: Reading, table: str) -> FileShape:
    """Bars of a 30-day volatility index in vol points: ts (open), asset, close."""
    del table
    scan, names = _renamed(_table(file, reading), file.path)
    _need(file, names, ("ts", "close"), "dvol")
    mapping = {"ts": "ts", "value": "close"} | ({"asset": "asset"} if "asset" in names else {})
    note = "vol points divided by 100; 30 days ahead; a bar is known at its end"
    return FileShape(scan, mapping, {"horizon_s": str(30 * 86_400)}, {"value": 0.01}, (note,))


PRESETS: dict[str, Preset] = {
    "binance-klines": Preset(("prices",), _klines),
    "cryptodatadownload": Preset(("prices",), _cryptodatadownload),
    "etherscan-gas": Preset(("gas",), _etherscan),
    "freqtrade": Preset(("prices",), _freqtrade),
    "coingecko": Preset(("prices",), _coingecko),
    "dune": Preset(("prices", "gas"), _dune),
    "deribit-chain": Preset(("options",), _deribit_chain),
    "dvol": Preset(("volindex",), _dvol),
}
