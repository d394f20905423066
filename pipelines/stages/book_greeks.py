"""Delta, gamma, theta and vega of what a deployment's hedge stands beside, for ``status`` and the portfolio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from lake.errors import DataError
from lake.store import Lake
from pipelines.hedge_section import HedgeSection
from pipelines.stages.book_lake import book_of
from pipelines.stages.hedge_status import hedge_decisions
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.hedge_rule import book_from
from policy.execution.vaults.hedge.state import E8, BookLine
from policy.hedging import book as books
from policy.hedging.book import Book, Greeks

UNITS = {
    "delta_usd": "USD",
    "gamma_usd": "USD per unit return squared: a move r earns gamma r^2 / 2",
    "theta_usd_day": "USD a day",
    "vega_usd_point": "USD a vol point (0.01 a year)",
}


def book_greeks(deployment: VaultSettings, lake: Lake, at: datetime) -> dict[str, Any] | None:
    """Return the Greeks of ``deployment``'s book at ``at``, None where it has neither positions nor a hedge.

    Keys: the figures and their ``units``; ``as_of`` (of the book), ``source`` (``positions`` of the lake, or ``chain``:
    the lines the last hedge decision read), ``portfolio``, ``hedge_delta_usd`` (of the hedge account; ``delta_usd`` is
    the book's without it) and ``net_delta_usd``; ``assets``, a row of the same figures by underlying; ``unpriced``: why
    the figures are None, which they all are where one line cannot be priced.
    """
    hedge = deployment.hedge
    name = _portfolio(deployment.name, hedge, lake, at)
    taken = [] if hedge is None or hedge.account is None else hedge_decisions(deployment.path(hedge.audit), at)
    last = taken[-1] if taken else None
    if name is not None:
        held: dict[str, Any] = {"source": "positions", "portfolio": name}
        try:
            return held | _shown(book_of(lake, name, at), _since(lake, name, at), last)
        except DataError as error:
            return held | _unknown(at, str(error))
    if last is None or not last["inputs"].get("lines"):
        return None
    return {"source": "chain", "portfolio": None} | _of_lines(last, at)


def totals(found: dict[str, Any] | None, at: datetime) -> dict[str, Any]:
    """Return ``found`` of ``book_greeks`` without its rows; all unknown at ``at`` where there is no book yet."""
    whole = found or {"source": None, "portfolio": None} | _unknown(at, "no book is recorded or decided on yet")
    return {k: v for k, v in whole.items() if k != "assets"}


def _portfolio(name: str, hedge: HedgeSection | None, lake: Lake, at: datetime) -> str | None:
    """Return the portfolio of table positions that is the book: as named by the hedge, else the deployment's own."""
    name = hedge.portfolio if hedge is not None and hedge.portfolio is not None else name
    known = lake.scan("positions", at).filter(pl.col("portfolio") == name).select(pl.len()).collect().item()
    return name if known else None


def _since(lake: Lake, name: str, at: datetime) -> datetime:
    """Return when the newest positions of ``name`` are of."""
    rows = lake.scan("positions", at).filter((pl.col("portfolio") == name) & (pl.col("ts") <= at))
    found: datetime = rows.select(pl.col("ts").max()).collect().item()
    return found


def _of_lines(last: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    """Return the Greeks of the lines that a hedge decision read, at its block's price and time."""
    inputs = last["inputs"]
    lines = [BookLine(*(int(v) for v in row)) for row in inputs["lines"]]
    price, moment = int(inputs["prices_e8"][1]) / E8, datetime.fromtimestamp(inputs["block_time"], UTC)
    if not price:
        return _unknown(at, "the oracle had no good price at the last hedge decision")
    return _shown(book_from(inputs.get("asset") or "underlying", lines, price, moment), moment, last)


def _shown(book: Book, as_of: datetime, last: Mapping[str, Any] | None) -> dict[str, Any]:
    found = books.lines(book)
    whole = _figures(books.total(found))
    seen = (last or {}).get("expected") or {}
    hedge = None if "hedge_units" not in seen else seen["hedge_units"] * seen["price_usd"]
    return {
        **whole, "units": UNITS, "as_of": as_of.isoformat(), "hedge_delta_usd": hedge,
        "net_delta_usd": None if hedge is None else whole["delta_usd"] + hedge,
        "assets": [{"asset": a, **_figures(g), "delta_units": g.delta_units}
                   for a, g in books.by_asset(book, found).items() if a != "USD"],
        "unpriced": None,
    }  # fmt: skip


def _figures(g: Greeks) -> dict[str, float]:
    return {"delta_usd": g.delta_usd, "gamma_usd": g.cash_gamma_usd, "theta_usd_day": g.theta_usd_per_day,
            "vega_usd_point": g.vega_usd_per_point}  # fmt: skip


def _unknown(at: datetime, why: str) -> dict[str, Any]:
    none: Sequence[str] = (*UNITS, "hedge_delta_usd", "net_delta_usd")
    return dict.fromkeys(none) | {"units": UNITS, "as_of": at.isoformat(), "assets": [], "unpriced": why}
