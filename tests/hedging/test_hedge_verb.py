"""``foredrift hedge`` from a settings file: prints the plan, executes it with --live, refuses what cannot be meant."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from lake.errors import ConfigError
from pipelines.cli import app
from pipelines.demo.localnet import hedge_toml
from pipelines.settings import load
from policy.execution.submission.signer import create_keystore
from tests.hedging.chain_kit import BOOK, market, renew

POOLS = """
[[sources.pools]]
asset = "ETH"
address = "{pool}"
venue = "uniswap_v3"
router = "{router}"
"""


@pytest.mark.chain
def test_the_verb_plans_and_with_live_hedges_once(tmp_path, monkeypatch):
    from dataclasses import replace

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOREDRIFT_PASSPHRASE", "local")
    with market(replace(BOOK, keeper="trader")) as net:
        pool = net.world.pools["v3:ETH/USDC:500"]
        text = f'[chain]\nid = {net.chain_id}\nrpc_urls = ["{net.url}"]\n' + hedge_toml(net)
        (tmp_path / "foredrift.toml").write_text(text + POOLS.format(pool=pool.address, router=pool.router))
        create_keystore(tmp_path / "hedge-keeper.json", "local", net.accounts["trader"].key, iterations=2)
        done = CliRunner().invoke(app, ["hedge", "--json", "dry.json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        dry = json.loads((tmp_path / "dry.json").read_text())
        assert dry["outcome"] == "planned"
        assert "hedge planned" in done.output
        done = CliRunner().invoke(app, ["hedge", "--live", "--json", "live.json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        live = json.loads((tmp_path / "live.json").read_text())
        assert live["outcome"] == "traded", live["why"]
        assert live["settlement"]["landed"]
        assert abs(live["expected"]["change_units"]) > 50
        renew(net, 1_500.0)
        done = CliRunner().invoke(app, ["hedge", "--live", "--json", "again.json"], catch_exceptions=False)
        assert json.loads((tmp_path / "again.json").read_text())["outcome"] in {"waited", "done"}
        done = CliRunner().invoke(app, ["status", "--json", "status.json"], catch_exceptions=False)
        seen = json.loads((tmp_path / "status.json").read_text())["hedge"]
        assert seen["rule"] == "hedge_gas_band"
        assert abs(seen["x"]) < seen["outer"]
        assert "last hedge" in done.output


HEAD = '[chain]\nid = 31337\nrpc_urls = ["http://127.0.0.1:1"]\n[hedge]\n'
ACCOUNT = 'account = "0x1111111111111111111111111111111111111111"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gamma = 3.0\ndelta_limit = 0.1\n", "give one"),
        ("gamma = -1.0\n", "gamma"),
        ('every = "2h"\n', "from 1m to 1h"),
        ('every = "30s"\n', "from 1m to 1h"),
        ("vol = 65.0\n", "vol"),
        ('account = "0x12"\n', "is no address"),
        (
            ACCOUNT + 'keystore = "k.json"\n[vault]\nkind = "reference"\n'
            'address = "0x2222222222222222222222222222222222222222"\nkeystore = "k.json"\n',
            "would replace each other",
        ),
        (
            ACCOUNT + 'journal = ".foredrift/j"\n[vault]\nkind = "reference"\n'
            'address = "0x2222222222222222222222222222222222222222"\njournal = ".foredrift/j"\n',
            "share the file",
        ),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path, text, said):
    (tmp_path / "foredrift.toml").write_text(HEAD + text)
    with pytest.raises(ConfigError, match=said):
        load(tmp_path / "foredrift.toml")


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foredrift.toml").write_text(HEAD)
    done = CliRunner().invoke(app, ["hedge"])
    assert done.exit_code != 0
    assert "set [hedge] account" in str(done.exception) + done.output
