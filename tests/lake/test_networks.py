"""The rows of the networks: every one is confirmed twice, carries its checksum, and a damaged one is named."""

from __future__ import annotations

import copy
import re
import tomllib

import pytest
from eth_abi.abi import encode
from eth_utils.address import is_checksum_address, to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError, DataError
from lake.networks.looked_up import POOL_CODE
from lake.networks.rows import HERE, LOCAL, Network, faults, names, network, parsed, sources
from lake.units import duration
from lake.universe import STABLE
from pipelines.stages.start import heartbeat

PUBLIC = [n for n in names() if n != LOCAL]
BARE = {"arbitrum", "sepolia", "base-sepolia"}
"""Networks whose dollar coin has no heartbeat that two public sources agree on."""
GROUPS = ("contracts", "tokens", "feeds", "pools")


def raw(name: str) -> dict:
    return tomllib.loads((HERE / f"{name}.toml").read_text())


def rows(found: Network):
    return [row for group in GROUPS for row in getattr(found, group)]


def test_the_six_public_networks_and_the_local_one_have_rows():
    assert set(PUBLIC) == {"ethereum", "arbitrum", "base", "optimism", "sepolia", "base-sepolia"}
    assert len({network(n).chain_id for n in names()}) == len(names())
    with pytest.raises(ConfigError, match="no network 'mainnet'; known are arbitrum"):
        network("mainnet")


@pytest.mark.parametrize("name", names())
def test_every_row_has_its_checksum_its_sources_and_says_what_is_left_out(name):
    found = network(name)
    assert faults(found) == []
    assert found.name == name
    assert found.missing
    for row in rows(found):
        assert is_checksum_address(row.address)
        assert len(set(row.sources)) >= (1 if name == LOCAL else 2)
        assert set(row.sources) <= sources().keys()
    assert found.contract("sequencer_feed") == found.chain.sequencer_feed
    assert {"v3_factory", "v3_router", "v3_quoter"} <= {c.name for c in found.contracts}
    assert len({t.symbol for t in found.tokens}) == len(found.tokens)
    assert {f.pair.split(" / ")[1] for f in found.feeds} == {"USD"}


def test_every_source_is_a_public_repository_that_a_person_can_look_up():
    """An owner and a name on GitHub, and a place in it; the local network's rows rest on the package's own code."""
    for name, words in sources().items():
        if name == "localnet":
            assert "policy/localnet/world.py" in words
            continue
        assert re.search(r"\bgithub\.com/[A-Za-z0-9][\w.-]*/[\w.-]*\w, [\w.]+", words), (name, words)
        assert not re.search(r"anonymous|another|several|as public code|exact search", words), (name, words)


@pytest.mark.parametrize("name", PUBLIC)
def test_two_sources_of_a_row_are_two_repositories(name):
    where = {n: re.search(r"github\.com/([\w.-]+/[\w.-]+)", w)[1] for n, w in sources().items() if n != "localnet"}
    for row in rows(network(name)):
        assert len({where[s] for s in row.sources}) >= 2, row
        if getattr(row, "heartbeat_s", None) is not None:
            assert len({where[s] for s in row.heartbeat_sources}) >= 2, row


@pytest.mark.parametrize(
    ("name", "pair"), [("arbitrum", "ETH / USD"), ("arbitrum", "USDC / USD"), ("ethereum", "AAVE / USD")]
)
def test_a_heartbeat_on_which_sources_differ_is_left_out_and_said(name, pair):
    found = network(name)
    assert next(f for f in found.feeds if f.pair == pair).heartbeat_s is None
    assert any("heartbeat" in words and "differ" in words for words in found.missing)


def test_every_source_is_used():
    used = {s for n in names() for r in rows(network(n)) for s in (*r.sources, *getattr(r, "heartbeat_sources", ()))}
    assert used == sources().keys()


@pytest.mark.parametrize("name", PUBLIC)
def test_the_address_of_every_pool_follows_from_factory_tokens_and_fee(name):
    found = network(name)
    factory = bytes.fromhex(str(found.contract("v3_factory"))[2:])
    for pool in found.pools:
        pair = sorted((found.token(s).address for s in pool.tokens), key=lambda a: int(a, 16))
        salt = keccak(encode(["address", "address", "uint24"], [*pair, pool.fee_pips]))
        made = to_checksum_address(keccak(b"\xff" + factory + salt + POOL_CODE)[12:])
        assert pool.address == made, (pool.tokens, pool.fee_pips)


@pytest.mark.chain
def test_the_code_that_those_addresses_rest_on_is_that_of_the_published_package():
    from policy.localnet.packages import artefact

    assert keccak(artefact("UniswapV3Pool").bytecode) == POOL_CODE


@pytest.mark.chain
def test_the_local_rows_are_what_the_market_deploys(localnet):
    found, world = network(LOCAL), localnet.world
    assert {t.asset: (t.symbol, t.address, t.decimals) for t in found.tokens} == {
        a: (t.symbol, t.address, t.decimals) for a, t in world.tokens.items()
    }
    assert {f.asset: f.address for f in found.feeds} == {a: t.feed for a, t in world.tokens.items()}
    assert {p.address for p in found.pools} == {p.address for p in world.pools.values() if p.venue == "uniswap_v3"}
    names_of = {"v3_factory": "v3_factory", "v3_router": "v3_router", "v3_quoter": "quoter"}
    assert {c.name: c.address for c in found.contracts} == {n: world.contracts[k] for n, k in names_of.items()}


@pytest.mark.parametrize("name", names())
def test_what_a_portfolio_can_hold_has_a_feed_with_a_heartbeat_and_a_pool(name):
    found = network(name)
    for symbol in found.usable():
        token = found.token(symbol)
        feed = found.feed(token.asset)
        assert feed.heartbeat_s > 0
        assert any(symbol in p.tokens for p in found.pools)
        slack = duration(heartbeat(feed.heartbeat_s)).total_seconds() - feed.heartbeat_s
        assert 300 <= slack <= 3_600
    assert bool(found.usable()) == (name not in BARE)
    if found.usable():
        assert {found.token(s).asset for s in found.usable()} & STABLE


@given(data=st.data())
def test_one_wrong_digit_or_case_of_any_address_is_named(data):
    name = data.draw(st.sampled_from(names()))
    values = raw(name)
    row = data.draw(st.sampled_from(values[data.draw(st.sampled_from([g for g in GROUPS if values[g]]))]))
    place = data.draw(st.integers(2, 41))
    letter = data.draw(st.sampled_from("0123456789abcdefABCDEF"))
    changed = row["address"][:place] + letter + row["address"][place + 1 :]
    if is_checksum_address(changed):  # the same letter; one wrong digit passes a checksum once in thousands
        return
    row["address"] = changed
    with pytest.raises(DataError, match=changed):
        parsed(values, f"{name}.toml")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["tokens"][0].update(sources=["aave"]), "has 1 sources, required are 2"),
        (lambda r: r["tokens"][0].update(sources=["aave", "aave"]), "has 1 sources, required are 2"),
        (lambda r: r["feeds"][0].update(heartbeat_sources=[]), "heartbeat of feed .* has 0 sources"),
        (lambda r: r["pools"][0].update(sources=["hearsay", "aave"]), "names hearsay"),
        (lambda r: r["pools"][0].update(tokens=["WETH", "XYZ"]), "XYZ is no token"),
        (lambda r: r["tokens"].append(dict(r["tokens"][0])), "stands there twice"),
    ],
)
@pytest.mark.parametrize("name", ["ethereum", "base", "optimism"])
def test_a_row_that_is_not_confirmed_is_refused_by_name(name, change, said):
    values = copy.deepcopy(raw(name))
    change(values)
    with pytest.raises(DataError, match=said):
        parsed(values, f"{name}.toml")
