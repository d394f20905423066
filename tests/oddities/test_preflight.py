"""What set-up and doctor find wrong before the first plan, and that a sound set-up has nothing to find."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lake.errors import ConfigError
from pipelines.deployments import deployment
from pipelines.sections import ChainSection, FeedRow, PoolRow, PortfolioSection, Sources, VaultSection
from pipelines.settings import Settings
from pipelines.stages.preflight import faults
from policy.execution.probes.preflight import Listed, node_methods, pools_and_routers, state_depth, tokens_and_feeds
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.execution.vaults.reference.deployment import TokenSource, VaultSetup, deploy
from tests.execution.chainlab import TARGETS, known_pools
from tests.oddities import kit

pytestmark = pytest.mark.chain
KINDS = ["uint8", "string", "int256"]


def listed(net, asset="BTC", **more):
    token = net.world.token(asset)
    row = Listed(asset, token.address, str(token.feed), token.decimals, 8, 90_000, asset)
    return replace(row, **more)


def feed(net, description, digits=8, answer=20_000 * 10**8):
    return net.deployer.vyper("mock_feed", KINDS, [digits, description, answer])


def test_what_is_configured_wrong_is_said(vaultnet):
    net = vaultnet
    assert tokens_and_feeds(net.rpc, [listed(net), listed(net, "ETH"), listed(net, "USDC")]) == []
    cases = {
        "has 8 decimals, configured are 18": listed(net, decimals=18),
        "has 8 decimals, configured are 6": listed(net, feed_decimals=6),
        "is BTC / ETH; prices are in USD": listed(net, feed=feed(net, "BTC / ETH")),
        "is ETH / USD, not BTC / USD": listed(net, feed=str(net.world.token("ETH").feed)),
        "check the address": listed(net, token="0x" + "12" * 20),
        "does not answer": listed(net, feed=net.world.token("ETH").address),
        "a price is positive": listed(net, feed=feed(net, "BTC / USD", answer=0)),
        "its heartbeat is given as": listed(net, heartbeat_s=-1),
    }
    for words, row in cases.items():
        found = tokens_and_feeds(net.rpc, [row])
        assert any(words in f for f in found), (words, found)
        assert all(f.startswith("BTC:") for f in found)
    assert tokens_and_feeds(net.rpc, [listed(net, feed=feed(net, "WBTC / USD"))]) == []
    assert any("listed 2 times" in f for f in tokens_and_feeds(net.rpc, [listed(net)] * 2))


def test_pools_belong_to_the_factory_of_their_router(vaultnet):
    net = vaultnet
    infos = known_pools(net)
    assert pools_and_routers(net.rpc, infos) == []
    v3 = next(p for p in infos if p.venue == "uniswap_v3")
    v2 = next(p for p in infos if p.venue == "uniswap_v2")
    assert "factory" in pools_and_routers(net.rpc, [replace(v3, router=v2.router)])[0]
    assert "factory" in pools_and_routers(net.rpc, [replace(v2, router=v3.router)])[0]
    assert "has no factory()" in pools_and_routers(net.rpc, [replace(v3, router=net.world.token("ETH").address)])[0]
    assert "listed 2 times" in pools_and_routers(net.rpc, [v3, v3])[0]


def test_a_node_without_a_method_is_found(vaultnet):
    assert node_methods(vaultnet.rpc) == state_depth(vaultnet.rpc, 3) == []


def test_a_vault_is_not_created_on_a_feed_in_another_quote(vaultnet):
    net = vaultnet
    who = {role: a.address for role, a in net.accounts.items()}
    sources = [
        TokenSource(t.address, t.decimals, 5_000, feed(net, d))
        for t, d in ((net.world.token("USDC"), "USDC / USD"), (net.world.token("BTC"), "BTC / ETH"))
    ]
    setup = VaultSetup(sources, who["owner"], who["keeper"], who["guardian"], [])
    with pytest.raises(ConfigError, match="BTC / ETH; prices are in USD"):
        deploy(net.node.admin, setup, who["deployer"])


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda net: kit.afflict(net, "LINK", kit.SHARES), "LINK"),
        (lambda net: kit.afflict(net, "LINK", kit.NO_SALE, 0, net.world.pools["v3:LINK/ETH:3000"].address), "not sold"),
        (lambda net: kit.afflict(net, "LINK", kit.FEE, 100), "fee on transfers"),
        (lambda net: net.front.refused.add("eth_simulateV1"), "no eth_simulateV1 to prove it with"),
        (lambda net: None, ""),
    ],
    ids=["rounds down", "not sold", "taxed", "unproven", "sound"],
)
def test_a_vault_is_created_only_of_tokens_that_go_there_and_back(localnet, act, words):
    net = localnet
    act(net)
    who = {role: a.address for role, a in net.accounts.items()}
    shares = {"USDC": 5_000, "ETH": 3_000, "LINK": 2_000}
    tokens = {a: net.world.token(a) for a in shares}
    sources = [TokenSource(t.address, t.decimals, shares[a], str(t.feed), 90_000) for a, t in tokens.items()]
    pools = [(p.address, p.venue, p.router) for p in net.world.pools.values() if {p.asset, p.quote} <= set(shares)]
    setup = VaultSetup(sources, who["owner"], who["keeper"], who["guardian"], [], pools=pools)
    if not words:
        assert deploy(net.rpc, setup, who["deployer"]).startswith("0x")
        return
    with pytest.raises(ConfigError, match="the vault is not created: ") as refused:
        deploy(net.rpc, setup, who["deployer"])
    assert words in str(refused.value)
    foreign = replace(setup, pools=[(p, v, net.world.contracts["weth"]) for p, v, _ in pools])
    with pytest.raises(ConfigError, match=r"has no factory\(\)"):
        deploy(net.rpc, foreign, who["deployer"])


def project_of(net, root, **more):
    """Return the one deployment of a project in ``root`` that keeps the vault of ``net``."""
    pools = [PoolRow(address=p.address, venue=p.venue, asset="ETH", router=p.router) for p in known_pools(net)]
    feeds = [FeedRow(address=str(net.world.token(a).feed), asset=a, heartbeat="25h") for a in TARGETS]
    fields = {
        "portfolio": PortfolioSection(assets=tuple(TARGETS), targets=tuple(t / 10_000 for t in TARGETS.values())),
        "chain": ChainSection(id=net.chain_id, rpc_urls=(net.url,)),
        "vault": VaultSection(kind="reference", address=net.world.extras["vault"]),
        "sources": Sources(pools=tuple(pools), feeds=tuple(feeds)),
    }
    return deployment(Settings(root=root, **{**fields, **more}))


def test_doctor_finds_nothing_on_a_sound_project_and_names_what_is_wrong(vaultnet, tmp_path):
    net = vaultnet
    net.mine(200)
    snapshot = ReferenceVault(net.rpc, net.world.extras["vault"]).snapshot()
    assert list(faults(project_of(net, tmp_path), snapshot)) == []
    sound = project_of(net, tmp_path)
    late = tuple(f.model_copy(update={"heartbeat": "1m"}) for f in sound.sources.feeds)
    router = (
        sound.sources.pools[-1].router
        if sound.sources.pools[0].venue == "uniswap_v2"
        else net.world.contracts["v2_router"]
    )
    first = sound.sources.pools[0].model_copy(update={"router": router})
    net.mine(seconds=3_600)
    wrong = project_of(net, tmp_path, sources=Sources(pools=(first, *sound.sources.pools[1:]), feeds=late))
    checks = [c for c, _, _ in faults(wrong, ReferenceVault(net.rpc, net.world.extras["vault"]).snapshot())]
    assert checks.count("feeds") == len(TARGETS)
    assert "pools" in checks
    bare = tuple(p.model_copy(update={"router": None}) for p in sound.sources.pools)
    found = list(faults(project_of(net, tmp_path, sources=Sources(pools=bare, feeds=sound.sources.feeds)), snapshot))
    assert "without a router" in found[0][1]
