"""The Greeks of a book: lines, sums by underlying, break-even move, ladder, named scenarios and liquidation prices."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lake.errors import ConfigError
from lake.units import utc
from pipelines.stages.book_file import read_book
from pipelines.stages.book_lake import book_of
from policy.hedging import book as books
from policy.hedging.instruments import InversePerp, Option, Perp
from policy.hedging.stress import ladder, liquidation_price, scenarios

SPOTS = np.array([-0.5, -0.3, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.3, 0.5])
VOLS = np.array([-0.5, -0.25, 0.0, 0.25, 0.5, 1.0])


def greeks_of(path: Path | None, portfolio: str | None, as_of: str | None, config: Path | None) -> dict[str, Any]:
    """Return the view of the book in ``path``, or of ``portfolio`` in the lake at ``as_of`` (None: now)."""
    if (path is None) == (portfolio is None):
        raise ConfigError("give either a BOOK.toml or --portfolio NAME")
    if path is not None:
        if as_of is not None:
            raise ConfigError("--as-of is for --portfolio; a BOOK.toml says its own ts")
        return greeks(path)
    from pipelines.settings import load
    from pipelines.wiring import lake_of, now

    at = utc(as_of) if as_of else now()
    return view(book_of(lake_of(load(config)), str(portfolio), at))


def greeks(path: Path) -> dict[str, Any]:
    """Return everything ``foredrift greeks`` prints for the book in ``path``; figures in the units of their names."""
    return view(read_book(path))


def view(book: books.Book) -> dict[str, Any]:
    """Return the same of a book."""
    found = books.lines(book)
    whole, nav = books.total(found), books.nav_of(book, found)
    assets = books.by_asset(book, found)
    rungs = ladder(book, SPOTS, VOLS)
    return {
        "ts": book.ts.isoformat(), "nav_usd": nav,
        "lines": [
            {"name": p.name, "kind": type(p).__name__, **asdict(g), "vol": p.vol if isinstance(p, Option) else None}
            for p, g in zip(book.positions, found, strict=True)
        ],
        "assets": [
            {"asset": name, **asdict(g), "net_exposure": g.delta_usd / nav, "phi": abs(g.cash_gamma_usd) / nav,
             "breakeven_daily_move": g.breakeven_daily_move}
            for name, g in assets.items()
        ],
        "total": asdict(whole),
        "ladder": {"spot": SPOTS.tolist(), "vol": VOLS.tolist(), "profit_usd": rungs.tolist()},
        "stress": [asdict(o) for o in scenarios(book)],
        "liquidation": [
            {"name": p.name, "price_usd": liquidation_price(p)}
            for p in book.positions if isinstance(p, (Perp, InversePerp))
        ],
    }  # fmt: skip
