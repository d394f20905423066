"""``foredrift networks`` and ``foredrift init --network``: a whole file without an address typed, or a refusal."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lake.errors import ConfigError
from lake.evm import calldata
from lake.networks.looked_up import FEES, LEAST_S, MOST_S, completed, looked_up
from lake.networks.rows import LOCAL, names, network
from lake.units import duration
from lake.universe import STABLE
from lake.venues import venue
from pipelines.cli import app
from pipelines.settings import load
from pipelines.stages.start import KEYS, PLACE, settings_for
from policy.execution.base import Hop
from policy.execution.routing.calldata import swap

ARBITRUM = ["--network", "arbitrum", "--assets", "USDC,WETH"]
TWO = ["--heartbeat", "USDC=86400", "--heartbeat", "ETH=24h"]
WITH_ASSETS = [n for n in names() if network(n).usable()]


def run(*words: str):
    return CliRunner().invoke(app, list(words))


def test_networks_prints_every_row_with_its_sources(tmp_path):
    listed = run("networks", "--json", str(tmp_path / "all.json"))
    assert listed.exit_code == 0, listed.output
    assert {n["name"] for n in json.loads((tmp_path / "all.json").read_text())} == set(names())
    for name in names():
        done = run("networks", name, "--json", str(tmp_path / "one.json"))
        assert done.exit_code == 0, done.output
        found = json.loads((tmp_path / "one.json").read_text())
        for group in ("tokens", "feeds", "pools", "contracts"):
            for row in found[group]:
                assert row["address"] in done.output
                assert set(row["sources"]) <= found["sources"].keys()
        unconfirmed = [f for f in found["feeds"] if f["heartbeat_s"] is None]
        assert all(f["accepted_age"] is None for f in unconfirmed)
        assert ("not confirmed" in done.output) == bool(
            unconfirmed or any(f["deviation_bps"] is None for f in found["feeds"])
        )
    assert "known are" in str(run("networks", "mainnet").exception)


@pytest.mark.parametrize("name", WITH_ASSETS)
def test_every_network_gives_a_file_that_loads_with_all_it_can_hold(name, tmp_path):
    rows = network(name)
    symbols = ",".join(reversed(rows.usable()))
    file = tmp_path / "foredrift.toml"
    done = run(
        "init", "--network", name, "--assets", symbols, "--rpc", "https://node.example/KEY", "--config", str(file)
    )
    assert done.exit_code == 0, done.output
    settings = load(file)
    assert settings.chain.id == rows.chain_id
    assert settings.chain.sequencer_feed == rows.contract("sequencer_feed")
    assert settings.portfolio.assets[0] in STABLE
    assert {rows.token(a).symbol for a in settings.portfolio.assets} == set(rows.usable())
    for feed in settings.sources.feeds:
        row = rows.feed(feed.asset)
        assert feed.address == row.address
        assert duration(feed.heartbeat).total_seconds() > row.heartbeat_s
    known = {p.address for p in rows.pools}
    assert {p.address for p in settings.sources.pools} == known & {p.address for p in settings.sources.pools} != set()
    assert {p.router for p in settings.sources.pools} == {rows.contract("v3_router")}
    assert (settings.vault.keystore, settings.deploy.owner, settings.deploy.guardian) == KEYS
    assert settings.vault.tokens == {t.asset: t.address for t in rows.tokens if t.symbol in rows.usable()}
    assert PLACE in file.read_text()


@pytest.mark.parametrize("name", [n for n in names() if n != LOCAL])
def test_every_public_network_can_be_used_with_what_a_person_looked_up(name, tmp_path):
    """Each missing heartbeat and, where there is none, a pool: the refusal names them, and with them the file loads."""
    rows = network(name)
    file = tmp_path / "foredrift.toml"
    wanted = [*rows.usable(), *(s for s in rows.reachable() if rows.pools or s in {"USDC", "WETH"})]
    wanted = [s for s in wanted if any(s in p.tokens for p in rows.pools) or not rows.pools]
    base = ["init", "--network", name, "--assets", ",".join(wanted), "--config", str(file)]
    more = [w for s in wanted if rows.feed(rows.token(s).asset) is None for w in ("--heartbeat", f"{s}=86400")]
    more += [] if rows.pools else ["--pool", "USDC/weth=500"]
    if more:
        refused = str(run(*base).exception)
        assert all(f"--heartbeat {s}" in refused for s in wanted if rows.feed(rows.token(s).asset) is None), refused
        assert ("--pool" in refused.split("Known are")[0]) == (not rows.pools)
        assert not file.exists()
    done = run(*base, *more)
    assert done.exit_code == 0, done.exception
    settings, text = load(file), file.read_text()
    assert {rows.token(a).symbol for a in settings.portfolio.assets} == set(wanted)
    assert text.count("heartbeat given to init, no two public sources: 86400 s") == more.count("--heartbeat")
    assert text.count("; given to init, no public source") == more.count("--pool")
    ages = {f.asset: duration(f.heartbeat).total_seconds() for f in settings.sources.feeds}
    assert all(86_400 < ages[rows.token(s).asset] <= 90_000 for s in wanted if rows.feed(rows.token(s).asset) is None)
    assert settings.sources.pools


@given(data=st.data())
def test_a_pool_given_by_its_fee_has_the_address_that_two_sources_give_it(data):
    """Take a confirmed pool out of the rows, name it by pair and fee in either order: the address comes back."""
    name = data.draw(st.sampled_from([n for n in names() if network(n).pools and n != LOCAL]))
    rows = network(name)
    pool = data.draw(st.sampled_from(rows.pools))
    pair = data.draw(st.permutations(pool.tokens))
    bare = replace(rows, pools=tuple(p for p in rows.pools if p is not pool))
    made = completed(bare, looked_up([], [f" {pair[0]} / {pair[1].lower()} = {pool.fee_pips} "])).pools[-1]
    assert (made.address, set(made.tokens), made.fee_pips) == (pool.address, set(pool.tokens), pool.fee_pips)
    assert pool.fee_pips in FEES


@given(seconds=st.integers(1, 10 * 86_400), unit=st.sampled_from(["", "s", "m", "h"]))
def test_an_age_is_in_seconds_or_in_its_unit_and_within_bounds(seconds, unit):
    length = seconds * {"": 1, "s": 1, "m": 60, "h": 3_600}[unit]
    if not LEAST_S <= length <= MOST_S:
        with pytest.raises(ConfigError, match=f"ETH={seconds}{unit}"):
            looked_up([f"ETH={seconds}{unit}"], [])
        return
    assert looked_up([f"ETH={seconds}{unit}"], []).heartbeats == {"eth": length}


@given(data=st.data())
def test_any_choice_of_assets_gives_a_connected_portfolio_or_a_refusal_that_names_what_is_known(data):
    name = data.draw(st.sampled_from(names()))
    rows = network(name)
    words = [t.symbol for t in rows.tokens] + [t.asset for t in rows.tokens] + ["DOGE", "weth", "Usdc"]
    assets = data.draw(st.lists(st.sampled_from(words), max_size=4))
    refused = ""
    try:
        values = tomllib.loads(settings_for(name, assets))
    except ConfigError as error:
        refused = str(error)
    assert all(a in refused for a in assets if rows.token(a) is None)
    if refused:
        return
    held = [rows.token(a) for a in values["portfolio"]["assets"]]
    assert {t.symbol for t in held} == {rows.token(a).symbol for a in assets}
    reached = {held[0].symbol}
    pairs = [next(p.tokens for p in rows.pools if p.address == row["address"]) for row in values["sources"]["pools"]]
    for _ in held:
        reached |= {s for pair in pairs if reached & set(pair) for s in pair}
    assert reached == {t.symbol for t in held}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--network", "base", "--assets", "DOGE,USDC"], "DOGE on base: it has no row.*Known are USDC, WETH"),
        (["--network", "base", "--assets", "WETH,cbBTC"], "no dollar coin"),
        (["--network", "base", "--assets", "USDC"], "at least two"),
        (["--network", "base", "--assets", "USDC,USDC"], "named twice"),
        (
            ["--network", "arbitrum", "--assets", "USDC,ARB"],
            "ARB on arbitrum: public.*heartbeat of ARB / USD .*--heartbeat ARB",
        ),
        (["--network", "ethereum", "--assets", "USDC,LINK"], "no pools of ethereum lead from USDC to LINK.*add WETH"),
        (
            ["--network", "base-sepolia", "--assets", "USDC,WETH"],
            "heartbeat of ETH / USD .*no pool.*--pool WETH.*none by",
        ),
        (["--network", "mainnet", "--assets", "USDC,WETH"], "no network 'mainnet'"),
        (["--network", "arbitrum"], "--network and --assets belong together"),
        (["--assets", "USDC,WETH"], "--network and --assets belong together"),
        (["--sample", "--network", "local", "--assets", "USDC,WETH"], "--sample is a paper portfolio alone"),
        (["--rpc", "http://127.0.0.1:1"], "--rpc, --heartbeat and --pool to them"),
        (["--heartbeat", "ETH=24h"], "--rpc, --heartbeat and --pool to them"),
        ([*ARBITRUM, "--heartbeat", "ETH=soon"], "--heartbeat ETH=soon: write TOKEN=AGE, an age of 60 s to 48 h"),
        ([*ARBITRUM, "--heartbeat", "ETH=59"], "an age of 60 s to 48 h"),
        ([*ARBITRUM, "--heartbeat", "ETH=3d"], "an age of 60 s to 48 h"),
        ([*ARBITRUM, "--heartbeat", "86400"], "write TOKEN=AGE"),
        ([*ARBITRUM, "--heartbeat", "ETH=1h", "--heartbeat", "eth=2h"], "eth is given twice"),
        (
            [*ARBITRUM, "--heartbeat", "ETH=1h", "--heartbeat", "WETH=2h"],
            "--heartbeat weth: ETH / USD .*given twice: 3600",
        ),
        ([*ARBITRUM, "--heartbeat", "DOGE=1h"], "--heartbeat doge: arbitrum has no such token"),
        (
            [*ARBITRUM, "--heartbeat", "ETH=1h"],
            "heartbeat of USDC / USD .*--heartbeat USDC=86400 .seconds.*with --heartb",
        ),
        ([*ARBITRUM, *TWO, "--heartbeat", "LINK=1h"], "--heartbeat link: not among --assets"),
        ([*ARBITRUM, *TWO, "--pool", "WETH/USDC=5"], "--pool WETH/USDC=5: write TOKEN/TOKEN=FEE, .*millionths"),
        ([*ARBITRUM, *TWO, "--pool", "WETH/USDC=500"], "arbitrum has it already"),
        ([*ARBITRUM, *TWO, "--pool", "WETH/ETH=500"], "no two such tokens"),
        ([*ARBITRUM, *TWO, "--pool", "WETH/LINK=3000"], "has it already"),
        ([*ARBITRUM, *TWO, "--pool", "WETH/LINK=500"], "--pool WETH/LINK: not among --assets"),
        (
            ["--network", "base", "--assets", "USDC,WETH", "--heartbeat", "ETH=1h"],
            "confirmed by two public sources: .* s; l",
        ),
    ],
)
def test_what_is_not_known_is_refused_and_nothing_is_written(words, said, tmp_path):
    file = tmp_path / "foredrift.toml"
    done = run("init", *words, "--config", str(file))
    assert isinstance(done.exception, ConfigError)
    assert done.exception.args
    assert re.search(said, str(done.exception)), str(done.exception)
    assert not file.exists()


def test_router02_is_asked_without_a_deadline_and_by_nothing_else():
    pool, a, b, c = (f"0x{n:040x}" for n in (1, 2, 3, 4))
    one, two = Hop("uniswap_v3_router02", pool, a, b, 500), Hop("uniswap_v3_router02", pool, b, c, 3_000)
    to, single, many = f"0x{9:040x}", *venue("uniswap_v3_router02").calls
    assert swap([one], 10, 9, to, 1_700_000_000, 77) == calldata(single, (a, b, 500, to, 10, 9, 77))
    path = bytes.fromhex(a[2:] + f"{500:06x}" + b[2:] + f"{3_000:06x}" + c[2:])
    assert swap([one, two], 10, 9, to, 1_700_000_000) == calldata(many, (path, to, 10, 9))
    first = [Hop("uniswap_v3", pool, a, b, 500), Hop("uniswap_v3", pool, b, c, 3_000)]
    for hops, others in itertools.product(([one], [one, two]), (first[:1], first)):
        assert swap(hops, 10, 9, to, 5)[:4] != swap(others, 10, 9, to, 5)[:4]
