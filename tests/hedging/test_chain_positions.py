"""A book read from the chain: every kind of position, priced from the lake it fills, and what is gone is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lake.errors import ConfigError, SourceError
from lake.ingest import run
from lake.sources.positions import Holdings, position_sources
from lake.store import Lake
from lake.universe import chain
from pipelines.settings import load
from pipelines.stages.book_lake import book_of
from pipelines.wiring import sources_of
from policy.execution.vaults.hedge.state import WAD
from policy.hedging import book as books
from policy.hedging.instruments import Option, Pool
from tests.hedging.chain_kit import BOOK, act, market, renew


@pytest.fixture(scope="module")
def net():
    with market() as found:
        found.mine(3)
        yield found


def holdings(net, **over):
    x, eth = net.world.extras, net.world.token("ETH").address
    given = {
        "holder": net.accounts["investor"].address, "tokens": {"USDC": net.world.token("USDC").address, "ETH": eth},
        "yields": {"ETH": x["rate_token"]}, "v3_manager": net.world.contracts["v3_positions"],
        "v3_ids": (int(x["lp_id"]),), "perps": {"ETH": x["perp_market"]}, "options": {"ETH": x["option_market"]},
    }  # fmt: skip
    return Holdings(**{**given, **over})


def collected(net, lake, given):
    at = datetime.fromtimestamp(net.node.head().time, UTC)
    for source in position_sources(net.rpc, chain(net.chain_id), "desk", given):
        run(lake, source, at - timedelta(hours=1), at + timedelta(hours=1))
    return at


@pytest.mark.chain
def test_a_book_on_the_chain_is_the_one_that_was_built(net, tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    at = collected(net, lake, holdings(net))
    price = {"source": "x", "asset": "ETH", "step": 3600, "ts": [at - timedelta(hours=1)], "close": 1_500.0}
    lake.write("prices", pl.DataFrame(price).with_columns(available_at=pl.lit(at)))
    book = book_of(lake, "desk", at)
    held = {p.name: p for p in book.positions}
    options = [p for p in book.positions if isinstance(p, Option)]
    assert sorted((p.kind, p.quantity) for p in options) == [("call", -100.0), ("put", -100.0)]
    assert all(p.vol == pytest.approx(0.7) for p in options)
    pool = next(p for p in book.positions if isinstance(p, Pool))
    found = books.lines(book)
    assert found[list(held).index(pool.name)].value_usd == pytest.approx(
        BOOK.pool_usd, rel=2e-3
    )  # ends are whole ticks
    assert held[f"yield {net.world.extras['rate_token']}"].rate == pytest.approx(1.15 * (1 + 0.03 * 3.6), rel=0.02)
    assert held["perp ETH"].quantity == 0.0
    # the delta source has the same book: its linear line is the rate of when it was set
    source = net.world.extras["delta_book"]
    from lake.evm import Call, read

    told = int(read(net.rpc, [Call(source, "exposure()", "int256")])[0][0]) / WAD
    chain_book = [g.delta_units for p, g in zip(book.positions, found, strict=True)
                  if isinstance(p, Option | Pool)]  # fmt: skip
    assert sum(chain_book) + 50 * 1.15 == pytest.approx(told, rel=1e-3)


@pytest.mark.chain
def test_what_is_gone_or_not_ones_own_is_named(net, tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    with pytest.raises(SourceError, match="was burnt"):
        collected(net, lake, holdings(net, v3_ids=(9_999,)))
    with pytest.raises(SourceError, match="belongs to"):
        collected(net, lake, holdings(net, v3_ids=(1,)))
    with pytest.raises(SourceError, match="tokens must name both"):
        collected(net, lake, holdings(net, tokens={"ETH": net.world.token("ETH").address}))
    assert lake.scan("positions").collect().is_empty()


@pytest.mark.chain
def test_a_slashed_rate_lowers_the_book(net, tmp_path):
    saved = net.snapshot()
    lake = Lake(str(tmp_path / "lake"))
    collected(net, lake, holdings(net))
    act(net, "deployer", net.world.extras["rate_token"], "slash(uint256)", 500)
    net.mine(3)
    renew(net)
    collected(net, lake, holdings(net))
    rates = lake.scan("rates").sort("ts").collect()["rate"].to_list()
    assert rates[-1] == pytest.approx(0.95 * rates[0], rel=1e-3)
    net.revert(saved)


def test_settings_make_the_sources(tmp_path):
    head = '[chain]\nid = 31337\nrpc_urls = ["http://127.0.0.1:1"]\n'
    row = f'[[positions]]\nportfolio = "desk"\nholder = "0x{"1" * 40}"\nv3_ids = [7]\n'
    (tmp_path / "foredrift.toml").write_text(head + row)
    with pytest.raises(ConfigError, match="set v3_manager"):
        load(tmp_path / "foredrift.toml")
    (tmp_path / "foredrift.toml").write_text(
        head + row + f'v3_manager = "0x{"2" * 40}"\nyields = {{ ETH = "0x{"3" * 40}" }}\n'
    )
    names = [s.name for s in sources_of(load(tmp_path / "foredrift.toml"))]
    assert names == ["positions:desk", "rates:desk"]
