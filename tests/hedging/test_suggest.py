"""Suggested option legs keep the limits in whole lots, no dearer than an exhaustive search; refusals say why."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lake.errors import ConfigError, DataError, NotEnoughData
from pipelines.stages.limits_file import read_limits
from pipelines.stages.suggest import snapshot
from policy.hedging import book as books
from policy.hedging.book import Book
from policy.hedging.instruments import Option
from policy.hedging.suggest import GreekLimit, QuotedOption, suggest

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
S = 3_000.0


def option(strike, days, kind="call", quantity=1.0, vol=0.6):
    return Option(
        f"{days}-{strike:g}-{kind}", "ETH", quantity, kind, strike, NOW + timedelta(days=days), vol, S, "coin"
    )


def listed(spread=0.02, open_coins=np.nan):
    out = []
    for strike, days in itertools.product((2_600.0, 3_000.0, 3_400.0), (10, 40, 80)):
        made = option(strike, days)
        mark = books.total(books.lines(Book(NOW, {"ETH": S}, (made,)))).value_usd / S
        out.append(QuotedOption(made, mark * (1 - spread), mark * (1 + spread), open_coins))
    return out


def short(quantity=-100.0):
    return Book(NOW, {"ETH": S}, (option(3_000.0, 20, quantity=quantity),), 1e6)


LIMIT = GreekLimit("ETH", cash_gamma_usd=50_000.0, vega_usd_per_point=60.0, lot_coins=1.0)


@pytest.mark.parametrize("quantity", [-100.0, 100.0])
def test_the_legs_bring_gamma_and_vega_inside_in_whole_lots(quantity):
    found = suggest(short(quantity), listed(), LIMIT)
    assert abs(found.before[0]) > 50_000
    assert found.legs
    assert len(found.legs) <= 6
    held = tuple(o.option for o in listed())
    moved = {leg.name: leg.quantity for leg in found.legs}
    assert all(q == round(q) for q in moved.values())
    after = Book(NOW, {"ETH": S}, (*short(quantity).positions, *(
        option(o.strike, (o.expiry - NOW).days, quantity=moved[o.name]) for o in held if o.name in moved
    )), 1e6)  # fmt: skip
    whole = books.total(books.lines(after))
    assert abs(whole.cash_gamma_usd) <= 50_000
    assert abs(whole.vega_usd_per_point) <= 60
    assert found.after == pytest.approx((whole.cash_gamma_usd, whole.vega_usd_per_point))
    assert found.least_usd <= found.cost_usd * (1 + 1e-9)
    for leg in found.legs:
        assert (leg.premium_usd > 0) == (leg.quantity > 0)
        assert leg.cost_usd > 0


def test_no_pair_of_legs_is_cheaper():
    quotes = listed()[:6]
    found = suggest(short(), quotes, LIMIT)
    each = books.lines(Book(NOW, {"ETH": S}, tuple(o.option for o in quotes)))
    best = np.inf
    sizes = np.arange(-120.0, 121.0)
    for i, j in itertools.combinations(range(len(quotes)), 2):
        a, b = np.meshgrid(sizes, sizes, indexing="ij")
        gamma = found.before[0] + a * each[i].cash_gamma_usd + b * each[j].cash_gamma_usd
        vega = found.before[1] + a * each[i].vega_usd_per_point + b * each[j].vega_usd_per_point
        cost = sum(
            np.abs(q) * (S * (quotes[k].ask_coin - quotes[k].bid_coin) / 2
                         + np.minimum(0.0003 * S, 0.125 * S * np.where(q > 0, quotes[k].ask_coin, quotes[k].bid_coin)))
            for q, k in ((a, i), (b, j))
        )  # fmt: skip
        inside = (np.abs(gamma) <= 50_000) & (np.abs(vega) <= 60)
        best = min(best, float(cost[inside].min(initial=np.inf)))
    assert found.cost_usd <= best * 1.002


def test_a_dearer_spread_never_costs_less_and_a_wider_limit_never_more():
    costs = [suggest(short(), listed(s), LIMIT).cost_usd for s in (0.01, 0.02, 0.04)]
    assert costs == sorted(costs)
    wide = GreekLimit("ETH", cash_gamma_usd=200_000.0, vega_usd_per_point=90.0, lot_coins=1.0)
    assert suggest(short(), listed(), wide).cost_usd <= costs[1]


def test_what_cannot_be_done_is_said():
    assert "nothing to trade" in suggest(short(-0.1), listed(), LIMIT).reason
    assert "two-sided quote" in suggest(short(), [], LIMIT).reason
    assert "raise these or the limits" in suggest(short(), listed(open_coins=10.0), LIMIT).reason
    tight = GreekLimit("ETH", cash_gamma_usd=1.0, vega_usd_per_point=0.001, lot_coins=50.0)
    found = suggest(short(), listed(), tight)
    assert "whole lots" in found.reason
    assert not found.legs


def chain(ts=NOW, forward=S):
    rows = [(ts, "ETH", NOW + timedelta(days=d), k, kind, 0.6, forward, 0.05, 0.06)
            for d in (1, 10, 40) for k in (2_600.0, 3_000.0, 3_400.0) for kind in ("c", "p")]  # fmt: skip
    names = ["ts", "asset", "expiry", "strike", "kind", "mark_iv", "forward", "bid_coin", "ask_coin"]
    return pl.DataFrame(rows, schema=names, orient="row")


def test_quotes_are_of_the_books_moment():
    assert len(snapshot(chain(), short(), LIMIT)) == 12  # those of a day are left out
    later = chain(NOW + timedelta(hours=1))
    with pytest.raises(NotEnoughData, match="recorded before"):
        snapshot(later, short(), LIMIT)
    assert len(snapshot(pl.concat([chain(NOW - timedelta(hours=6)), later]), short(), LIMIT)) == 12
    with pytest.raises(NotEnoughData, match="over a day before"):
        snapshot(chain(NOW - timedelta(days=3)), short(), LIMIT)
    with pytest.raises(DataError, match="of another moment"):
        snapshot(chain(forward=4_000.0), short(), LIMIT)
    with pytest.raises(DataError, match="bid_coin and ask_coin"):
        snapshot(chain().drop("bid_coin"), short(), LIMIT)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no limits; write"),
        ("[limits.ETH]\nlot_coins = 1", "cash_gamma_usd or vega_usd_per_point is required"),
        ("[limits.ETH]\ncash_gamma_usd = -5", "must be above zero"),
        ("[limits.ETH]\ncash_gamma_usd = 0", "no bound of zero"),
        ("[limits.ETH]\ncash_gamma_usd = nan", "a finite number"),
        ("[limits.ETH]\ncash_gamma_usd = 5\nlegs = 7", "at most 6"),
        ("[limits.ETH]\ncash_gamma_usd = 5\nlegs = 2.5", "a whole number"),
        ("[limits.ETH]\ncash_gamma_usd = 5\nfee = 3", "0.0003 for 3 bp"),
        ("[limits.ETH]\nvega = 5", "vega: no key of limits"),
    ],
)
def test_bad_limits_are_refused(tmp_path, text, said):
    (tmp_path / "B.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_limits(tmp_path / "B.toml")


def test_the_verb_prints_the_legs(tmp_path):
    chain().write_parquet(tmp_path / "chain.parquet")
    (tmp_path / "BOOK.toml").write_text(
        f"ts = {NOW.isoformat()}\nnav_usd = 1e6\n[spot]\nETH = 3000\n[limits.ETH]\ncash_gamma_usd = 50000\n"
        '[[position]]\nname = "c"\nkind = "option"\nasset = "ETH"\nquantity = -100\noption = "call"\nstrike = 3000\n'
        'expiry = 2026-03-21T08:00:00Z\nforward = 3000\nvol = 0.6\npremium = "coin"\n'
    )
    command = [sys.executable, "-m", "pipelines.cli", "greeks", "BOOK.toml", "--suggest", "--chain", "chain.parquet",
               "--json", "out.json"]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(Path.cwd()), "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "nothing was ordered" in done.stdout
    [found] = json.loads((tmp_path / "out.json").read_text())["suggestions"]
    assert abs(found["after"][0]) <= 50_000
    assert found["legs"][0]["name"] in done.stdout
