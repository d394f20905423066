"""docs/going-live.md, command by command: from an empty folder to a live rebalance, without an address typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from lake.evm import Call, read
from lake.networks.rows import LOCAL, names, network
from lake.rpc import Rpc
from pipelines.cli import app
from pipelines.settings import load
from pipelines.stages.doctor import examine
from policy.execution.records.audit import Audit
from policy.execution.submission.signer import keystore_address
from tests.pipelines.test_docs import ROOT, blocks

DOC = "docs/going-live.md"
MOST_COMMANDS = 6
PATIENCE_S = 240
pytestmark = pytest.mark.chain


def commands() -> list[str]:
    return blocks(DOC)[0]


def say(command: str, *more: str) -> str:
    done = CliRunner().invoke(app, [*shlex.split(command)[1:], *more], catch_exceptions=False)
    assert done.exit_code == 0, f"{command}\n{done.output}"
    return done.output


def serve(command: str, port: int, folder) -> subprocess.Popen:
    """Start the market of the page on a free port, its blocks made when they are asked for; wait until it is up."""
    words = [*shlex.split(command)[1:], "--port", str(port), "--every", "600"]
    with (folder / "localnet.txt").open("w") as out:
        node = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", *words], stdout=out, stderr=subprocess.STDOUT, env=os.environ
        )
    until = time.monotonic() + PATIENCE_S
    while "[[sources.pools]]" not in (folder / "localnet.txt").read_text():
        assert node.poll() is None, (folder / "localnet.txt").read_text()
        assert time.monotonic() < until
        time.sleep(0.1)
    return node


def test_the_page_goes_from_nothing_to_a_live_rebalance_in_six_commands(tmp_path, monkeypatch):
    page = commands()
    assert len(page) <= MOST_COMMANDS
    assert not re.search(r"0x[0-9a-fA-F]{40}", (ROOT / DOC).read_text())
    assert [c.split()[1] for c in page] == ["init", "keys", "localnet", "ingest", "vault", "rebalance"]
    monkeypatch.setenv("FOREDRIFT_PASSPHRASE", "a phrase of the test")
    monkeypatch.chdir(tmp_path)
    init, keys, market, ingest, deploy, rebalance = page
    say(init)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    file = tmp_path / "foredrift.toml"
    file.write_text(file.read_text().replace(":8545", f":{port}"))  # any free port: others test here, too
    said = say(keys)
    addresses = re.findall(r"0x[0-9a-fA-F]{40}", said)
    assert len(addresses) == 3
    say(ingest)  # the market opens at the lake's newest prices
    node = serve(market, port, tmp_path)
    try:
        assert all(a in (tmp_path / "localnet.txt").read_text() for a in addresses)
        checked = {r["check"]: r for r in examine(file)}
        assert checked["rows"]["level"] == "ok", checked["rows"]
        planned = say(deploy.replace(" --live", ""))
        assert "--live makes them" in planned
        assert load(file).vault.address is None
        deployed = say(deploy)
        vault = load(file).vault.address
        assert f"the vault stands at {vault}" in deployed
        assert [r for r in examine(file) if r["level"] == "error"] == []
        assert "everything is as the settings say" in say("foredrift vault status")
        traded = say(rebalance, "--json", "traded.json")
        assert "outcome: traded" in traded
        moved = json.loads((tmp_path / "traded.json").read_text())["settlement"]["deltas"]
        settings = load(file)
        tokens = list(settings.vault.tokens.values())
        asks = [Call(t, "balanceOf(address)", "uint256", (vault,)) for t in tokens]
        held_now = {
            t.lower(): int(str(r[0])) for t, r in zip(tokens, read(Rpc(f"http://127.0.0.1:{port}"), asks), strict=True)
        }
        cash = tokens[0].lower()
        assert held_now[cash] == 100_000 * 10**6 + int({k.lower(): v for k, v in moved.items()}[cash])
        assert any(v for t, v in held_now.items() if t != cash)
        settled = [
            r.body for r in Audit(settings.path(settings.vault.audit)).records() if r.body["event"] == "settlement"
        ]
        assert [s["outcome"] for s in settled] == ["landed"]
        assert "agrees on 1 executed plans" in say("foredrift audit verify")
        _a_new_key(file, vault, port)
    finally:
        node.terminate()
        node.wait(timeout=30)
    everything = "".join(
        p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.suffix in {".txt", ".toml", ".log"}
    )
    assert "a phrase of the test" not in everything


def _a_new_key(file, vault: str, port: int) -> None:
    """Rotate the keeper's key as the page does, its delay in between; the old file is void when the vault says so."""
    chain = Rpc(f"http://127.0.0.1:{port}", timeout=120)
    announce, make, over = blocks(DOC, "A new key")[0]
    old = keystore_address(file.parent / "keeper.json")
    said = say(announce)
    assert "announced" in said
    assert "gas money" in said
    new = keystore_address(file.parent / "keeper.next.json")
    assert keystore_address(file.parent / "keeper.json") == old
    for _ in range(8):
        chain.call("anvil_mine", [hex(40)])  # of 12 s each: over the delay of an hour
    assert f"keeper.void-{old}.json" in say(make)
    assert keystore_address(file.parent / "keeper.json") == new
    assert read(chain, [Call(vault, "keeper()", "address")])[0][0].lower() == new.lower()
    assert "--again" in say(over)


@pytest.mark.parametrize("command", [c for block in blocks(DOC) for c in block if "--heartbeat" in c])
def test_the_page_opens_the_networks_whose_heartbeats_are_looked_up(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = shlex.split(command)[shlex.split(command).index("--network") + 1]
    bare = re.sub(r" --(heartbeat|pool) \S+", "", command)
    refused = CliRunner().invoke(app, shlex.split(bare)[1:]).exception
    assert all(option in str(refused) for option in re.findall(r"--heartbeat|--pool", command)), refused
    say(command)
    assert load(tmp_path / "foredrift.toml").chain.id == network(name).chain_id


def test_the_page_opens_every_network_that_its_rows_alone_do_not():
    named = {n for n in names() if f"init --network {n} " in " ".join(c for b in blocks(DOC) for c in b)}
    assert {n for n in names() if not network(n).usable()} == named - {LOCAL}


def test_every_command_the_page_names_is_one():
    text = (ROOT / DOC).read_text()
    named = set(re.findall(r"`foredrift ((?:vault |keys )?[a-z-]+)", text))  # in running text
    assert {"vault set-targets", "vault retire-token", "networks", "vault status", "keys rotate"} <= named
    for words in sorted(named):
        done = CliRunner().invoke(app, [*words.split(), "--help"])
        assert done.exit_code == 0, words
