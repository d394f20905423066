"""A portfolio on two local chains with contracts: settings, verbs and doctor, from a deposit to a settled transfer."""

from __future__ import annotations

import json
from datetime import timedelta

import httpx
import pytest
from typer.testing import CliRunner

from lake.errors import ConfigError, ExecutionError
from lake.evm import calldata
from pipelines.cli import app
from pipelines.deployments import deployments
from pipelines.settings import load
from pipelines.stages import transfers as stage
from pipelines.stages.route_checks import route_findings
from pipelines.vault_setup.transfer_bridges import attestations_of
from pipelines.vault_setup.transfer_fleet import fleet_of
from pipelines.vault_setup.transfer_opening import open_fleet
from pipelines.wiring import now
from policy.execution.bridges.attestations import CircleAttestations
from policy.execution.bridges.services import ServiceDown
from policy.execution.checks.port_rules import FAST, FINAL
from policy.execution.submission.signer import create_keystore
from policy.execution.transfers.journal import TransfersBusy
from policy.localnet.accounts import dev_accounts
from policy.localnet.attestation_server import answered, serve_attester
from policy.localnet.attester import FAST_PIPS, LocalAttester
from policy.localnet.bridges import CHAIN_IDS, MESSENGER, USD
from tests.transfers.real_chains import CctpCase

PHRASE = "correct horse"
KEEPER = dev_accounts()["keeper"]


def written(folder, made, service: str, **changes: str) -> str:
    """Write settings and the keeper's key; ``changes`` replace whole lines."""
    rows = ["[portfolio]", 'name = "fund"', 'assets = ["USDC", "ETH"]']
    for net in made.nets:
        rows += ["[[chains]]", f"id = {net.chain_id}", f'rpc_urls = ["{net.url}"]', "min_cash_usd = 1_000"]
        rows += ["[chains.vault]", 'kind = "reference"', f'address = "{net.world.extras["vault"]}"']
        rows += ['keystore = "keeper.json"']
    for near, far in (made.nets, made.nets[::-1]):
        rows += ["[[bridges]]", 'kind = "cctp"', f"from = {near.chain_id}", f"to = {far.chain_id}"]
        rows += [f'messenger = "{near.world.extras[MESSENGER]}"']
    rows += ["[transfers]", f'attestations = "{service}"']
    text = "\n".join(rows) + "\n"
    for old, new in changes.values():
        text = text.replace(old, new, 1)
    if not (folder / "keeper.json").exists():
        create_keystore(folder / "keeper.json", PHRASE, KEEPER.key, iterations=2)
    (folder / "foredrift.toml").write_text(text)
    return text


def project_in(folder):
    return deployments(load(folder / "foredrift.toml"))


@pytest.fixture
def fund(chain_pair, tmp_path, monkeypatch):
    """The project beside both chains and their attestation service."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOREDRIFT_PASSPHRASE", PHRASE)
    with serve_attester(chain_pair.attester) as service:
        written(tmp_path, chain_pair, service)
        yield chain_pair, tmp_path, service


def run(command: str) -> dict:
    """Run one verb and return its JSON."""
    done = CliRunner().invoke(app, [*command.split(), "--json", "out.json"])
    assert done.exit_code == 0, f"{command}\n{done.output}\n{done.exception!r}"
    assert KEEPER.key.hex() not in done.output
    with open("out.json", encoding="utf-8") as file:
        return json.load(file)


def total(view) -> int:
    """Cash on both chains and between them, cents."""
    assert view["mismatch"] == ""
    return round(100 * (sum(c["cash_usd"] for c in view["chains"]) + sum(t["usd"] for t in view["in_transit"])))


@pytest.mark.chain
def test_a_deposit_on_one_chain_is_transferred_delivered_settled_and_counted_once_at_each_look(fund):
    made, folder, _ = fund
    case = CctpCase(made)
    near = made.nets[0]
    found = list(route_findings(project_in(folder)))
    assert [f["level"] for f in found] == ["ok", "ok"], found
    begun = total(run("transfers"))
    me = near.accounts["investor"].address
    near.send("investor", case.vaults[0].address, calldata("deposit(uint256,address)", 40_000 * USD, me))
    made.mine(4)
    after = total(run("transfers"))
    assert after == begun + 4_000_000
    before = case.balances()
    ask = f"transfers plan {CHAIN_IDS[0]} {CHAIN_IDS[1]} USDC 40000"
    dry = run(ask)
    assert (dry["verdicts"], dry["planned"]) == ([], False)
    assert not (folder / ".foredrift" / "transfers.jsonl").read_bytes()
    assert run(f"{ask} --live")["planned"]
    states, moving = [], []
    for _ in range(14):
        made.mine()
        view = run("transfers resume")
        assert total(view) == after
        states.append(view["transfers"][0]["state"])
        moving.append(sum(t["usd"] for t in view["in_transit"]))
        if states[-1] == "settled":
            break
    assert states[-1] == "settled", states
    assert max(moving) == pytest.approx(40_000, rel=0.01)
    assert moving[-1] == 0
    left, arrived = (b - a for a, b in zip(before, case.balances(), strict=True))
    assert (-left, arrived) == (arrived, int(view["transfers"][0]["amount_raw"]))
    assert case.vaults[0].port_transit(1) == 0
    status = run("status")
    assert [c["chain"] for c in status["chains"]] == list(CHAIN_IDS)
    assert total(status) == after
    shown = run(f"transfers show {view['transfers'][0]['saga_id'][:12]}")
    assert [t["leg"] for t in shown["transactions"]] == ["depart", "deliver", "settle"]


@pytest.mark.chain
def test_the_doctor_names_a_row_that_differs_and_nothing_departs(fund):
    made, folder, service = fund
    port = "max_transfer_usd = 150_000\nmax_transit_usd = 100_000\n"
    mistakes = (
        ('kind = "cctp"\n', 'kind = "cctp"\n' + port, "max_transfer_usd is 150,000, the port's row allows 100,000"),
        ('kind = "cctp"\n', 'kind = "cctp"\nroute = 2\n', "bridge_quote"),
    )
    for old, new, words in mistakes:
        written(folder, made, service, one=(old, new))
        first, second = route_findings(project_in(folder))
        assert words in first["found"]
        assert (first["level"], second["level"]) == ("warn", "ok")
    case = CctpCase(made)
    case.pause(1)
    written(folder, made, service)
    found = list(route_findings(project_in(folder)))
    assert all("bridge_paused" in f["found"] for f in found)
    result = CliRunner().invoke(app, ["transfers", "plan", *map(str, CHAIN_IDS), "USDC", "50", "--live"])
    assert result.exit_code == 1
    assert stage.listed(project_in(folder))["transfers"] == []


@pytest.mark.chain
def test_a_port_that_burns_through_another_contract_is_a_mismatch(fund):
    made, folder, service = fund
    other = made.nets[0].world.extras["vault"]
    text = written(folder, made, service)
    (folder / "foredrift.toml").write_text(text.replace(made.nets[0].world.extras[MESSENGER], other, 1))
    first, *_ = route_findings(project_in(folder))
    assert first["level"] == "error"
    view = stage.fleet_report(project_in(folder))
    assert "cannot be read" in view["mismatch"]
    written(folder, made, service)
    with open_fleet(fleet_of(project_in(folder)), now(), live=False, told=lambda *_: None) as opened:
        [bridge] = [b for k, b in opened.context.bridges.items() if k[1] == CHAIN_IDS[0]]
        near, far = bridge.ends
        bridge.ends = (type(near)(near.rpc, near.chain, other, near.transmitter), far)
        case = CctpCase(made)
        said = bridge.preflight(case.transfer())
    assert any(v.check == "route_mismatch" and "burns through" in v.reason for v in said)


@pytest.mark.chain
def test_a_run_holds_every_vaults_journal_and_a_chains_time_is_never_set(fund):
    _, folder, _ = fund
    project = project_in(folder)
    fleet = fleet_of(project)
    with (
        open_fleet(fleet, now(), live=True, told=lambda *_: None),
        pytest.raises(TransfersBusy, match="another run holds"),
        open_fleet(fleet, now(), live=True, told=lambda *_: None),
    ):
        pass
    with pytest.raises(ConfigError, match="whose time nobody sets"):
        stage.run_transfers(project, now() + timedelta(hours=5), decide=False)
    with pytest.raises(ConfigError, match="deposit and withdraw are of paper vaults"):
        stage.flowed(project, CHAIN_IDS[0], 5.0, now())


@pytest.mark.chain
def test_a_sequencer_whose_feed_says_down_stops_every_route(fund):
    """A price feed answers like an uptime feed, and never 0: that is down."""
    made, folder, service = fund
    far = made.nets[1]
    feed = f'id = {far.chain_id}\nsequencer_feed = "{far.world.token("ETH").feed}"\n'
    written(folder, made, service, one=(f"id = {far.chain_id}\n", feed))
    found = list(route_findings(project_in(folder)))
    assert all(f"sequencer_down: chain {far.chain_id}" in f["found"] for f in found)
    assert [f["level"] for f in found] == ["warn", "warn"]


@pytest.mark.chain
def test_a_node_nobody_reaches_is_a_doubt_and_never_a_zero(fund):
    made, folder, service = fund
    written(folder, made, service, one=(made.nets[1].url, "http://127.0.0.1:9"))
    view = stage.fleet_report(project_in(folder))
    assert "cannot be read" in view["mismatch"]
    assert view["chains"] == []
    [row] = route_findings(project_in(folder))
    assert row["level"] == "error"


CHAIN = "[[chains]]\nid = {}\n"
VAULT = "[chains.vault]\nkind = '{}'\naddress = '0x{}'\n"
BRIDGE = "[[bridges]]\nkind = '{0}'\nfrom = 1\nto = 10\n[[bridges]]\nkind = '{0}'\nfrom = 10\nto = 1\n"
REFUSED = (
    (("reference", "simulated"), "cctp", "all on paper or all on their chains"),
    (("lagoon", "lagoon"), "cctp", "has none"),
)


@pytest.mark.parametrize(("kinds", "bridge", "words"), REFUSED)
def test_vaults_that_cannot_be_one_portfolio_are_refused_by_name(tmp_path, kinds, bridge, words):
    text = "[portfolio]\nassets = ['USDC', 'ETH']\n"
    for n, (chain_id, kind) in enumerate(zip((1, 10), kinds, strict=True), 1):
        vault = VAULT.format(kind, str(n) * 40)
        text += CHAIN.format(chain_id) + (vault if kind != "simulated" else "[chains.vault]\nkind = 'simulated'\n")
    (tmp_path / "foredrift.toml").write_text(text + BRIDGE.format(bridge))
    with pytest.raises(ConfigError, match=words):
        stage.listed(project_in(tmp_path))


@pytest.mark.parametrize("key", ["pools = []", "feeds = []", "live = true"])
def test_what_belongs_to_a_further_chain_is_refused_of_the_first(tmp_path, key):
    (tmp_path / "foredrift.toml").write_text(CHAIN.format(1) + key + "\n" + CHAIN.format(10) + key + "\n")
    with pytest.raises(ConfigError, match="the first chain's is"):
        load(tmp_path / "foredrift.toml")
    (tmp_path / "foredrift.toml").write_text(CHAIN.format(1) + CHAIN.format(10) + key + "\n")
    two = project_in(tmp_path)[1]
    assert two.live or not key.startswith("live")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "http://example.org", "https://example.org", "http://iris-api.circle.com"]
)
def test_an_attestation_service_is_circles_own_but_between_local_chains(tmp_path, url):
    text = CHAIN.format(1) + CHAIN.format(10) + f"[transfers]\nattestations = '{url}'\n"
    (tmp_path / "foredrift.toml").write_text(text)
    with pytest.raises(ConfigError, match="is not Circle's attestation service"):
        attestations_of(fleet_of(project_in(tmp_path)))
    (tmp_path / "foredrift.toml").write_text(text.replace("id = 10", "id = 31338").replace("id = 1\n", "id = 31337\n"))
    if "127.0.0.1" in url:
        assert attestations_of(fleet_of(project_in(tmp_path))).service.url == url
    else:
        with pytest.raises(ConfigError, match="is not Circle's attestation service"):
            attestations_of(fleet_of(project_in(tmp_path)))


class Vouching(LocalAttester):
    """Answers without a chain."""

    def of(self, domain, tx_hash):
        if self._strike("down"):
            raise ServiceDown("out")
        return super().of(domain, tx_hash) if domain not in self.chains else ()


def test_the_local_service_speaks_circles_form_and_fails_as_a_service_does():
    attester = Vouching({100: (None, "", 3), 101: (None, "", 3)}, {"down": 1})
    with serve_attester(attester) as url:
        asked = CircleAttestations(url, local=True)
        assert [asked.fee_pips(100, 101, f) for f in (FINAL, FAST, 7)] == [0, FAST_PIPS, None]
        assert asked.fee_pips(100, 5, FINAL) is None
        with pytest.raises(ServiceDown, match="503"):
            asked.of(100, "0xab")
        assert asked.of(100, "0xab") == ()
        asked.renew(b"\x01" * 32)
        assert attester.renewed == [b"\x01" * 32]
        assert httpx.get(f"{url}/v2/secrets").status_code == 400
        with pytest.raises(ServiceDown, match="400"):
            asked.of(7, "0xab")
    with pytest.raises(ServiceDown):
        asked.of(100, "0xab")
    for method, path in (
        ("GET", "/"),
        ("POST", "/v2/messages/1"),
        ("GET", "/v2/messages/x"),
        ("POST", "/v2/reattest/zz"),
    ):
        assert answered(attester, method, path)[0] == 400
    assert issubclass(ServiceDown, Exception)
    assert not issubclass(ServiceDown, ExecutionError)
