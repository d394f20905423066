"""Tables of books, attribution and hedge comparisons."""

from __future__ import annotations

from typing import Any

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
        ["put-call parity of marks, median, coins", None if f["parity_coin"] is None else f"{f['parity_coin']:.1e}"],
        ["implied volatility round trip, worst", f"{f['implied_error']:.1e}"],
        [f"hidden strikes of {f['smiles']} smiles, median, points", f["hidden_median"]],
        ["hidden strikes, 99 %, points", f["hidden_p99"]],
    ]
    table("Fit of prices and smile", ["figure", "value"], rows)
    say(
        f"hedged profit of 7 to 35 d explained to {_percent(found['least'])} or more: ",
        ("yes", "green") if found["ok"] else ("no", "red"),
    )
