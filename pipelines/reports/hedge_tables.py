"""Tables of books, attribution and hedge comparisons."""

from __future__ import annotations

from typing import Any

from pipelines.reports.check_words import in_words
from pipelines.reports.terminal import say, table

_LINE = (
    "value_usd", "delta_units", "delta_usd", "cash_gamma_usd", "vega_usd_per_point", "theta_usd_per_day",
    "carry_usd_per_day",
)  # fmt: skip
_HEADS = ("value USD", "delta coins", "delta USD", "gamma USD", "vega USD/pt", "theta USD/d", "carry USD/d")


def _percent(value: float | None, digits: int = 1) -> str | None:
    return None if value is None else f"{100 * value:.{digits}f} %"


def greeks(found: dict[str, Any]) -> None:
    """Print book, ladder and stress."""
    rows = [[r["name"], *(float(r[c]) for c in _LINE)] for r in found["lines"]]
    table("Book by line", ["line", *_HEADS], rows)
    assets = found["assets"]
    rows = [[head, *(float(a[c]) for a in assets)] for head, c in zip(_HEADS, _LINE, strict=True)]
    rows.append(["net exposure of NAV", *(_percent(a["net_exposure"]) for a in assets)])
    rows.append(["phi (cash gamma of NAV)", *(f"{a['phi']:.3f}" for a in assets)])
    rows.append(["break-even move a day", *(_percent(a["breakeven_daily_move"], 2) for a in assets)])
    table("By underlying", ["figure", *(a["asset"] for a in assets)], rows)
    rungs = found["ladder"]
    rows = [
        [f"{100 * s:+.0f} %", *(float(v) for v in row)]
        for s, row in zip(rungs["spot"], rungs["profit_usd"], strict=True)
    ]
    table("Profit in USD, spot by volatility", ["spot", *(f"vol {100 * v:+.0f} %" for v in rungs["vol"])], rows)
    rows = [
        [o["name"], float(o["profit_usd"]), float(o["predicted_usd"]), ", ".join(o["liquidated"]) or "none"]
        for o in found["stress"]
    ]
    table("Stress, worst first", ["scenario", "profit USD", "second order USD", "liquidated"], rows)
    for p in found["liquidation"]:
        price = "at no positive price" if p["price_usd"] is None else f"at {p['price_usd']:,.2f} USD"
        say(f"{p['name']} is liquidated {price}")
    say("Gamma USD is per unit return squared: a move r earns gamma r^2 / 2. The break-even move pays a day's theta.")


def suggestions(found: dict[str, Any]) -> None:
    """Print the option legs of every limit with their prices, and gamma and vega before and after."""
    for s in found["suggestions"]:
        asset, bounds = s["limit"]["asset"], (s["limit"]["cash_gamma_usd"], s["limit"]["vega_usd_per_point"])
        rows = [
            [name, None if bound is None else float(bound), float(before), float(after)]
            for name, bound, before, after in zip(
                ("gamma USD", "vega USD/pt"), bounds, s["before"], s["after"], strict=True
            )
        ]
        table(f"Limits of {asset}", ["figure", "at most", "now", "after"], rows)
        if s["reason"]:
            say(f"{asset}: {s['reason']}")
            continue
        rows = [
            ["buy" if leg["quantity"] > 0 else "sell", leg["name"], float(abs(leg["quantity"])),
             f"{leg['price_coin']:.4f}", float(leg["premium_usd"]), float(leg["cost_usd"]),
             float(leg["greeks"]["delta_usd"])]
            for leg in s["legs"]
        ]  # fmt: skip
        names = ["", "option", "coins", "price coins", "premium USD", "cost USD", "delta USD"]
        table(f"Cheapest legs, quotes of {s['quotes_of']}", names, rows, right_from=2)
        say(f"cost beyond the marks, fees included, {s['cost_usd']:,.2f} USD (no less than {s['least_usd']:,.2f}); "
            "their delta is for the hedge to clear; nothing was ordered")  # fmt: skip


def hedge_plan(report: dict[str, Any]) -> None:
    """Print what a hedge decision wants to trade, before it is signed."""
    e = report["expected"]
    rows: list[list[Any]] = [
            ["price USD", f"{e['price_usd']:,.2f}"], ["net delta, coins", f"{e['net_delta_units']:,.4f}"],
            ["hedge, coins", f"{e['hedge_units']:,.4f}"], ["trade, coins", f"{e['change_units']:,.4f}"],
            ["net exposure of NAV", _percent(e.get("x"), 2)], ["band of NAV", _percent(e.get("outer"), 2)],
            ["back to", _percent(e.get("inner"), 2)], ["gas USD", f"{e['gas_usd']:,.2f}"]]  # fmt: skip
    table(f"Hedge by {report['policy']}, block {report['block_number']}", ["figure", "value"], rows)
    legs = (report["plan"] or {}).get("legs", [])
    for i, leg in enumerate(legs, 1):
        say(f"leg {i}: at most {leg['amount_in']} raw of {leg['token_in']} at {leg['target']}")


def hedge(report: dict[str, Any]) -> None:
    """Print what became of a hedge decision, with its verdicts."""
    if report["expected"] and not report["planned"]:
        hedge_plan(report)
    rows = [[in_words(v["check"]), "ok" if v["ok"] else "refused", v["reason"]] for v in report["verdicts"]]
    if rows:
        table("Verdicts", ["check", "", "reason"], rows, right_from=3)
    say(f"hedge {report['outcome']}: {report['why']}")
    for check, do in report["remedies"].items():
        say(f"{in_words(check)}: {do}")
    for a in report["attempts"]:
        say(f"{a['kind']} {a['tx_hash']}")


def attribution(found: dict[str, Any]) -> None:
    """Print shares explained, the sums of every term and how well prices and smile fit."""
    rows = [
        [e["asset"], f"{e['from_days']:.0f}-{e['to_days']:.0f} d", e["intervals"], _percent(e["price"], 3),
         _percent(e["hedged"], 2), _percent(e["book_hedged"], 2), _percent(e["book_median"], 2)]
        for e in found["explained"]
    ]  # fmt: skip
    names = ["asset", "expiry", "intervals", "of price", "of hedged", "of hedged book", "median unexplained"]
    table(f"Profit explained, {found['from']} to {found['to']}", names, rows, right_from=2)
    table("Sums, one of each option", ["term", "USD"], [[k, float(v)] for k, v in found["sums_usd"].items()])
    f = found["fit"]
    rows = [
        ["marks inside two-sided quotes", _percent(f["inside_quotes"])],
        [
            "put-call parity at recorded volatilities, coins",
            None if f["parity_coin"] is None else f"{f['parity_coin']:.1e}",
        ],
        ["implied volatility round trip, worst", f"{f['implied_error']:.1e}"],
        [f"hidden strikes of {f['smiles']} smiles, median, points", f["hidden_median"]],
        ["hidden strikes, 99 %, points", f["hidden_p99"]],
        ["hidden strikes missed within half their spread", _percent(f["hidden_inside"])],
    ]
    words = {
        "mark_coin": "recorded marks, median off, coins", "parity_coin": "put-call parity of recorded marks, coins",
        "delta": "recorded deltas, at the snapshot's forward",
        "delta_pairs": "recorded deltas, a call's less a put's less one",
        "delta_own": "recorded deltas, at the forward of their neighbours",
    }  # fmt: skip
    rows += [[words[k], f"{v:.1e}"] for k, v in f["recorded"].items() if v is not None]
    table("Fit of prices and smile", ["figure", "value"], rows)
    say(
        f"hedged profit of 7 to 35 d explained to {_percent(found['least'])} or more: ",
        ("yes", "green") if found["ok"] else ("no", "red"),
    )


def book_changes(found: dict[str, Any]) -> None:
    """Print where the change of a portfolio's worth came from, and how much of it is explained."""
    rows = [[k, float(v)] for k, v in found["sums_usd"].items()]
    table(f"Change of {found['portfolio']}, {found['from']} to {found['to']}", ["term", "USD"], rows)
    say(
        f"{found['intervals']} intervals, {_percent(found['explained'], 2)} of their changes explained, wanted "
        f"{_percent(found['least'], 1)}: ", ("yes", "green") if found["ok"] else ("no", "red"),
    )  # fmt: skip


def _where(terms: dict[str, Any]) -> str:
    return f"{terms['nav_usd']:,.0f} {terms['chain']}"


def _ratio(interval: dict[str, Any]) -> str | None:
    if interval["value"] is None:
        return None
    return f"{interval['value']:.3f} ({interval['low']:.2f}-{interval['high']:.2f})"


def comparison(found: dict[str, Any]) -> None:
    """Print the rules of every cell, the pairs, hard limits and cadences of a hedge comparison."""
    t = found["template"]
    say(f"{t['kind']} on {t['asset']}, {found['from']} to {found['to']}, {found['starts']} starts; bp of NAV a year")
    point = found["vega_per_point"]
    rows = []
    for c in found["cells"]:
        for s in sorted(c["scores"], key=lambda s: s["objective_bp"]):
            name = s["rule"] if s["width"] is None else f"{s['rule']} {s['width']:g}"
            vega = None if point is None else float(s["te_bp"] / 1e4 * (t["life_d"] / 365.0) ** 0.5 / point)
            rows.append([
                _where(c["terms"]), f"{c['gamma']:g}", name, round(s["objective_bp"]), round(s["cost_bp"]),
                round(s["te_bp"]),
                vega, round(s["trades"]),
            ])  # fmt: skip
    names = ["NAV USD, chain", "gamma", "rule", "cost+risk", "cost", "error", "vol points a life", "trades a year"]
    table("Hedges by cell, best first", names, rows, right_from=3)
    rows = [
        [_where(c["terms"]), f"{c['gamma']:g}", p["against"], _ratio(p["objective"]), p["equal_error"]]
        for c in found["cells"] for p in c["pairs"]
    ]  # fmt: skip
    names = ["NAV USD, chain", "gamma", "hedge_gas_band over", "cost+risk (95 %)", "cost at equal error"]
    table("Pairs", names, rows, right_from=3)
    rows = [
        [_where(m), m["against"], m["figure"].replace("_", " "), *(f"{m[k]:.3f}" for k in ("mean", "least", "most"))]
        for m in found["means"]
    ]
    table("Means over gamma", ["NAV USD, chain", "over", "figure", "mean", "least", "most"], rows, right_from=3)
    rows = [
        [_where(h["terms"]), _percent(h["limit"], 0), _ratio(h["cost"]), h["breaches"], h["over"], h["steps"]]
        for h in found["hard"]
    ]
    names = ["NAV USD, chain", "limit", "over back to neutral", "left broken", "broken between", "steps"]
    table("Hard limit: hedge_hard", names, rows, right_from=2)
    if found["cadence"]:
        heads = [f"{60 * h:g} min" for h in found["cadence"][0]["every_h"]]
        rows = [
            [_where(c["terms"]), f"{c['gamma']:g}", *(f"{r['value']:.3f}" for r in c["over_first"])]
            for c in found["cadence"]
        ]
        table("Deciding every ..., cost+risk over the first", ["NAV USD, chain", "gamma", *heads], rows, right_from=2)
    for note in found["notes"]:
        say(note)


def volatility(found: dict[str, Any]) -> None:
    """Print the skill of every volatility forecast and whether it is of use."""
    rows = [
        [f"{s['target']}, {s['ahead_d']} d", s["baseline"], _percent(s["skill"]),
         f"{100 * s['low']:.1f} to {100 * s['high']:.1f} %", s["days"], "yes" if s["used"] else "no"]
        for s in found["skills"]
    ]  # fmt: skip
    names = ["volatility", "best baseline", "skill", "95 %", "days", "of use"]
    table(f"Volatility forecasts, {found['asset']}", names, rows, right_from=2)
    for note in found["notes"]:
        say(note)
