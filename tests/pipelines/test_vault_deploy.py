"""``foredrift vault deploy``: planned first, killed anywhere, repeated at will, and every contract is made once."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from lake.errors import ConfigError, ExecutionError, ForedriftError
from lake.evm import Call, read
from lake.rpc import Rpc
from pipelines.stages.doctor import examine
from pipelines.stages.keys import show
from pipelines.stages.start import PLACE
from pipelines.stages.vault_deploy import amount_of, deploy
from pipelines.vault_setup.ownership import setup_of
from policy.execution.contracts.compile import contract
from policy.execution.contracts.verification import standard_input
from policy.execution.records.hashlog import HashLog
from policy.execution.vaults.reference.creation import creations
from tests.pipelines.golive_kit import DEPOSIT, PHRASE, Killed, killed_at, nonce, opened, project

pytestmark = pytest.mark.chain
STEPS = 7  # oracle, three shared parts, vault, approval, deposit


@pytest.fixture
def file(localnet, tmp_path, monkeypatch):
    monkeypatch.setenv("FOREDRIFT_PASSPHRASE", PHRASE)
    return project(localnet, tmp_path)


def run(file, *, live=True, deposit=DEPOSIT, **how):
    settings, one = opened(file)
    return deploy(one, settings.deploy, file, live=live, deposit=Decimal(deposit), **how)


def owner_of(file) -> str:
    settings, one = opened(file)
    return next(r["address"] for r in show(one, settings.deploy, "owner"))


def test_killed_at_every_crossing_in_turn_it_makes_everything_exactly_once(localnet, file, monkeypatch):
    at, crossed = 1, []
    for _ in range(60):
        with killed_at(monkeypatch, at) as seen:
            try:
                done = run(file)
            except Killed:
                crossed.append(seen[-1])
                at = at % 7 + 1
                continue
        break
    assert {w.split()[0] for w in crossed} == {"before", "after"}
    assert len(set(crossed)) >= 6, crossed
    rpc, owner = Rpc(localnet.url), owner_of(file)
    assert nonce(rpc, owner) == STEPS
    assert all(s["done"] for s in done["steps"])
    vault = done["vault"]
    held, supply = read(rpc, [Call(vault, "totalAssets()", "uint256"), Call(vault, "totalSupply()", "uint256")])
    assert held[0] <= DEPOSIT * 10**6 < held[0] + 10  # once, and not twice
    assert supply[0] > 0
    assert file.read_text().count(vault) == 1
    assert PLACE not in file.read_text()
    again = run(file)
    assert nonce(rpc, owner) == STEPS
    assert (again["gas"], again["cost_wei"]) == (0, 0)


def test_a_plan_sends_nothing_and_says_who_pays_how_much_for_what(localnet, file):
    plans = []
    plan = run(file, live=False, on_plan=plans.append)
    assert plans == [plan]
    assert [s["done"] for s in plan["steps"]] == [False] * STEPS
    assert plan["sender"] == owner_of(file)
    assert nonce(Rpc(localnet.url), plan["sender"]) == 0
    assert PLACE in file.read_text()
    done = run(file)
    lines = [x.body for x in HashLog(file.parent / ".foredrift/owner-31337.log").lines()]
    used = sum(x["gas_used"] for x in lines if x["event"] == "landed")
    assert plan["gas"] * 0.7 < used <= plan["gas"]  # an estimate to plan by, never too low
    assert done["vault"] == plan["vault"]
    assert [x["event"] for x in lines] == ["signed", "landed"] * STEPS
    rows = {r["check"]: r for r in examine(file)}
    assert rows["vault on chain"]["level"] == "ok", rows["vault on chain"]
    text = "".join(p.read_text() for p in (file.parent / "verification").iterdir())
    index = json.loads((file.parent / "verification/addresses.json").read_text())
    assert index["foredrift_vault"]["address"] == done["vault"]
    assert PHRASE not in text
    settings, one = opened(file)
    setup = setup_of(one, settings.deploy, Rpc(localnet.url))
    for made in creations(setup, one.name):
        told = bytes.fromhex(index[made.artefact]["constructor_arguments"])
        assert contract(made.artefact).bytecode + told == made.code


def test_a_price_that_is_not_good_stops_it_before_anything_is_signed(localnet, file):
    localnet.mine(seconds=26 * 3_600)
    with pytest.raises(ConfigError, match="ETH: feed .* was updated 93.* s ago, its heartbeat is given as 90000 s"):
        run(file)
    assert nonce(Rpc(localnet.url), owner_of(file)) == 0
    rows = [r for r in examine(file) if r["check"] == "rows"]
    assert len(rows) == 3
    assert all("was updated" in r["found"] for r in rows)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('BTC = "0xA51', '# BTC = "0xA51', r"\[vault.tokens\] has no BTC"),
        ('guardian = "guardian.json"', 'guardian = "nobody.json"', "no keystore for .*guardian.*nobody.json"),
        ('guardian = "guardian.json"', 'guardian = "keeper.json"', "three keys"),
        ('assets = ["USDC", "ETH", "BTC"]', 'assets = ["ETH", "USDC", "BTC"]', "counted in a dollar coin"),
        ('kind = "reference"', 'kind = "simulated"', "only a .reference. vault"),
        ("id = 31337", "id = 1", "chain"),
    ],
)
def test_settings_that_do_not_make_a_vault_are_named(localnet, file, old, new, said):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(ForedriftError, match=said):
        run(file)


def test_an_owner_without_money_is_told_how_much_is_needed(localnet, file):
    owner = owner_of(file)
    localnet.anvil.rpc.call("anvil_setBalance", [owner, hex(10**9)])
    with pytest.raises(ExecutionError, match=r"has 0\.000000 of the chain's coin, at most .* is needed"):
        run(file)
    assert nonce(Rpc(localnet.url), owner) == 0


def test_a_second_process_is_refused(localnet, file):
    from pipelines.vault_setup.sending import ahead_of

    _, one = opened(file)
    with ahead_of(one, Rpc(localnet.url)).held(), pytest.raises(ExecutionError, match="another process"):
        run(file)


@pytest.mark.parametrize("text", ["0", "-1", "1e400000", "NaN", "ten", ""])
def test_an_amount_is_a_positive_number(text):
    with pytest.raises(ConfigError, match="positive number"):
        amount_of(text)


def test_what_explorers_get_compiles_to_the_code_that_is_sent():
    vyper_json = pytest.importorskip("vyper.cli.vyper_json")
    made = vyper_json.compile_json(standard_input("foredrift_oracle"))["contracts"]["foredrift_oracle.vy"]
    assert made["foredrift_oracle"]["evm"]["bytecode"]["object"][2:] == contract("foredrift_oracle").bytecode.hex()
    for name in ("foredrift_vault", "foredrift_investors", "foredrift_auctions", "foredrift_port"):
        assert f"{name}.vy" in standard_input(name)["sources"]
