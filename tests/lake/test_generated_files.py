"""Made-up files: what is stored is the truth to the last digit, or the file or row was refused in words."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from lake.errors import ForedriftError
from lake.sources.files import Beforehand, import_file
from lake.sources.reading import Reading
from lake.store import Lake

FILES = int(os.environ.get("FOREDRIFT_FILES", "60"))  # `make files` makes 200
T0 = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
H = timedelta(hours=1)
EXCEL = datetime(1899, 12, 30, tzinfo=UTC)

STAMPS = {
    "iso z": lambda t: f"{t:%Y-%m-%dT%H:%M:%SZ}",
    "offset": lambda t: t.astimezone(ZoneInfo("Asia/Kolkata")).isoformat(),
    "utc": lambda t: f"{t:%Y-%m-%d %H:%M:%S} UTC",
    "naive": lambda t: f"{t:%Y-%m-%d %H:%M:%S}",
    "s": lambda t: f"{t.timestamp():.0f}",
    "s float": lambda t: f"{t.timestamp():.1f}",
    "ms": lambda t: f"{t.timestamp() * 1e3:.0f}",
    "us": lambda t: f"{int(t.timestamp()) * 10**6}",
    "ns": lambda t: f"{int(t.timestamp()) * 10**9}",
    "compact": lambda t: f"{t:%Y%m%d%H%M%S}",
    "compact minutes": lambda t: f"{t:%Y%m%d%H%M}",
    "excel": lambda t: f"{(t - EXCEL) / timedelta(days=1):.6f}",
    "us date": lambda t: f"{t:%m/%d/%Y %H:%M}",
    "eu date": lambda t: f"{t:%d.%m.%Y %H:%M}",
    "scientific": lambda t: f"{t.timestamp() * 1e3:.5E}",
    "seconds too small": lambda t: f"{t.timestamp() / 1e3:.0f}",
}


@dataclass(frozen=True)
class Made:
    """One file: how it is written, and whether the import is told."""

    closes: tuple[float, ...]
    decimals: int
    stamp: str
    separator: str
    encoding: str
    decimal: str
    thousands: str
    header: str
    quoted: bool
    comments: int
    newline: str
    told_marks: bool
    told_text: bool
    told_zone: bool

    def number(self, value: float) -> str:
        """Write a number with the file's marks."""
        plain = f"{value:,.{self.decimals}f}"
        return plain.translate(str.maketrans({",": self.thousands, ".": self.decimal}))

    def content(self) -> bytes:
        """Write the file."""
        out = io.StringIO()
        quoting = csv.QUOTE_ALL if self.quoted else csv.QUOTE_MINIMAL
        rows = csv.writer(out, delimiter=self.separator, quoting=quoting, lineterminator=self.newline)
        out.write(f"# made by hand{self.newline}" * self.comments)
        if self.header != "none":
            rows.writerow(["ts", "asset", "close"] if self.header == "plain" else [" ts", "asset ", "close", ""][:3])
        for i, close in enumerate(self.closes):
            rows.writerow([STAMPS[self.stamp](T0 + i * H), "BTC é", self.number(close)])
        return out.getvalue().encode(self.encoding)

    def reading(self) -> Reading:
        """Say how the file is to be read, as far as it is told."""
        marks = {"decimal": self.decimal, "thousands": self.thousands or None} if self.told_marks else {}
        text = (
            {"skip": self.comments, "header": self.header != "none", "encoding": self.encoding}
            if self.told_text
            else {}
        )
        return Reading(**marks, **text)

    def mapping(self) -> dict[str, str]:
        """Name the columns of a file without a header."""
        named = {"ts": "column_1", "asset": "column_2", "close": "column_3"}
        return named if self.told_text and self.header == "none" else {}


@st.composite
def made(draw: st.DrawFn) -> Made:
    """Draw a file; the decimal and the thousands mark differ."""
    decimals = draw(st.integers(0, 5))
    closes = draw(st.lists(st.integers(1, 10**9), min_size=3, max_size=8))
    decimal = draw(st.sampled_from([".", ","]))
    thousands = draw(st.sampled_from([m for m in ("", "", ".", ",", "'", " ") if m != decimal]))
    return Made(
        tuple(round(c / 10**decimals, decimals) for c in closes), decimals, draw(st.sampled_from(sorted(STAMPS))),
        draw(st.sampled_from(",;\t|")),
        draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252", "utf-32"])),
        decimal, thousands, draw(st.sampled_from(["plain", "padded", "none"])), draw(st.booleans()),
        draw(st.sampled_from([0, 0, 2])), draw(st.sampled_from(["\n", "\r\n"])),
        *(draw(st.booleans()) for _ in range(3)),
    )  # fmt: skip


@settings(max_examples=FILES, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip
@given(file=made())
def test_a_file_ends_as_the_truth_or_refused(tmp_path_factory: pytest.TempPathFactory, file: Made) -> None:
    folder = tmp_path_factory.mktemp("f")
    path, lake = folder / "own.csv", Lake(str(folder / "lake"))
    path.write_bytes(file.content())
    zone = {"tz": "UTC"} if file.told_zone else {}
    refused: str | None = None
    try:
        report = import_file(
            lake,
            "prices",
            path,
            file.mapping(),
            {**zone, "step": "1h"},
            reading=file.reading(),
            known=Beforehand(now=NOW),
        )
    except ForedriftError as error:
        refused = str(error)
    if refused is not None:
        event("refused")
        assert len(refused) > 40
        assert "\n" not in refused
        assert lake.version("prices") == -1
        return
    event("read")
    truth = {T0 + i * H: close for i, close in enumerate(file.closes)}
    got = lake.scan("prices").select("ts", "asset", "close").collect()
    for ts, asset, close in got.iter_rows():
        assert (asset, close) == ("BTC é", truth[ts])
    assert got.height + report.rejected == len(truth)
    assert sum(report.reasons.values()) >= report.rejected


@pytest.mark.parametrize("stamp", ["iso z", "offset", "s", "ms", "us", "ns", "naive", "compact", "excel"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_a_file_that_is_described_is_read_whole(lake: Lake, tmp_path_factory: pytest.TempPathFactory, stamp: str,
                                                encoding: str) -> None:  # fmt: skip
    file = Made((1234.5, 99.25, 1e6), 2, stamp, ";", encoding, ",", ".", "none", True, 2, "\r\n", True, True, True)
    path = tmp_path_factory.mktemp("d") / "own.csv"
    path.write_bytes(file.content())
    report = import_file(
        lake,
        "prices",
        path,
        file.mapping(),
        {"tz": "UTC", "step": "1h"},
        reading=file.reading(),
        known=Beforehand(now=NOW),
    )
    assert (report.added, report.rejected) == (3, 0)
    assert lake.scan("prices").sort("ts").collect()["close"].to_list() == [1234.5, 99.25, 1e6]
