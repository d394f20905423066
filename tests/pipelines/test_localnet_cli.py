"""The documented steps on a local chain, from a hand-written foredrift.toml: the reference vault, then the Safe."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from eth_account import Account
from typer.testing import CliRunner

from lake.evm import Call, calldata, read
from lake.rpc import Rpc, quantity
from pipelines.cli import app
from pipelines.deployments import deployment
from pipelines.settings import load
from pipelines.stages.doctor import examine
from policy.execution.records.audit import Audit
from policy.execution.records.owner import owner_path
from policy.localnet.accounts import dev_accounts

DOC = Path(__file__).resolve().parents[2] / "docs/execution.md"
pytestmark = pytest.mark.chain


def section() -> tuple[list[str], list[str], list[str]]:
    """The TOML blocks, the commands for every vault and those for the Safe, comments removed from the latter."""
    text = DOC.read_text().split("## Step by step on a local chain", 1)[1].split("\n## ", 1)[0]
    found = {kind: re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("toml", "sh")}
    bare = [[re.sub(r"\s+#.*$", "", line) for line in block.strip().splitlines()] for block in found["sh"]]
    return found["toml"], bare[0], bare[1]


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """The folder with foredrift.toml and safe.toml, the lake ingested and ``foredrift localnet`` running beside it."""
    folder = tmp_path_factory.mktemp("own")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    (whole, safe), commands, _ = section()
    whole = whole.replace(":8545", f":{port}")
    (folder / "foredrift.toml").write_text(whole)
    head, tail = whole.split("[vault]", 1)
    (folder / "safe.toml").write_text(
        head + safe.replace(":8545", f":{port}") + tail[tail.index("[[sources.pools]]") :]
    )
    set_, ingest, serve, *rest = commands
    patch = pytest.MonkeyPatch()
    patch.setenv(*set_.removeprefix("export ").split("="))
    patch.chdir(folder)
    say(ingest)
    words = [sys.executable, "-m", "pipelines.cli", *shlex.split(serve)[1:], "--port", str(port), "--every", "2"]
    with (folder / "localnet.txt").open("w") as out:
        node = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, env=os.environ)
    try:
        until = time.monotonic() + 240
        while "[[sources.pools]]" not in (folder / "localnet.txt").read_text():
            assert node.poll() is None, (folder / "localnet.txt").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)
        yield folder, f"http://127.0.0.1:{port}", rest
    finally:
        node.terminate()
        node.wait(timeout=30)
        patch.undo()


def say(command: str, *more: str) -> str:
    """Run one command of the documents in this process; return what it printed."""
    done = CliRunner().invoke(app, [*shlex.split(command)[1:], *more], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("file", ["foredrift.toml", "safe.toml"])
def test_the_documented_steps_move_the_vault_to_the_wanted_weights(market, file):
    folder, url, commands = market
    settings = load(folder / file)
    tokens = [v["address"] for v in told(folder, url)]
    held = balances(url, tokens, settings.vault.address)
    assert held[0] > 0
    assert not any(held[1:])
    said = []
    if settings.vault.kind == "safe":
        *before, installed, described = [say(c, "--config", file) for c in section()[2]]
        assert "To be signed" in before[0]
        assert "the role is installed" in installed
        assert "a stolen keeper's key takes at most" in described
    for command in commands:
        more = ["--config", file] + (["--json", "out.json"] if command.endswith("--live") else [])
        said.append(say(command, *more))
    doctor, planned, traded, audit = said
    assert ("all refused" in doctor) == (settings.vault.kind == "safe")
    assert settings.vault.kind in doctor
    assert settings.vault.address[:20] in doctor
    assert "ONLY ONE NODE" in doctor
    assert "planned" in planned
    assert ("checked here, not by the vault's contract" in planned) == (settings.vault.kind == "safe")
    assert "traded" in traded
    assert "records" in audit
    result = json.loads((folder / "out.json").read_text())
    moved = {t: a - b for t, a, b in zip(tokens, balances(url, tokens, settings.vault.address), held, strict=True)}
    assert {t.lower(): int(d) for t, d in result["settlement"]["deltas"].items()} == moved  # to the unit
    for after, wanted in zip(result["weights_after"], result["weights_wanted"], strict=True):
        assert after == pytest.approx(wanted, abs=0.002)
    settled = [r.body for r in Audit(settings.path(settings.vault.audit)).records() if r.body["event"] == "settlement"]
    assert [s["outcome"] for s in settled] == ["landed"]
    assert settled[0]["plan_hash"] == result["plan"]["plan_hash"]
    assert "executed already" in say(commands[2], "--config", file)
    assert balances(url, tokens, settings.vault.address) == [b + moved[t] for t, b in zip(tokens, held, strict=True)]


def test_a_keeper_follows_the_market_s_websocket_and_decides_by_the_vault_s_plan_nonce(market):
    folder, url, _ = market
    ws = re.search(r"heads and logs on (ws://\S+)", (folder / "localnet.txt").read_text())
    words = f"keep --live --ws {ws[1]} --http {url} --blocks 3 --json kept.json"
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        *words.split(),
    ]  # its own process: it starts anew without the phrase
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=folder, check=False)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    kept = json.loads((folder / "kept.json").read_text())
    assert kept["blocks"] == 3
    assert kept["acts"][0]["triggers"][-1] == "hour"
    assert kept["outcomes"].keys() <= {"waited", "landed", "pending", "traded"}, said
    settings = load(folder / "foredrift.toml")
    records = [r.body for r in Audit(settings.path(settings.vault.audit)).records()]
    assert kept["acts"][0]["decision_id"] in {r["decision_id"] for r in records}
    assert json.loads(owner_path(deployment(settings).journal).read_text())["block"] > 0


def told(folder, url):
    """Tokens as the running market printed them, in the order of its settings."""
    text = (folder / "localnet.txt").read_text().split("[vault.tokens]", 1)[1].split("[[", 1)[0]
    return [{"asset": a, "address": t.lower()} for a, t in re.findall(r'(\w+) = "(0x\w+)"', text)]


def balances(url, tokens, holder):
    return [
        int(str(r[0])) for r in read(Rpc(url), [Call(t, "balanceOf(address)", "uint256", (holder,)) for t in tokens])
    ]


def test_the_printed_settings_are_those_of_the_document(market):
    folder, url, _ = market
    printed = (folder / "localnet.txt").read_text()
    for file in ("foredrift.toml", "safe.toml"):
        for address in re.findall(r'"(0x\w{40})"', (folder / file).read_text()):
            assert address in printed


WRONG = {
    "multisend": ("multisend = ", "# multisend = ", "multisend"),
    "token": ("BTC = ", "# BTC = ", "tokens.BTC"),
    "feed": ('asset = "BTC"\naddress = "0x0DC', 'asset = "LINK"\naddress = "0x0DC', "sources.feeds"),
    "keeper": (
        "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
        "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
        "cannot use the role at all",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_safe_says_what_its_settings_lack(market, name):
    folder, _, _ = market
    old, new, said = WRONG[name]
    text = (folder / "safe.toml").read_text()
    assert old in text
    (folder / "wrong.toml").write_text(text.replace(old, new))
    rows = [r for r in examine(folder / "wrong.toml") if r["check"] in {"vault", "role"} and r["level"] == "error"]
    assert any(said in r["found"] for r in rows)


def test_owners_sign_a_proposal_from_the_command_line(market):
    """Two of three approve on the chain; the next run sends what they signed, and the vault agrees with the record."""
    folder, url, _ = market
    printed = dict(re.findall(r"^  (\w+) +(0x\w{40})$", (folder / "localnet.txt").read_text(), re.MULTILINE))
    text = (folder / "safe.toml").read_text()
    text = re.sub(r"^(roles|unwrapper|allowance_bps) = .*$", "", text, flags=re.MULTILINE).replace("/safe/", "/owners/")
    for name, value in (("address", printed["owners_safe"]), ("multisend", printed["owners_multisend"])):
        text = re.sub(rf'(\[vault\](?:\n.*)*?\n{name} = )"0x\w+"', rf'\1"{value}"', text, count=1)
    (folder / "owners.toml").write_text(text.replace('kind = "safe"', 'kind = "safe"\naccess = "proposal"'))
    more = ["--config", "owners.toml"]
    say("foredrift doctor", *more)
    assert any("its owners sign every plan" in row["found"] for row in examine(folder / "owners.toml"))
    proposed = say("foredrift rebalance --propose", *more, "--json", "proposed.json", "--out", "batch.json")
    assert "outcome: proposed" in proposed
    batch = json.loads((folder / "batch.json").read_text())
    assert batch["meta"]["createdFromSafeAddress"] == printed["owners_safe"]
    safe_hash = re.search(r"to be signed as (0x\w{64})", json.loads((folder / "proposed.json").read_text())["why"])[1]
    assert "0 of 2 owners have signed" in say("foredrift rebalance --propose --live", *more)
    rpc = Rpc(url)
    for role in ("owner", "guardian"):
        account = dev_accounts()[role]
        count = quantity(rpc.call("eth_getTransactionCount", [account.address, "latest"]))
        tx = {
            "type": 2, "chainId": 31_337, "to": printed["owners_safe"], "value": 0, "gas": 200_000,
            "data": calldata("approveHash(bytes32)", bytes.fromhex(safe_hash[2:])), "maxFeePerGas": 10**12,
            "maxPriorityFeePerGas": 10**9, "nonce": count,
        }  # fmt: skip
        rpc.call(
            "eth_sendRawTransaction", ["0x" + bytes(Account.sign_transaction(tx, account.key).raw_transaction).hex()]
        )
        rpc.call("evm_mine")
    traded = say("foredrift rebalance --propose --live", *more)
    assert "outcome: traded" in traded
    assert "agrees on 1 executed plans" in say("foredrift audit verify", *more)
    assert "executed already" in say("foredrift rebalance --live", *more)
