"""The kinds of value a setting can have, each checked when the settings are loaded, with the nearest known name."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Callable, Hashable, Iterable
from datetime import timedelta
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, SecretStr

from lake.errors import ConfigError
from lake.units import duration
from lake.universe import CHAINS
from lake.venues import venues
from policy.names import LIVE_NAMES, PARTS, REACTIVE_NAMES, installed

T = TypeVar("T", bound=Hashable)


def nearest(given: str, known: Iterable[str]) -> str:
    """Return ``; did you mean ...?`` with the known name closest to ``given``, or nothing where none is close."""
    names = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(given.casefold(), list(names), n=1, cutoff=0.6)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def one_of(what: str, known: Iterable[str]) -> Callable[[str], str]:
    """Return a check that a text is one of the ``known`` names or an installed package's; the refusal lists them."""
    names = tuple(known)

    def check(given: str) -> str:
        if given not in names and given not in installed():
            raise ValueError(f"{given!r} is no {what}{nearest(given, names)} (known: {', '.join(names)})")
        return given

    return check


def _venue(given: str) -> str:
    if given not in venues():
        raise ValueError(f"{given!r} is no venue{nearest(given, venues())} (known: {', '.join(venues())})")
    return given


def _cron(text: str) -> str:
    from cronsim import CronSim, CronSimError  # only loaded where settings are

    from lake.units import utc

    try:
        next(CronSim(text, utc("2024-01-01")))
    except (CronSimError, StopIteration) as error:
        parts = "minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-7"
        reason = str(error) or "it never comes"
        raise ValueError(f"{text!r} is no cron expression ({reason}); five fields: {parts}") from None
    return text


def _zone(name: str) -> str:
    known = zoneinfo.available_timezones()
    if name not in known:
        hint = nearest(name, known) or "; use an IANA name such as 'UTC' or 'Europe/Zurich'"
        raise ValueError(f"{name!r} is no time zone{hint}")
    return name


def _chain(number: int) -> int:
    if number not in CHAINS:
        known = ", ".join(f"{c.chain_id} ({c.name})" for c in CHAINS.values())
        raise ValueError(f"chain {number} is not known (known: {known})")
    return number


def _name(text: str) -> str:
    if not text or text != text.strip() or not text.isprintable():
        raise ValueError(f"{text!r} is no name: it is empty, or has spaces around it or characters that do not print")
    return text


def _folder_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", text):
        raise ValueError(f"{text!r} is no name of a deployment: letters, digits, - and _, its files lie under it")
    return text


def _address(text: str) -> str:
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", text):
        raise ValueError(f"{text!r} is no address: 0x and 40 hexadecimal digits")
    if int(text, 16) == 0:
        raise ValueError(f"{text!r} is the zero address")
    return text


def _duration(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,6}[smhdw]", text):
        raise ValueError(f"{text!r} is no length of time: a number with s, m, h, d or w, such as '90s', '1h', '14d'")
    try:
        _ = int(text[:-1]) and duration(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return text


def _positive_duration(text: str) -> str:
    if not int(_duration(text)[:-1]):
        raise ValueError(f"{text!r} must be longer than nothing")
    return text


def _url(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://\S+", text, re.IGNORECASE):
        raise ValueError(f"{text!r} is no address of a server: it begins with http:// or https://")
    return text


def _secret_url(value: SecretStr) -> SecretStr:
    """Check an address that may carry a key: it is never shown, not even where it is wrong."""
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://\S+", value.get_secret_value(), re.IGNORECASE):
        raise ValueError("this is no address of a server: it begins with http:// or https:// and has no spaces")
    return value


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    seen: set[T] = set()
    twice = [v for v in values if v in seen or seen.add(v)]  # type: ignore[func-returns-value]
    if twice:
        names = ", ".join(str(v) for v in dict.fromkeys(twice) if isinstance(v, str | int | float))
        raise ValueError(f"{names or 'the same row'} stands here more than once")
    return values


def _day_at_most(text: str) -> str:
    if duration(_duration(text)) > timedelta(days=1):
        raise ValueError(f"{text!r} is more than a day, which is the most a vault's contract allows")
    return text


def _text(pattern: str) -> Any:
    """Return what an editor's schema says of a text beside its type."""
    return Field(json_schema_extra={"pattern": pattern})


def _known(names: Iterable[Any]) -> Any:
    """Return what an editor offers, installed packages' names being taken as well."""
    return Field(json_schema_extra={"anyOf": [{"enum": list(names)}, {"type": "string"}]})


_LENGTH = "^[0-9]{1,6}[smhdw]$"
_SERVER = "^[A-Za-z][A-Za-z0-9+.-]*://\\S+$"
Distinct = AfterValidator(_distinct)
Cron = Annotated[str, AfterValidator(_cron), _text("^\\S+(\\s+\\S+){4}$|^@")]
VenueName = Annotated[str, AfterValidator(_venue)]
Zone = Annotated[str, AfterValidator(_zone)]
ChainId = Annotated[int, AfterValidator(_chain), Field(json_schema_extra={"enum": sorted(CHAINS)})]
Name = Annotated[str, AfterValidator(_name)]
FolderName = Annotated[str, AfterValidator(_folder_name), _text("^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Address = Annotated[str, AfterValidator(_address), _text("^0x[0-9a-fA-F]{40}$")]
Url = Annotated[str, AfterValidator(_url), _text(_SERVER)]
SecretUrl = Annotated[SecretStr, AfterValidator(_secret_url), _text(_SERVER)]
Duration = Annotated[str, AfterValidator(_duration), _text(_LENGTH)]
PositiveDuration = Annotated[str, AfterValidator(_positive_duration), _text(_LENGTH)]
DayAtMost = Annotated[str, AfterValidator(_day_at_most), _text(_LENGTH)]
PolicyName = Annotated[str, AfterValidator(one_of("policy", PARTS)), _known(PARTS)]
LivePolicy = Annotated[str, AfterValidator(one_of("policy that can decide", LIVE_NAMES)), _known(LIVE_NAMES)]
FallbackPolicy = Annotated[
    str, AfterValidator(one_of("policy without forecasts", REACTIVE_NAMES)), _known(REACTIVE_NAMES)
]
