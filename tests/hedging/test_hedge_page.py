"""The page of a book: ladder, waterfall and frontier in one file that asks nothing of elsewhere, names escaped."""

from __future__ import annotations

import json
import re

import pytest

from lake.errors import ConfigError
from pipelines.reports.hedge_page import write_page
from pipelines.stages.greeks import view
from policy.hedging.book import Book
from policy.hedging.instruments import Perp, Spot
from tests.hedging.test_book import NOW, option

BOOK = Book(
    NOW, {"ETH": 3_000.0}, (option(-2.0), Spot("<b>coins</b>", "ETH", 2.0), Perp("p", "ETH", -1.0, 3_100.0, 800.0))
)
SUMS = {"pnl": -3.0, "delta": 5.0, "gamma": -6.0, "theta": 2.0, "unexplained": -4.0}
ATTRIBUTION = {"sums_usd": SUMS, "from": "2026-01-01", "to": "2026-02-01"}
POINTS = [{"rule": r, "parameter": p, "te_bp": t, "cost_bp": c}
          for r, p, t, c in (("hedge_delta", 0.1, 500.0, 300.0), ("hedge_gas_band", 3.0, 500.0, 200.0),
                             ("hedge_gas_band", 30.0, 0.0, 900.0))]  # fmt: skip
COMPARISON = {
    "template": {"kind": "straddle", "asset": "ETH"},
    "cells": [{"terms": {"nav_usd": 1e6, "chain": "L1"}, "frontier": POINTS}],
}


def test_the_page_holds_ladder_waterfall_and_frontier(tmp_path):
    for name, body in (("a.json", ATTRIBUTION), ("c.json", COMPARISON)):
        (tmp_path / name).write_text(json.dumps(body))
    path = write_page(tmp_path / "out" / "page.html", view(BOOK), [tmp_path / "a.json", tmp_path / "c.json"])
    text = path.read_text()
    assert "<b>coins</b>" not in text.split("<body>")[1].split('class="chart"')[0]
    assert "&lt;b&gt;coins" in text
    bare = re.sub(r"<script>.*?</script>", "", text, count=1, flags=re.DOTALL)
    assert not re.search(r'(src|href)="http', bare)
    for said in ("Profit by spot and volatility", "Where the profit came from", "1,000,000 USD, L1", "unexplained"):
        assert said in bare
    alone = write_page(tmp_path / "alone.html", view(BOOK)).read_text()
    assert "Where the profit came from" not in alone


@pytest.mark.parametrize(
    ("text", "said"), [("{", "cannot be read as JSON"), ("[1]", "no JSON object"), ("{}", "neither")]
)
def test_what_is_no_figure_of_a_verb_is_refused_and_nothing_is_written(tmp_path, text, said):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ConfigError, match=said):
        write_page(tmp_path / "page.html", view(BOOK), [tmp_path / "x.json"])
    assert not (tmp_path / "page.html").exists()
