"""BOOK.toml: a book of positions as people keep it, or a template to compare hedges on; all faults are told at once."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from lake.errors import ConfigError
from policy.hedging import pricing
from policy.hedging.book import Book
from policy.hedging.instruments import YEAR_S, InversePerp, Option, Perp, Pool, Position, Spot, Stable

HIGHEST_VOL = 5.0
_TOP = {"ts", "nav_usd", "spot", "position", "hedge", "limits"}
_COMMON = {"name", "kind"}
_FIELDS: dict[str, tuple[set[str], set[str]]] = {  # kind: (required, optional)
    "stable": ({"amount_usd"}, set()),
    "spot": ({"asset", "quantity"}, {"unit"}),
    "yield": ({"asset", "quantity", "rate"}, {"rate_growth", "unit"}),
    "perp": ({"asset", "quantity", "entry", "margin_usd"}, {"funding", "funding_interval_h", "maintenance", "unit"}),
    "perp_inverse": (
        {"asset", "notional_usd", "entry", "margin_coin"}, {"funding", "funding_interval_h", "maintenance"},
    ),
    "option": (
        {"asset", "quantity", "option", "strike", "expiry", "forward", "premium"},
        {"vol", "mark", "bid", "ask", "discount", "unit"},
    ),
    "lp_v3": ({"asset", "liquidity", "lower", "upper"}, {"fees_usd_per_day"}),
}  # fmt: skip
_POSITIVE = {"rate", "entry", "strike", "forward", "lower", "upper", "vol", "mark", "discount", "funding_interval_h"}
_NOT_NEGATIVE = {"liquidity", "maintenance", "bid", "ask"}
_WORDS = {"name", "kind", "asset", "option", "premium", "unit", "expiry"}


@dataclass(frozen=True, slots=True)
class Row:
    """One ``[[position]]`` while it is read: ``say`` keeps a fault with the position's name."""

    where: str
    values: dict[str, Any]
    faults: list[str]

    def say(self, text: str) -> None:
        """Keep a fault."""
        self.faults.append(f"{self.where}: {text}")

    def number(self, key: str, default: float = 0.0) -> float:
        """Return the number under ``key``; tells what is wrong with it and returns the default then."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            self.say(f"{key} = {value!r}: a finite number is required")
            return default
        if key in _POSITIVE and value <= 0:
            self.say(f"{key} = {value!r}: must be above zero")
        if key in _NOT_NEGATIVE and value < 0:
            self.say(f"{key} = {value!r}: must not be negative")
        return float(value)


def document(path: Path) -> dict[str, Any]:
    """Return the TOML of ``path``; raises ConfigError with the line where it is none."""
    if not path.is_file():
        raise ConfigError(f"book {path}: no such file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"book {path}: not TOML: {error}") from None


def read_book(path: Path) -> Book:
    """Return the book in ``path``; raises ConfigError with every fault, its position and the remedy."""
    data = document(path)
    faults = [f"{k!r} is no key of a book ({', '.join(sorted(_TOP))})" for k in data if k not in _TOP]
    ts = _moment(data.get("ts"), "ts", faults)
    spot = _spots(data.get("spot", {}), faults)
    nav = data.get("nav_usd")
    if nav is not None and (isinstance(nav, bool) or not isinstance(nav, (int, float)) or not 0 < nav < math.inf):
        faults.append(f"nav_usd = {nav!r}: a positive number is required")
    rows = data.get("position", [])
    if not (isinstance(rows, list) and rows and all(isinstance(r, dict) for r in rows)):
        raise ConfigError(f"book {path}: no [[position]]: a book needs at least one")
    names = [r.get("name") for r in rows]
    faults += [f"two positions are named {n!r}; names must differ" for n in dict.fromkeys(names) if names.count(n) > 1]
    made = [
        _position(Row(f"position {i} ({r.get('name', 'no name')})", r, faults), ts, spot) for i, r in enumerate(rows, 1)
    ]
    if faults:
        raise ConfigError(f"book {path}: " + "; ".join(dict.fromkeys(faults)))
    return Book(ts, spot, tuple(p for p in made if p is not None), float(nav) if nav is not None else None)


def _spots(value: Any, faults: list[str]) -> dict[str, float]:
    if not isinstance(value, dict):
        faults.append(f"spot = {value!r}: write [spot] with one line an underlying, ETH = 3000")
        return {}
    bad = {
        k: v for k, v in value.items() if isinstance(v, bool) or not isinstance(v, (int, float)) or not 0 < v < math.inf
    }
    faults += [f"spot.{k} = {v!r}: a positive USD price is required" for k, v in bad.items()]
    return {k: float(v) for k, v in value.items() if k not in bad}


def _moment(value: Any, where: str, faults: list[str]) -> datetime:
    found = value
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            found = None
    if not isinstance(found, datetime):
        faults.append(f"{where} = {value!r}: a moment like 2026-03-27T08:00:00Z is required")
    elif found.tzinfo is None:
        faults.append(f"{where} = {found.isoformat()} has no zone: write Z or an offset, as 2026-03-27T08:00:00Z")
    else:
        return found.astimezone(UTC)
    return datetime(1970, 1, 1, tzinfo=UTC)


def _position(row: Row, ts: datetime, spot: dict[str, float]) -> Position | None:
    kind, before = row.values.get("kind"), len(row.faults)
    if not isinstance(row.values.get("name"), str) or not row.values["name"]:
        row.say("every position needs a name")
    if not isinstance(kind, str) or kind not in _FIELDS:
        row.say(f"kind = {kind!r}: one of {', '.join(_FIELDS)} is required")
        return None
    required, optional = _FIELDS[kind]
    for key in sorted(required - row.values.keys()):
        row.say(f"{key} is missing")
    for key in sorted(row.values.keys() - required - optional - _COMMON):
        row.say(f"{key!r} is no field of a {kind} ({', '.join(sorted(required | optional))})")
    for key in sorted((row.values.keys() & (required | optional)) - _WORDS):
        row.number(key)
    if "asset" in required and row.values.get("asset") not in spot:
        row.say(f"no spot price of {row.values.get('asset')!r}: add it to [spot]")
    if row.values.get("unit", "coins") != "coins":
        row.say(f"unit = {row.values['unit']!r}: quantities are in coins; multiply contracts by the contract size")
    if len(row.faults) > before:
        return None
    return _option(row, ts) if kind == "option" else _MAKE[kind](row)


def _option(row: Row, ts: datetime) -> Position | None:
    v, before = row.values, len(row.faults)
    expiry = _moment(v["expiry"], f"{row.where}: expiry", row.faults)
    if v["option"] not in {"call", "put"}:
        row.say(f"option = {v['option']!r}: call or put is required")
    if v["premium"] not in {"coin", "usd"}:
        row.say(f"premium = {v['premium']!r}: coin or usd is required")
    if len(row.faults) == before and expiry <= ts:
        row.say(f"expiry {expiry.isoformat()} is not after the book's ts {ts.isoformat()}: settle it and remove it")
    if "bid" in v and "ask" in v and v["bid"] > v["ask"]:
        row.say(f"bid {v['bid']} is above ask {v['ask']}: a crossed quote, take a new one")
    if "vol" in v and v["vol"] > HIGHEST_VOL:
        row.say(f"vol = {v['vol']}: over 500 % a year; it is a fraction, write {v['vol'] / 100:g} for {v['vol']:g} %")
    if "vol" not in v and "mark" not in v:
        row.say("vol is missing, and there is no mark to take it from: an option without either has no Greeks")
    if len(row.faults) > before:
        return None
    tau = (expiry - ts).total_seconds() / YEAR_S
    vol = _volatility(row, tau)
    if vol is None:
        return None
    return Option(
        v["name"], v["asset"], row.number("quantity"), v["option"], row.number("strike"), expiry, vol,
        row.number("forward"), v["premium"], row.number("discount", 1.0),
    )  # fmt: skip


def _volatility(row: Row, tau: float) -> float | None:
    """Return the option's volatility, from its mark where none is given; None and a fault where they disagree."""
    v, F = row.values, row.number("forward")
    call = np.array([v["option"] == "call"])
    coin = v["premium"] == "coin"
    if "mark" not in v:
        return row.number("vol")
    mark = row.number("mark")
    if mark > (1.0 if coin else F) and call[0]:
        hint = "is it in USD? then premium is usd" if coin else "a call is worth less than its forward"
        row.say(f"mark = {mark}: above the {'coin' if coin else 'forward'} itself; {hint}")
        return None
    price = np.array([mark * F if coin else mark / row.number("discount", 1.0)])
    if "vol" in v:
        at, strike, time, vol = (np.array([x]) for x in (F, row.number("strike"), tau, row.number("vol")))
        model = float(pricing.greeks(at, strike, time, vol, call)[0, pricing.PRICE])
        other = mark if coin else mark * F
        if model > 0 and abs(math.log(price[0] / model)) > math.log(3) and abs(math.log(other / model)) < math.log(1.5):
            row.say(
                f"mark = {mark} with vol {v['vol']} is a premium in {'USD' if coin else 'coins'}, not in "
                f'{v["premium"]}: write premium = "{"usd" if coin else "coin"}"'
            )
            return None
        return row.number("vol")
    found = pricing.implied_vol(price, np.array([F]), np.array([row.number("strike")]), np.array([tau]), call)
    if found.status[0] != pricing.OK:
        row.say(f"mark = {mark} has no implied volatility: {found.reason(0)}")
        return None
    if found.vol[0] > HIGHEST_VOL:
        row.say(f"mark = {mark} means a volatility of {100 * found.vol[0]:.0f} % a year: check unit and forward")
        return None
    return float(found.vol[0])


def _pool(row: Row) -> Position | None:
    lower, upper = row.number("lower"), row.number("upper")
    if lower >= upper:
        row.say(f"lower {lower} is not below upper {upper}: prices are USD per underlying")
        return None
    return Pool(
        row.values["name"], row.values["asset"], row.number("liquidity"), lower, upper, row.number("fees_usd_per_day")
    )


def _perp(row: Row) -> Position:
    n = row.number
    return Perp(
        row.values["name"], row.values["asset"], n("quantity"), n("entry"), n("margin_usd"), n("funding"),
        n("funding_interval_h", 8.0), n("maintenance", 0.01),
    )  # fmt: skip


def _perp_inverse(row: Row) -> Position:
    n = row.number
    return InversePerp(
        row.values["name"], row.values["asset"], n("notional_usd"), n("entry"), n("margin_coin"), n("funding"),
        n("funding_interval_h", 8.0), n("maintenance", 0.01),
    )  # fmt: skip


def _spot(row: Row) -> Position:
    n = row.number
    return Spot(row.values["name"], row.values["asset"], n("quantity"), n("rate", 1.0), n("rate_growth"))


def _stable(row: Row) -> Position:
    return Stable(row.values["name"], row.number("amount_usd"))


_MAKE: dict[str, Callable[[Row], Position | None]] = {
    "stable": _stable, "spot": _spot, "yield": _spot, "perp": _perp, "perp_inverse": _perp_inverse,
 "lp_v3": _pool,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Template:
    """What ``[hedge]`` asks to compare: a book held at every moment of a history, and the mandate."""

    kind: str  # straddle or lp
    asset: str
    nav_usd: float | None  # None: the panel's
    gas_units: float
    life_d: float
    roll_d: float
    width: float
    gamma: float | None
    te_target: float | None


GAS_UNITS = 450_000.0  # a hedge by two swaps or a perpetual on L1; one leg of the reference vault takes 275,000
_HEDGE = {"template", "asset", "nav_usd", "gamma", "te_target", "gas_units", "life_d", "roll_d", "width"}


def read_template(path: Path) -> Template:
    """Return the ``[hedge]`` template of ``path``; raises ConfigError with every fault."""
    given = document(path).get("hedge")
    if not isinstance(given, dict):
        raise ConfigError(f'book {path}: no [hedge] section; write template = "straddle" or "lp", asset, nav_usd')
    faults: list[str] = [f"{k!r} is no key of [hedge] ({', '.join(sorted(_HEDGE))})" for k in given.keys() - _HEDGE]
    row = Row("[hedge]", given, faults)
    kind = given.get("template")
    if kind not in {"straddle", "lp"}:
        row.say(f"template = {kind!r}: straddle or lp is required")
    if not isinstance(given.get("asset"), str):
        row.say("asset is missing: the underlying, as prices name it")
    numbers = {
        k: row.number(k, d) for k, d in (("gas_units", GAS_UNITS), ("life_d", 30.0), ("roll_d", 1.0), ("width", 0.2))
    }
    faults += [
        f"[hedge]: {k} = {v}: must be above zero" for k, v in numbers.items() if v <= 0 or (k == "width" and v >= 1)
    ]
    if numbers["roll_d"] >= numbers["life_d"]:
        row.say("roll_d must be less than life_d: the position is rolled so many days before its end")
    wanted = {k: row.number(k) for k in ("gamma", "te_target", "nav_usd") if k in given}
    if {"gamma", "te_target"} <= wanted.keys():
        row.say("give either gamma or te_target (tracking error a year as a fraction)")
    faults += [f"[hedge]: {k} = {v}: must be above zero" for k, v in wanted.items() if v <= 0]
    if faults:
        raise ConfigError(f"book {path}: " + "; ".join(faults))
    return Template(
        cast("str", kind), given["asset"], wanted.get("nav_usd"), **numbers, gamma=wanted.get("gamma"),
        te_target=wanted.get("te_target"),
    )  # fmt: skip
