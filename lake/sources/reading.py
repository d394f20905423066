"""What a file is, before anything of it is believed: table, text in some encoding, archive, page, spreadsheet.

What can be read without guessing is (Parquet, Feather, CSV in UTF-8 or with a byte order mark, one packed file);
everything else is refused with what it is and what to do.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import lzma
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from polars.exceptions import ComputeError, NoDataError, PolarsError

from lake.errors import ConfigError, DataError
from lake.trouble import explained

HEAD_BYTES = 65_536
SEPARATORS = ";\t|,"
_CHUNK = 1 << 20
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_FOREIGN = (
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls): save the sheet as CSV UTF-8"),
    (b"%PDF", "a PDF document: get the table as CSV"),
    (b"SQLite format 3\0", "an SQLite database: export the table as CSV or Parquet"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ", "an xz archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"Rar!", "a rar archive: unpack it first"),
    (b"\x89HDF", "an HDF5 file: convert it to Parquet first"),
    (b"ORC", "an ORC file: convert it to Parquet first"),
    (b"Obj\x01", "an Avro file: convert it to Parquet first"),
    (b"\x89PNG", "a picture: get the table as CSV"),
)
_BAD_ARCHIVE = (
    OSError, EOFError, zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error, lzma.LZMAError, ValueError,
)  # fmt: skip
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)*|\.\d+)([eE][+-]?\d+)?")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}.*")


@dataclass(frozen=True, slots=True)
class Reading:
    """How the text of a file is to be read; the defaults guess nothing.

    ``skip`` lines before the header are left out. ``header`` False names the columns column_1, column_2, ...
    ``encoding`` None means UTF-8 or what a byte order mark says. ``decimal`` and ``thousands`` are the number marks.
    ``preset`` names a known export (see ``lake.sources.formats``).
    """

    skip: int = 0
    header: bool = True
    encoding: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    preset: str | None = field(default=None, repr=False)  # the text of the other keys is part of an import's identity

    def __post_init__(self) -> None:
        """Refuse marks that cannot be told apart and encodings that do not exist."""
        decimal, thousands = self.decimal or ".", self.thousands
        if decimal not in {".", ","} or thousands not in {None, ".", ",", " ", "'", "_", "\u00a0", "\u202f"}:
            raise ConfigError(
                f"--decimal {self.decimal!r} --thousands {thousands!r}: decimal is . or , and thousands is one of "
                ". , ' _ or a space"
            )
        if decimal == thousands:
            raise ConfigError(f"--decimal and --thousands are both {decimal!r}; give the other one as well")
        if self.skip < 0:
            raise ConfigError(f"--skip {self.skip}: give the number of lines before the header, 0 or more")
        try:
            "".encode(self.encoding or "utf-8")  # unlike codecs.lookup it knows text from other codecs (hex, zip)
        except (LookupError, UnicodeError):
            raise ConfigError(f"--encoding {self.encoding!r} is not known; try latin-1, cp1252 or utf-16") from None


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that can be read as rows. ``kind`` is parquet, feather, csv or json; ``text`` the readable copy of it."""

    path: Path
    kind: str
    text: Path
    notes: tuple[str, ...] = ()


@contextmanager
def opened(path: Path, reading: Reading) -> Iterator[Opened]:
    """Find out what ``path`` is; unpack and transcode it beside itself in a temporary folder where needed.

    Raises DataError saying what the file is and what to do.
    """
    _assure_file(path)
    with TemporaryDirectory(prefix="foredrift-import-") as scratch:
        yield _recognised(Opened(path, "", path), reading, Path(scratch))


def _assure_file(path: Path) -> None:
    """Raise DataError saying what is wrong with ``path`` as one file that can be read twice."""
    shown = os.fsencode(path).decode(errors="replace")
    try:
        if path.is_dir():
            raise DataError(f"is a folder: {shown}; give one Parquet or CSV file")
        if path.exists() and not path.is_file():
            raise DataError(f"is a pipe or device: {shown}; it is read twice, so save it to a file first")
        with path.open("rb"):
            pass
        if shown != str(path):
            raise DataError(f"its name is no UTF-8: {shown}; rename it, a name is kept with what was imported")
    except FileNotFoundError:
        raise DataError(f"there is no file: {shown}; give one Parquet or CSV file") from None
    except OSError as error:
        raise DataError(f"{shown} cannot be opened ({error.strerror}): make it readable for this user") from error


def _recognised(file: Opened, reading: Reading, scratch: Path) -> Opened:
    with file.text.open("rb") as raw:
        head = raw.read(HEAD_BYTES)
    name = file.path
    if not head.strip(b"\0\r\n\t "):
        raise DataError(f"{name} is empty: it holds no header and no rows; nothing was written")
    if head[:4] == b"PAR1":
        return replace(file, kind="parquet")
    if head[:6] == b"ARROW1":
        return replace(file, kind="feather")
    if head[:2] in {b"PK", b"\x1f\x8b"}:
        return _recognised(_unpacked(file, head, scratch), reading, scratch)
    if name.suffix.lower() in {".parquet", ".pq", ".feather", ".xlsx", ".xls"}:
        raise DataError(f"{name} is neither Parquet nor CSV text, whatever its name says: write or export it again")
    for mark, what in _FOREIGN:
        if head.startswith(mark):
            raise DataError(f"{name} is {what}; nothing was written")
    if head[257:262] == b"ustar":
        raise DataError(f"{name} is a tar archive: unpack it first; nothing was written")
    text = _as_utf8(file, head, reading, scratch)
    with text.text.open("rb") as raw:
        start = raw.read(HEAD_BYTES).lstrip()
    if start[:1] == b"<":
        raise DataError(
            f"{name} is an HTML or XML page, not a table (a login or error page instead of the download?): "
            "open it in a browser, then download the CSV again"
        )
    return replace(text, kind="json" if start[:1] in {b"{", b"["} else "csv")


def _unpacked(file: Opened, head: bytes, scratch: Path) -> Opened:
    """Return the only file of a zip or gz archive, unpacked; workbooks and fuller archives are refused."""
    target = scratch / "unpacked"
    if target.exists():
        raise DataError(f"{file.path} holds an archive in an archive: unpack it first; nothing was written")
    try:
        if head[:2] == b"\x1f\x8b":
            with gzip.open(file.text, "rb") as packed, target.open("wb") as out:
                shutil.copyfileobj(packed, out, _CHUNK)
            return replace(file, text=target, notes=("unpacked from gzip",))
        with zipfile.ZipFile(file.text) as archive:
            names = [i.filename for i in archive.infolist() if not i.is_dir() and "__MACOSX" not in i.filename]
            if "[Content_Types].xml" in names or "xl/workbook.xml" in names:
                raise DataError(
                    f"{file.path} is an Excel workbook: save the sheet as CSV UTF-8 (export it) and import that"
                )
            if len(names) != 1:
                raise DataError(
                    f"{file.path} is an archive of {len(names)} files: unpack it and import them one by one"
                )
            with archive.open(names[0]) as packed, target.open("wb") as out:
                shutil.copyfileobj(packed, out, _CHUNK)
        return replace(file, text=target, notes=(f"unpacked {names[0]} from zip",))
    except _BAD_ARCHIVE as error:
        told = explained(error, str(scratch)) if isinstance(error, OSError) and error.errno else None
        if told is not None:  # the disk is full or read-only: nothing is wrong with the archive
            raise told from error
        raise DataError(
            f"{file.path} is an archive that cannot be unpacked ({error}): get it again, or export it to CSV"
        ) from error


def _as_utf8(file: Opened, head: bytes, reading: Reading, scratch: Path) -> Opened:
    """Return the file as UTF-8 text with Unix line ends, copied only where it is not so already."""
    marked = next((encoding for mark, encoding in _BOMS if head.startswith(mark)), None)
    encoding = marked or reading.encoding
    if encoding is None and b"\0" in head:
        encoding = _wide(head)
        if encoding is None:
            raise DataError(
                f"{file.path} is neither Parquet nor CSV text (binary data or an unknown encoding): "
                "export it as CSV in UTF-8, or name its encoding with --encoding"
            )
    old_mac = b"\r" in head and b"\n" not in head and encoding in {None, "utf-8-sig"}
    if encoding in {None, "utf-8", "utf8"} and not old_mac:
        _assure_utf8(file)
        return file
    target = scratch / "utf8"
    try:
        with (
            file.text.open(encoding=encoding or "utf-8", newline=None) as source,
            target.open("w", encoding="utf-8") as out,
        ):
            shutil.copyfileobj(source, out, _CHUNK)
    except UnicodeError as error:
        raise DataError(
            f"{file.path} cannot be read with encoding {encoding} ({error}): name it with --encoding"
        ) from error
    said = () if encoding in {None, "utf-8-sig"} else (f"read with encoding {encoding}",)
    return replace(file, text=target, notes=(*file.notes, *said))


def _wide(head: bytes) -> str | None:
    """Return UTF-16 without a mark, by which half of the byte pairs is zero; None where neither is."""
    pairs = head[: len(head) // 2 * 2]
    low, high = pairs[0::2].count(0), pairs[1::2].count(0)
    if min(low, high) > 0 or max(low, high) < len(pairs) // 4:
        return None
    return "utf-16-le" if high else "utf-16-be"


def _assure_utf8(file: Opened) -> None:
    decoder, at = codecs.getincrementaldecoder("utf-8")(), 0
    with file.text.open("rb") as raw:
        while chunk := raw.read(_CHUNK):
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                line = error.object[max(0, error.start - 12) : error.start + 12].decode("latin-1")
                raise DataError(
                    f"{file.path} cannot be read as UTF-8: byte 0x{error.object[error.start]:02x} near {line!r} "
                    f"(after byte {at:,}) is of another encoding, often latin-1 or cp1252: add --encoding latin-1"
                ) from error
            at += len(chunk)


def scan_text(file: Opened, reading: Reading) -> tuple[pl.LazyFrame, str]:
    """Return a CSV lazily, every column as text, and its separator; header lines that are none are refused."""
    with file.text.open(encoding="utf-8") as source:
        lines = [line.rstrip("\n") for _, line in zip(range(reading.skip + 50), source, strict=False)][reading.skip :]
    lead = next((i for i, line in enumerate(lines) if line.strip()), None)
    if lead is None:
        raise DataError(f"{file.path} is empty after --skip {reading.skip}: it holds no header and no rows")
    lines = [line for line in lines if line.strip()]
    separator = separator_of(lines, reading)
    if reading.header:
        _assure_header(file.path, lines, separator, reading)
    scan = pl.scan_csv(
        file.text, infer_schema=False, separator=separator, glob=False, has_header=reading.header,
        skip_lines=reading.skip + lead,
    )  # fmt: skip
    if not reading.header:
        names = names_of(file.path, scan)
        scan = scan.rename({n: f"column_{i} " for i, n in enumerate(names, 1)})  # two steps: the names may overlap
        scan = scan.rename({f"column_{i} ": f"column_{i}" for i in range(1, len(names) + 1)})
    return scan, separator


def separator_of(lines: list[str], reading: Reading) -> str:
    """Return the mark that splits every line into as many fields; the header decides where several do."""
    choices = SEPARATORS.replace(",", "") if reading.decimal == "," else SEPARATORS
    counts = {s: [len(_fields(line, s)) for line in lines[:20]] for s in choices}
    even = [s for s in choices if min(counts[s]) > 1 and len(set(counts[s])) == 1]
    if even:
        return max(even, key=lambda s: (counts[s][0], s == ","))
    return (
        max("," + SEPARATORS, key=lambda s: counts.get(s, [0])[0])
        if reading.decimal != ","
        else max(choices, key=lambda s: counts[s][0])
    )


def _fields(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [""])
    except csv.Error:
        return [line]


def is_data(line: str, separator: str) -> bool:
    """Return whether a line holds values, not names: at least half of its fields are numbers or times."""
    fields = [f.strip() for f in _fields(line, separator)]
    values = sum(bool(_NUMBER.fullmatch(f) or _MOMENT.fullmatch(f)) for f in fields)
    return 2 * values >= len(fields)


def _assure_header(path: Path, lines: list[str], separator: str, reading: Reading) -> None:
    first = lines[0]
    fields = [f.strip() for f in _fields(first, separator)]
    if is_data(first, separator):
        raise DataError(
            f"{path} has no header: its first line holds values ({first[:60]!r}). Add --no-header and map by number, "
            "e.g. --map ts=column_1 --map close=column_5, or name the export with --format (binance-klines, ...)"
        )
    widths = [len(_fields(line, separator)) for line in lines[:20]]
    usual = max(set(widths), key=widths.count)
    comments = widths.index(usual) if len(fields) < usual else 0
    comments = max(comments, next((i for i, line in enumerate(lines) if not line.lstrip().startswith("#")), 0))
    if comments:
        raise DataError(
            f"{path} begins with {comments} line(s) that are no header ({first[:60]!r}): add --skip "
            f"{reading.skip + comments}, or name the export with --format (cryptodatadownload, ...)"
        )
    twice = sorted({f for f in fields if fields.count(f) > 1 and f})
    if twice:
        raise DataError(
            f"{path} has several columns called {', '.join(twice)}: rename them, which one is meant is not clear"
        )


def feather(file: Opened) -> pl.LazyFrame:
    """Return the rows of a Feather file; raises DataError where it is cut off or damaged."""
    try:
        return pl.read_ipc(file.text).lazy()
    except (PolarsError, OSError, pl.exceptions.PanicException) as error:
        raise DataError(
            f"{file.path} is a Feather file that cannot be read ({_short(error)}): it is cut off or damaged, get it "
            "again"
        ) from error


def names_of(path: Path, scan: pl.LazyFrame) -> list[str]:
    """Return the column names; raises DataError where the file cannot be read as a table."""
    try:
        return scan.collect_schema().names()
    except (ComputeError, NoDataError, OSError) as error:
        raise DataError(f"{path} cannot be read as a table ({_short(error)}); write it again or convert it") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
