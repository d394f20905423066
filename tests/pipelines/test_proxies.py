"""Whose code a vault's contracts run: believed at the first look, refused by name once it is another."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from lake.errors import ConfigError, RpcError
from pipelines.deployments import deployment
from pipelines.settings import Settings
from pipelines.vault_setup.proxies import look, proxies_file, watched
from policy.execution.base import Token
from policy.execution.checks.verdicts import refusals
from policy.execution.probes import sick
from policy.execution.probes.proxies import CHANGED, SINGLETON, SLOTS
from tests.execution.simlab import USDC, WBTC, WETH

SAFE, ROUTER, POOL = ("0x" + d * 40 for d in ("A", "B", "C"))
OLD, NEW = "0x" + "11" * 20, "0x" + "22" * 20
SNAPSHOT = SimpleNamespace(tokens=(USDC, WETH, WBTC))


class Storage:
    """A node that shows the storage it is told."""

    def __init__(self, **at: str) -> None:
        self.at: dict[tuple[str, str], str] = {}

    def batch(self, calls, *, errors=False):
        found = []
        for method, (address, slot, _) in calls:
            assert method == "eth_getStorageAt"
            found.append("0x" + self.at.get((address.lower(), slot), "").removeprefix("0x").rjust(64, "0"))
        return found


@pytest.fixture
def one(tmp_path):
    pools = [{"address": POOL, "asset": "ETH", "venue": "uniswap_v3", "router": ROUTER}]
    vault = {"kind": "safe", "address": SAFE}
    return deployment(Settings(root=tmp_path, vault=vault, sources={"pools": pools}))


def proxied(node: Storage, address: str, slot: str, code: str) -> None:
    node.at[address.lower(), slot] = code


def test_the_slots_are_those_of_the_standard_and_of_usdc():
    assert SLOTS == (
        "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc",
        "0xa3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6cb3582b35133d50",
        "0x7050c9e0f4ca769c69bd3a8ef740bc37934f8e2c036e5a723fd8ee048ed3f8c3",
    )


@pytest.mark.parametrize(
    ("address", "slot", "name"),
    [(WETH.address, SLOTS[0], "WETH"), (WBTC.address, SLOTS[1], "WBTC"), (WETH.address, SLOTS[2], "WETH"),
     (ROUTER, SLOTS[0], "the router of uniswap_v3"), (SAFE, SINGLETON, "the vault"), (USDC.address, SLOTS[2], "USDC")],
)  # fmt: skip
def test_other_code_than_at_the_first_look_is_refused_until_it_is_believed(one, address, slot, name):
    node = Storage()
    proxied(node, address, slot, OLD)
    assert look(one, node, SNAPSHOT) == ()
    assert look(one, node, SNAPSHOT) == ()
    for code in (NEW, "0x" + "0" * 40):  # another implementation, and none
        proxied(node, address, slot, code)
        [verdict] = look(one, node, SNAPSHOT)
        assert (verdict.check, verdict.ok) == (CHANGED, False)
        assert verdict.reason.startswith(f"{name} (")
        assert f"ran that of {OLD}" in verdict.reason
        apart = sick.split(SNAPSHOT, [verdict])
        alone = address in {WETH.address, WBTC.address}
        assert (set(apart.sick), bool(apart.rest)) == ({address} if alone else set(), not alone)
    file = proxies_file(one)
    assert str(file) in verdict.reason
    assert file.stat().st_mode & 0o077 == 0
    file.unlink()
    assert look(one, node, SNAPSHOT) == ()


def test_a_contract_that_was_no_proxy_and_is_one_is_seen_and_a_new_one_is_believed(one):
    node = Storage()
    assert look(one, node, SNAPSHOT) == ()
    proxied(node, WETH.address, SLOTS[0], NEW)
    assert [v.check for v in look(one, node, SNAPSHOT)] == [CHANGED]
    link = Token("LINK", "0x" + "9" * 40, 18)
    proxied(node, link.address, SLOTS[0], OLD)
    more = SimpleNamespace(tokens=(*SNAPSHOT.tokens, link))
    assert [v.figures["address"] for v in look(one, node, more)] == [WETH.address]
    kept = json.loads(proxies_file(one).read_text())
    assert (kept[link.address], kept[WETH.address]) == (OLD, "")  # what was seen first stays
    assert len(watched(one, more)) == 6


def test_a_node_without_storage_is_said_and_a_file_that_is_none_is_named(one):
    def gone(calls, *, errors=False):
        raise RpcError("the method is not available")

    [verdict] = look(one, SimpleNamespace(batch=gone), SNAPSHOT)
    assert verdict.check == "proxies_unread"
    assert not refusals([verdict])
    proxies_file(one).parent.mkdir(parents=True, exist_ok=True)
    proxies_file(one).write_text("[]")
    with pytest.raises(ConfigError, match="names no code"):
        look(one, Storage(), SNAPSHOT)
