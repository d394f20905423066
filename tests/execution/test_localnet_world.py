"""Packages and worlds: installed from a lock without hosts, built once, keyed by what shapes them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError, ExecutionError, RpcError
from lake.evm import Call, read
from lake.rpc import Rpc
from policy.localnet import packages, world
from policy.localnet.accounts import ROLES, dev_accounts
from policy.localnet.anvil import Anvil
from policy.localnet.deploy import Deployer


def test_the_lock_names_no_host_and_pins_every_version():
    wanted = json.loads((packages.HERE / "package.json").read_text())["dependencies"]
    lock = (packages.HERE / "package-lock.json").read_text()
    assert not re.search(r"https?://", lock)
    held = json.loads(lock)["packages"]
    for name, version in wanted.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+(-[a-z]+\.\d+)?", version)
        assert held[f"node_modules/{name}"]["version"] == version
    linux = [n for n in held if n and "integrity" not in held[n]]
    assert all("anvil-" in n for n in linux)  # only binaries for other platforms are held by version alone


def test_without_node_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.shutil, "which", lambda _: None)
    with pytest.raises(packages.NoNode, match=r"Node\.js 20 or newer.*simulated vault"):
        packages.modules(tmp_path)


def test_a_failing_install_says_what_npm_said(tmp_path, monkeypatch):
    fake = tmp_path / "npm"
    fake.write_text("#!/bin/sh\necho 'no such registry' >&2\nexit 7\n")
    fake.chmod(0o755)
    monkeypatch.setattr(packages.shutil, "which", lambda _: str(fake))
    for _ in range(2):  # a failed install is not taken for a finished one
        with pytest.raises(ExecutionError, match="(?s)failed with 7.*no such registry"):
            packages.modules(tmp_path / "cache")


def test_accounts_are_the_well_known_ones_and_hide_their_keys():
    accounts = dev_accounts()
    assert list(accounts) == list(ROLES)
    assert accounts["deployer"].address == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert not any(a.key.hex() in repr(a) for a in accounts.values())


def test_a_spec_has_the_assets_asked_for():
    spec = world.spec_for({"BTC": 30_000, "SOL": 22.5}, {"BTC": 9_000_000.0})
    assert dict(spec.prices) == {"BTC": "30000", "ETH": "1500", "SOL": "22.5"}
    names = [world.pool_name(p) for p in spec.pools]
    assert "v3:SOL/USDC:3000" in names
    assert not [n for n in names if "LINK" in n]
    depths = {world.pool_name(p): p.depth_usd for p in spec.pools}
    default = {world.pool_name(p): p.depth_usd for p in world.DEFAULT_POOLS}
    assert depths["v3:BTC/ETH:3000"] == 9_000_000.0  # the deepest gets the figure, the other keeps its proportion
    ratio = default["v3:BTC/USDC:3000"] / default["v3:BTC/ETH:3000"]
    assert depths["v3:BTC/USDC:3000"] == pytest.approx(9_000_000.0 * ratio)
    for wrong in (0, -1, "nan", "inf"):
        with pytest.raises(ConfigError, match="positive"):
            world.spec_for({"BTC": wrong})


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.sampled_from([6, 8, 18]), st.sampled_from([6, 8, 18]))
def test_the_root_price_squares_to_the_price(price0, price1, decimals0, decimals1):
    root = world.sqrt_price_x96(Fraction(price0), decimals0, Fraction(price1), decimals1)
    raw = Fraction(price0, price1) * Fraction(10) ** (decimals1 - decimals0)
    assert Fraction(root, 2**96) ** 2 <= raw < Fraction(root + 1, 2**96) ** 2


@pytest.mark.chain
class TestBuilt:
    def test_a_world_is_built_once_and_again_when_anything_changes(self, tmp_path, monkeypatch):
        packages.modules()
        monkeypatch.setattr(world, "cache_dir", lambda: tmp_path)
        spec = replace(world.spec_for({"ETH": 1_000}), pools=(world.DEFAULT_POOLS[0],))
        first, state = world.prepared(spec)
        built, build = [], world.build
        monkeypatch.setattr(world, "build", lambda *asked: built.append(asked) or build(*asked))
        again, same = world.prepared(spec)
        assert built == []
        assert (again, same) == (first, state)
        extra = world.Extra("more", "v1", lambda on, w: {"token": on.vyper("mock_token", *_token_args())})
        other, third = world.prepared(spec, [extra])
        assert third != state
        assert set(other.extras) == {"token"}
        assert world.prepared(spec, [replace(extra, digest="v2")])[1] != third
        assert len(built) == 2
        deeper = world.prepared(world.spec_for({"ETH": 1_000}, {"ETH": 1e6}))[1]
        assert deeper not in {state, third}

    def test_the_cache_keeps_the_newest_worlds_only(self, tmp_path, monkeypatch):
        monkeypatch.setattr(world, "KEPT", 2)
        for age in range(4):
            for kind in ("state", "world"):
                path = tmp_path / f"w{age}.{kind}.json"
                path.write_text("{}")
                os.utime(path, (1000 + age, 1000 + age))
        world._forget(tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            f"w{i}.{kind}.json" for i in (2, 3) for kind in ("state", "world")
        ]

    def test_everyone_is_funded_and_every_token_is_itself(self, localnet):
        net = localnet
        for asset, token in net.world.tokens.items():
            decimals, symbol = (
                read(net.rpc, [Call(token.address, s, r)])[0][0]
                for s, r in (("decimals()", "uint8"), ("symbol()", "string"))
            )
            assert (decimals, symbol) == (token.decimals, token.symbol), asset
            for role, account in net.accounts.items():
                view = Call(token.address, "balanceOf(address)", "uint256", (account.address,))
                assert (read(net.rpc, [view])[0][0] > 0) == (role != "identity")

    def test_a_failed_deployment_says_why(self, localnet):
        with pytest.raises(ExecutionError, match="failed"):
            localnet.deployer.call("trader", localnet.world.contracts["weth"], "withdraw(uint256)", 2**250)
        with pytest.raises(ConfigError, match="has no 'DOGE'"):
            localnet.world.token("DOGE")

    def test_a_node_that_dies_says_so_and_ends_alone(self):
        with pytest.raises(ExecutionError, match="did not start"):
            Anvil(chain_id=-5).start()
        with Anvil() as one, Anvil() as two:
            assert one.pid != two.pid
            one.close()
            assert isinstance(two.rpc.call("eth_chainId"), str)
            with pytest.raises(ExecutionError, match="not running"):
                _ = one.pid
            assert Deployer(two.rpc).package("WETH9").startswith("0x")


@pytest.mark.chain
def test_a_killed_owner_takes_its_node_along():
    code = (
        "import time\nfrom policy.localnet.anvil import Anvil\n"
        "with Anvil() as node:\n    print(node.url, flush=True)\n    time.sleep(600)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        url = owner.stdout.readline().strip()
        assert isinstance(Rpc(url).call("eth_chainId"), str)
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    for _ in range(1_200):
        try:
            Rpc(url, tries=1).call("eth_chainId")
        except RpcError:
            return
        time.sleep(0.05)
    raise AssertionError("the node outlived its owner by a minute")


def _token_args():
    return ["string", "string", "uint8"], ["a token", "TKN", 9]
