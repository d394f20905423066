"""Every recorded odd file by the command line: exit code, words, and the rows that it must become or must not.

Reads the folder ``reports`` beside the recorded history (FOREDRIFT_DATA); skips with a reason where there is none. What
the same kinds do when made up is in test_reports.py.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lake.store import Lake
from pipelines.cli import main

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("FOREDRIFT_DATA", ROOT.parent / "shared" / "data")).parent / "reports"
T0, H = datetime(2024, 1, 1, tzinfo=UTC), timedelta(hours=1)
UTC_READ = ("--tz", "UTC")
BTC = ("--set", "asset=BTC")
TRUTH = tuple(42_000 + 13.25 * i for i in range(6))
BARS = tuple(x + 5 for x in TRUTH)  # closes of the exports that have whole bars


@dataclass(frozen=True)
class Case:
    """A file with options: the exit code, what is said, and the closes (or fees) it becomes where it is read."""

    file: str
    options: tuple[str, ...]
    code: int
    says: tuple[str, ...]
    values: tuple[float, ...] = ()
    table: str = "prices"
    start: datetime = T0

    @property
    def id(self) -> str:
        return " ".join((self.file, *self.options))


CASES = (
    Case("k01-small-prices.csv", (), 0, ("30 added", "PEPE 3600 s"), ()),
    Case("k02-compact-dates.csv", (), 1, ("'20240101000000'", "add --tz UTC", "nothing was written")),
    Case("k02-compact-dates.csv", UTC_READ, 0, ("6 added", "times without a zone are read as UTC"), TRUTH),
    Case("k02-excel-serial.parquet", (), 1, ("45292.0", "add --tz UTC", "nothing was written")),
    Case("k02-excel-serial.parquet", UTC_READ, 0, ("3 added", "2024-01-01T02:00:00"), TRUTH[:3]),
    Case("k04-klines-with-extra-columns.csv", (), 1, ("['asset', 'ts']", "--format binance-klines", "--map new=old")),
    Case("k04-klines-with-extra-columns.csv", ("--map", "ts=open_time", *BTC), 0,
         ("6 added", "file/BTC 3600 s", "close_time, quote_volume, count, taker_buy_volume", "duplicates: 0"), BARS),
    Case("k04-klines-with-extra-columns.csv", ("--format", "binance-klines"), 1, ("['asset']", "--set asset=SYMBOL")),
    Case("k04-klines-with-extra-columns.csv", ("--format", "binance-klines", *BTC), 0, ("binance/BTC 3600 s",), BARS),
    Case("k05-hourly-then-daily.csv", (), 1, ("several spacings", "3600 s, but also 86400 s", "import them apart")),
    Case("k08-decimal-comma.csv", (), 1, ("row 1: close '42.000,00'", "--decimal ,", "--thousands .")),
    Case("k08-decimal-comma.csv", ("--decimal", ",", "--thousands", "."), 0, ("6 added",), TRUTH),
    Case("k08-gas-in-wei.csv", (), 1, ("['ts', 'base_fee_gwei']", "--format etherscan-gas"), table="gas"),
    Case("k08-gas-in-wei.csv", ("--format", "etherscan-gas"), 0, ("divided by 1e9", "86400 s"),
         tuple(24.0 + i for i in range(6)), "gas"),
    Case("k08-gas-in-wei.csv", ("--map", "ts=UnixTimeStamp", "--map", "base_fee_gwei=Value (Wei)"), 0,
         ("is in wei: divided by 1e9",), tuple(24.0 + i for i in range(6)), "gas"),
    Case("k10-comment-first-line.csv", (), 1, ("1 line(s) that are no header", "--skip 1", "cryptodatadownload")),
    Case("k10-comment-first-line.csv", ("--format", "cryptodatadownload"), 0, ("6 added", "volume_usdt"), BARS),
    Case("k10-headerless-klines.csv", (), 1, ("has no header", "--no-header", "binance-klines")),
    Case("k10-headerless-klines.csv", ("--format", "binance-klines", *BTC), 0, ("6 added",), BARS,
         start=datetime(2025, 1, 1, tzinfo=UTC)),
    Case("k10-headerless-klines.csv", ("--no-header", "--map", "ts=column_1", "--map", "close=column_5", *BTC), 0,
         ("6 added",), BARS, start=datetime(2025, 1, 1, tzinfo=UTC)),
    Case("k10-latin1.csv", (), 1, ("byte 0xe9", "add --encoding latin-1")),
    Case("k10-latin1.csv", ("--encoding", "latin-1"), 0, ("6 added", "read with encoding latin-1"), TRUTH),
    Case("k10-utf16.csv", (), 0, ("6 added", "read with encoding utf-16"), TRUTH),
    Case("k10-coingecko.json", (), 1, ("CoinGecko market chart", "--format coingecko --set asset=SYMBOL")),
    Case("k10-coingecko.json", ("--format", "coingecko"), 1, ("['asset']", "--set asset=SYMBOL")),
    Case("k10-coingecko.json", ("--format", "coingecko", *BTC), 0, ("6 added", "known one step later"), TRUTH),
)  # fmt: skip
SMALL = {"PEPE": 1.23e-9, "SHIB": 1.23e-5, "BABYDOGE": 1e-18}


@pytest.fixture(autouse=True)
def recorded() -> None:
    if not FOLDER.is_dir():
        pytest.skip(f"no recorded odd files at {FOLDER}; point FOREDRIFT_DATA at a folder beside them")


def imported(case: Case, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the command in a project of its own; return all it said on one line, having checked its exit code."""
    monkeypatch.chdir(folder)
    (folder / "foredrift.toml").write_text("")
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(sys, "argv", ["foredrift", "import", case.table, str(FOLDER / case.file), *case.options])
    with pytest.raises(SystemExit) as done:
        main()
    said = capsys.readouterr()
    assert (done.value.code or 0) == case.code, said
    assert "Traceback" not in said.err
    assert (case.code == 0) == (not said.err.startswith("error: "))
    return " ".join((said.out + said.err).split())


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_it_ends_as_it_must(case, tmp_path, capsys, monkeypatch):
    said = imported(case, tmp_path, capsys, monkeypatch)
    assert [words for words in case.says if words not in said] == []
    lake = Lake(str(tmp_path / "lake.data"))
    if case.code:
        assert lake.version(case.table) == -1  # nothing half written
        assert not list(tmp_path.glob("*rejects*"))
        return
    got = lake.scan(case.table).sort("ts").collect()
    column = "close" if case.table == "prices" else "base_fee_gwei"
    if case.file.startswith("k01"):
        assert {a: got.filter(asset=a)["close"][0] for a in SMALL} == SMALL
        return
    step = H if case.table == "prices" else 24 * H
    assert got["ts"].to_list() == [case.start + i * step for i in range(len(case.values))]
    assert got[column].to_list() == pytest.approx(list(case.values), rel=1e-15)


def test_every_recorded_file_has_a_case():
    assert {p.name for p in FOLDER.iterdir()} == {c.file for c in CASES}
