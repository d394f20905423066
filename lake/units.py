"""The only place where chain integers, bytes and human units meet.

Chain amounts are Python ints in memory and 32-byte big-endian Binary at rest. A float never becomes an amount.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NewType

from lake.errors import ConfigError, DataError

Bps = NewType("Bps", int)
"""Basis points as an integer, 1 = 0.01 %; never a percentage, never a fraction."""

BPS = 10_000
WEI_PER_GWEI = 10**9
WORD_BYTES = 32
Q96 = 2**96
HOUR_S = 3_600
DAY_S = 86_400
YEAR_S = 31_557_600  # Julian year of 365.25 days
HOURS_PER_YEAR = YEAR_S / HOUR_S

LONGEST_S = 73_050 * DAY_S  # of a duration: two centuries before or after now are dates still, much more is none
_UNITS = {"s": 1, "m": 60, "h": HOUR_S, "d": DAY_S, "w": 7 * DAY_S}


def bps(value: int) -> Bps:
    """Return ``value`` as :data:`Bps`; 0 to 10,000, an int (a float is refused: 0.5 could mean % or a fraction)."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= BPS:
        raise ConfigError(f"basis points must be an integer from 0 to {BPS}, got {value!r}; 1 % is 100")
    return Bps(value)


def to_word(value: int) -> bytes:
    """Encode an unsigned chain integer as 32 big-endian bytes; raises DataError outside 0 .. 2**256-1."""
    if not 0 <= value < 2**256:
        raise DataError(f"{value} does not fit an unsigned 256-bit word")
    return value.to_bytes(WORD_BYTES, "big")


def from_word(word: bytes) -> int:
    """Decode what :func:`to_word` wrote; raises DataError unless it is 32 bytes long."""
    if len(word) != WORD_BYTES:
        raise DataError(f"a chain word has {WORD_BYTES} bytes, got {len(word)}")
    return int.from_bytes(word, "big")


def gwei(wei: int) -> float:
    """Convert wei to gwei for tables and display; the float never travels back into a transaction."""
    return wei / WEI_PER_GWEI


def duration(text: str | int | timedelta) -> timedelta:
    """Parse ``90s 5m 1h 1d 2w`` (or whole seconds), 200 years at most; raises ConfigError otherwise."""
    if isinstance(text, timedelta):
        return text
    if isinstance(text, int):
        return timedelta(seconds=text)
    value, unit = text.strip()[:-1], text.strip()[-1:]
    if unit.isdigit():
        value, unit = text.strip(), "s"
    try:
        count = int(value) * _UNITS[unit] if value.isascii() and value.isdigit() else 0
        if 0 < count <= LONGEST_S:
            return timedelta(seconds=count)
    except (KeyError, ValueError, OverflowError):  # no unit, more digits than a number may have, more than a time span
        pass
    raise ConfigError(f"{text!r} is no duration; write for example 5m, 1h, 1d or 2w (200 years at most)")


def utc(value: str | datetime) -> datetime:
    """Parse an ISO date or time; a naive one is taken as UTC, another offset is converted."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ConfigError(f"{value!r} is no date; write for example 2022-07-01 or 2022-07-01T06:00Z") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
