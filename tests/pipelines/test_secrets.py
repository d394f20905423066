"""Planted secrets: after rebalances, a comparison and scheduled runs, no store, log or output holds one."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from eth_account import Account

from pipelines.servers.subprocesses import free_port
from tests.pipelines.market import moment, project

KEY = "4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d"
SECRETS = {
    "the keeper's key": KEY,
    "the passphrase": "correct-horse-battery-PASSPHRASE",
    "the node's API key": "NODEAPIKEY0123456789",
    "the relay's API key": "RELAYAPIKEY0123456789",
    "the signer's token": "SIGNERTOKEN0123456789",
    "a notification token": "NOTIFYTOKEN0123456789",
    "the object store's secret": "OBJECTSTORESECRET0123456789",
}
ONE, TWO, THREE = "11" * 20, "22" * 20, "33" * 20
FLOWS = """
import os, sys
from pipelines.flows import FLOWS
os.environ["FOREDRIFT_REPLAY"] = f"{sys.argv[1]},2026-01-01,0"
FLOWS["rebalance"]()
print("the first flow is done")
del os.environ["FOREDRIFT_REPLAY"]
os.environ |= {"FOREDRIFT_CONFIG": "chain.toml", "FOREDRIFT_SCHEDULE__LIVE": "true", "FOREDRIFT_CHAIN__ID": "31337"}
FLOWS["rebalance"]()
"""

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A project that has lived through everything below, and all that its commands printed."""
    root = tmp_path_factory.mktemp("secrets")
    project(root, "\n[mandate]\nmin_trade_usd = 1\n")
    port = free_port()
    keystore = root / "keeper.json"
    sealed = Account.encrypt(KEY, SECRETS["the passphrase"], kdf="scrypt", iterations=2)
    keystore.write_text(json.dumps(sealed))
    keystore.chmod(0o600)
    node, relay = SECRETS["the node's API key"], SECRETS["the relay's API key"]
    chain = (
        (root / "foredrift.toml").read_text()
        + f"""
[chain]
rpc_urls = ["http://127.0.0.1:{port}/v2/{node}"]
[sources.blocks]
[vault]
kind = "reference"
address = "0x{ONE}"
keeper = "{Account.from_key(KEY).address}"
keystore = "keeper.json"
relay_url = "http://127.0.0.1:{port}/{relay}"
[[sources.pools]]
address = "0x{TWO}"
asset = "ETH"
router = "0x{THREE}"
"""
    )
    (root / "chain.toml").write_text(chain)
    token = SECRETS["the signer's token"]
    signer = chain.replace('keystore = "keeper.json"', f'signer_url = "http://127.0.0.1:{port}/{token}"')
    (root / "signer.toml").write_text(signer)
    environment = os.environ | {
        "FOREDRIFT_MODELS__ROUNDS": "8",
        "FOREDRIFT_PASSPHRASE": SECRETS["the passphrase"],
        "FOREDRIFT_NOTIFY": f"json://user:{SECRETS['a notification token']}@127.0.0.1:{port}/",
        "AWS_SECRET_ACCESS_KEY": SECRETS["the object store's secret"],
        "PREFECT_HOME": str(root / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    environment.pop("PREFECT_API_URL", None)

    def run(*command: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, *command], cwd=root, env=environment, capture_output=True, text=True, timeout=300
        )
        return done.returncode, done.stdout + done.stderr

    cli = ("-m", "pipelines.cli")
    span = ("--start", moment(24 * 5), "--end", moment(0))
    said = {
        "paper": run(*cli, "rebalance", "--as-of", moment(0), "--live", "--json", "-"),
        "compare": run(*cli, "compare", *span, "--portfolios", "1", "--policies", "gas_band,hold", "--json", "-"),
        "dead chain": run(*cli, "rebalance", "--live", "--config", "chain.toml"),
        "dead signer": run(*cli, "rebalance", "--live", "--config", "signer.toml"),
        "dead source": run(*cli, "ingest", "blocks", "--config", "chain.toml"),
        "doctor": run(*cli, "doctor", "--config", "chain.toml", "--json", "-"),
        "flows": run("-c", FLOWS, moment(0)),
    }
    return root, said


def test_the_runs_did_what_the_search_relies_on(lived):
    root, said = lived
    for name in ("paper", "compare"):
        assert said[name][0] == 0, (name, said[name][1][-2_000:])
    for name in ("dead chain", "dead signer", "dead source", "doctor", "flows"):
        assert said[name][0] != 0, name
    assert "the first flow is done" in said["flows"][1], said["flows"][1][-2_000:]
    for place in ("mlruns/mlflow.db", "prefect/prefect.db", ".foredrift/audit.jsonl", ".foredrift/vault.json"):
        assert (root / place).stat().st_size > 0, place


def test_no_store_log_or_output_holds_a_secret(lived):
    root, said = lived
    planted = {root / "chain.toml", root / "signer.toml"}
    found = [
        f"{what} in {path.relative_to(root)}"
        for path in root.rglob("*")
        if path.is_file() and path not in planted
        for what in held(path.read_bytes())
    ]
    found += [f"{what} printed by {name}" for name, (_, text) in said.items() for what in held(text.encode())]
    assert found == []


def held(data: bytes) -> list[str]:
    return [what for what, secret in SECRETS.items() if secret.lower().encode() in data.lower()]


def test_the_search_finds_a_planted_secret(tmp_path):
    file = tmp_path / "log"
    file.write_text("could not reach http://node/" + SECRETS["the node's API key"].lower())
    assert held(file.read_bytes()) == ["the node's API key"]


def test_state_is_for_its_owner_only(lived):
    root, _ = lived
    assert mode(root / ".foredrift") == 0o700
    assert mode(root / "keeper.json") == 0o600


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
