"""A decision as one sentence that a treasurer understands: what was done or waited for, how much, and why."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipelines.reports.check_words import in_words, said

POINT = 100.0  # weights are fractions, people say percentage points
_PATH = re.compile(r"(?<![\w/:.])(?:/[^/\s:;,'\"()]+)*/([^/\s:;,'\"()]+)")
LEAST_MOVE = 5e-5  # of NAV: less is rounding
SHOWN_DIGITS = 200  # characters of a check's own reason


@dataclass(frozen=True, slots=True)
class Told:
    """What a decision was, as the audit record has it. Weights are fractions in the order of ``assets``.

    ``action``: trade, split, forced, wait, refuse, abstain or margin; ``outcome``: of ``StepReport``; ``verdicts``: its
    checks (check, ok, reason); ``caps``: most each weight may differ from ``target``; ``prices``: USD by asset, as far
    as known; ``details``: the policy's distance and trigger; ``gas_low``: (gwei, when) of cheaper gas that is expected;
    ``turnover``: most one trade may move, fraction of NAV.
    """

    action: str
    outcome: str
    why: str
    verdicts: Sequence[Mapping[str, Any]] = ()
    assets: Sequence[str] = ()
    before: Sequence[float] = ()
    wanted: Sequence[float] = ()
    target: Sequence[float] = ()
    caps: Sequence[float] = ()
    nav_usd: float = 0.0
    prices: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    gas_gwei: float | None = None
    gas_low: tuple[float, datetime] | None = None
    turnover: float = 1.0


def sentence(told: Told) -> str:
    """Return the decision as one sentence, without a raw name in it."""
    failed = [v for v in told.verdicts if not v["ok"]]
    if told.outcome in {"pending", "offered"}:
        return _underway(told)
    if told.outcome in {"void", "reverted"}:
        ended = "The trade came to nothing" if told.outcome == "void" else "The trade failed on the chain and cost gas"
        return f"{ended}: {_short(told.why) or 'the next decision looks anew'}"
    if told.outcome == "refused" or (failed and told.action in {"refuse", "abstain", ""}):
        return f"Not trading: {refusal(failed, told.why)}"
    if told.outcome == "done":
        return "Nothing to do: this hour's decision was carried out already"
    if told.action == "wait" or told.outcome == "waited":
        return _waiting(told)
    return _trading(told)


def refusal(failed: Sequence[Mapping[str, Any]], why: str) -> str:
    """Return why nothing was traded: the first check that failed, in words, with its figures, and how many more."""
    if not failed:
        return _short(why) or "nothing was decided"
    first = failed[0]
    more = f"; and {len(failed) - 1} more" if len(failed) > 1 else ""
    return said({"check": first["check"], "reason": _short(str(first.get("reason", "")))}) + more


def _underway(told: Told) -> str:
    if told.outcome == "offered":
        return "An order is out and may be filled by others; nothing else is traded meanwhile"
    failed = [v for v in told.verdicts if not v["ok"] and v["check"] != "pending"]
    return "A trade is on its way; what became of it is looked up" + (
        f" ({in_words(failed[0]['check'])})" if failed else ""
    )


def _waiting(told: Told) -> str:
    gap, asset = widest(told)
    trigger, r = told.details.get("outer"), told.details.get("distance")
    where = "the weights are unknown"
    if asset:
        where = f"{asset} is {abs(gap) * POINT:.1f} points {'above' if gap > 0 else 'below'} its target"
        if abs(gap) * POINT < 0.05:
            where = "the portfolio is on target"
    left = ""
    if isinstance(r, float) and isinstance(trigger, float) and r > 0 and math.isfinite(trigger) and asset:
        points = abs(gap) * max(trigger / r - 1.0, 0.0) * POINT
        left = f", {points:.1f} points from trading" if points < POINT else ""
    return f"Waiting: {where}{left}{gas_words(told.gas_gwei, told.gas_low)}"


def gas_words(gwei: float | None, low: tuple[float, datetime] | None) -> str:
    """Return gas now and the cheaper gas that is expected, as a clause."""
    if gwei is None:
        return ""
    said = f"; gas is {gwei_words(gwei)}"
    return said if low is None else f"{said}, {gwei_words(low[0])} is expected by {low[1]:%H:%M} UTC"


def with_unit(name: str) -> str:
    """Return a figure's name in plain words, its unit behind a comma: loss_budget_left_bp as "loss budget left, bp"."""
    words = name.split("_")
    unit = {"usd": "USD", "bp": "bp", "gwei": "gwei", "h": "h", "s": "s"}.get(words[-1]) if len(words) > 1 else None
    return " ".join(words) if unit is None else f"{' '.join(words[:-1])}, {unit}"


def gwei_words(gwei: float) -> str:
    """Return a gas price with three digits and its unit."""
    return f"{gwei:.3g} gwei" if gwei < 100 else f"{gwei:,.0f} gwei"


def _trading(told: Told) -> str:
    verb = {"planned": "Would trade", "proposed": "Asks its owners to trade", "ready": "Signed by its owners: trade"}
    moves = moved_words(told)
    parts = [f"{verb.get(told.outcome, 'Traded')} {moves}".rstrip()]
    gap, asset = breach(told)
    if told.action == "forced":
        where = f"{gap * POINT:.1f} points outside" if gap * POINT >= 0.05 else "at the edge of"
        parts.append(f"forced, {asset} is {where} its band" if asset else "forced by the mandate")
    elif told.action == "split":
        parts.append("a part now, the rest in the next hours")
    elif told.action == "margin":
        parts.append("margin at the perpetual's venue is thin")
    else:
        parts.append("the trade saves more than it costs")
    return ": ".join(parts[:2]) + _rest(told)


def _rest(told: Told) -> str:
    """Return how much is left to the target where the turnover limit capped the trade."""
    if not told.wanted or not told.before or not told.target:
        return ""
    done = sum(abs(a - b) for a, b in zip(told.wanted, told.before, strict=True)) / 2
    left = sum(abs(a - b) for a, b in zip(told.target, told.wanted, strict=True)) / 2
    if done < told.turnover * 0.995 or left < 0.001:
        return ""
    steps = math.ceil(left / told.turnover)
    more = f"{steps} more step{'s' if steps > 1 else ''}"
    return f"; moved only {told.turnover:.0%} of the portfolio (the turnover limit), {more} to target"


def moved_words(told: Told) -> str:
    """Return what is sold for what, in tokens where their prices are known, else in USD; empty where nothing moves."""
    pairs = zip(told.assets, told.before, told.wanted, strict=False)
    moves = [(a, (after - before) * told.nav_usd) for a, before, after in pairs if abs(after - before) > LEAST_MOVE]
    sold, bought = ([amount(a, usd, told.prices) for a, usd in moves if (usd < 0) == side] for side in (True, False))
    if not sold or not bought:
        return ""
    return f"{_listed(sold)} for {_listed(bought)}"


def amount(asset: str, usd: float, prices: Mapping[str, float]) -> str:
    """Return ``usd`` worth of ``asset``: 3.71 ETH, or 7,420 USD of ETH where its price is not known."""
    price = prices.get(asset, 0.0)
    value = abs(usd) / price if price > 0 else 0.0
    if value <= 0:
        return f"{abs(usd):,.0f} USD of {asset}"
    digits = max(0, 2 - math.floor(math.log10(value))) if value < 1_000 else 0
    return f"{value:,.{min(digits, 8)}f} {asset}"


def widest(told: Told) -> tuple[float, str]:
    """Return the largest deviation from target (a fraction, signed) in tolerances, and whose it is."""
    rows = list(zip(told.assets, told.before, told.target, told.caps, strict=False))
    if not rows:
        return 0.0, ""
    asset, weight, target, _ = max(rows, key=lambda r: abs(r[1] - r[2]) / r[3] if r[3] else 0.0)
    return weight - target, asset


def breach(told: Told) -> tuple[float, str]:
    """Return how far the worst weight is outside its band (a fraction), and whose it is; ("", 0) inside."""
    rows = zip(told.assets, told.before, told.target, told.caps, strict=False)
    beyond = [(abs(w - t) - c, a) for a, w, t, c in rows if abs(w - t) > c]
    return max(beyond, default=(0.0, ""))


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def without_paths(text: str) -> str:
    """Return ``text`` with files by their names alone: where they lie is nothing for a page that others may read."""
    return _PATH.sub(r"\1", text)


def _short(text: str) -> str:
    clean = without_paths(" ".join(text.split()))
    return clean if len(clean) <= SHOWN_DIGITS else clean[: SHOWN_DIGITS - 1].rstrip() + "…"


def ago(then: datetime, now: datetime) -> str:
    """Return how long ago ``then`` was: 3 min ago; a moment ahead says in."""
    return ago_words((now - then).total_seconds())


def ago_words(seconds: float) -> str:
    """Return a time ``seconds`` ago as people say it: 3 min ago; below 0 it is ahead, in 3 min."""
    size = abs(seconds)
    steps = ((90, 1, "s"), (5_400, 60, "min"), (129_600, 3_600, "h"), (math.inf, 86_400, "d"))
    unit_s, unit = next((u, name) for top, u, name in steps if size < top)
    said = f"{size / unit_s:.0f} {unit}"
    return f"in {said}" if seconds < 0 else f"{said} ago"


def lasting(minutes: float) -> str:
    """Return a length of time as people say it: never, 12 min, 3 h 20 min, 2 d 4 h."""
    whole = round(minutes)
    if whole == 0:
        return "never" if minutes == 0 else "less than a minute"
    days, hours, left = whole // 1_440, whole % 1_440 // 60, whole % 60
    parts = [(days, "d"), (hours, "h"), (0 if days else left, "min")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n)


def as_sentence(text: str) -> str:
    """Return ``text`` with a capital in front and one full stop at its end; empty stays empty."""
    clean = " ".join(text.split()).rstrip(".")
    return f"{clean[0].upper()}{clean[1:]}." if clean else ""
