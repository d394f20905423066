"""A portfolio on two paper chains: docs/cross-chain.md command by command, its settings, and what the verbs refuse."""

from __future__ import annotations

import json
import os
import re

import pytest

from lake.errors import ConfigError, ExecutionError
from pipelines.deployments import deployments
from pipelines.scheduled.fleet_gauges import FleetGauges
from pipelines.settings import load
from pipelines.stages import transfers as stage
from pipelines.stages.route_checks import route_findings
from pipelines.wiring import now
from tests.pipelines.test_docs import ROOT, blocks, run_here

DOC = "docs/cross-chain.md"
SMALL = {"FOREDRIFT_SOURCES__SAMPLE__HOURS": "720"}
pytestmark = pytest.mark.timeout(900)


def settings_text() -> str:
    return re.search(r"```toml\n(.*?)```", (ROOT / DOC).read_text(), re.DOTALL).group(1)


def loaded(folder, text: str):
    (folder / "foredrift.toml").write_text(text)
    return load(folder / "foredrift.toml")


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The page's commands run in order in one process; what each transfer went through, run by run."""
    folder = tmp_path_factory.mktemp("fund")
    (folder / "foredrift.toml").write_text(settings_text())
    before, seen, said = os.getcwd(), [], {}
    kept = {k: os.environ.pop(k) for k in list(os.environ) if k.startswith("FOREDRIFT_")}
    os.chdir(folder)
    try:
        for command in [c for block in blocks(DOC) for c in block if c.startswith("foredrift ")]:
            said.setdefault(command, []).append(run_here(command, SMALL))
            if "transfers" in command or "rebalance" in command:
                project = deployments(load())
                seen.append((command, stage.listed(project)))
    finally:
        os.chdir(before)
        os.environ.update(kept)
    return folder, seen, said


def states(seen) -> list[str]:
    found = [t["state"] for _, view in seen for t in view["transfers"][-1:]]
    return [s for i, s in enumerate(found) if i == 0 or s != found[i - 1]]


def test_the_page_moves_cash_to_the_chain_that_lacks_it_and_brings_an_expired_deposit_home(walked):
    _, seen, _ = walked
    last = seen[-1][1]
    assert [t["state"] for t in last["transfers"]] == ["settled", "settled"]
    first, second = last["transfers"]
    assert (first["from"], first["to"], first["bridge"]) == (1, 8453, "simulated-mint")
    assert first["arrived_raw"] == first["amount_raw"]
    assert "its floor 5,000" in first["why"]
    assert (second["returned_raw"], second["arrived_raw"]) == (second["amount_raw"], "0")
    assert {"departed", "received", "settled"} <= set(states(seen))
    assert "fillable" in states(seen)


def test_every_unit_is_counted_once_at_every_command(walked):
    _, seen, _ = walked
    totals = []
    for _, view in seen:
        assert view["mismatch"] == ""
        if view["chains"]:
            cash = sum(c["cash_usd"] for c in view["chains"])
            totals.append(round(cash + sum(t["usd"] for t in view["in_transit"]), 2))
    after = totals[totals.index(min(totals)) :]
    assert len(after) > 8
    assert max(after) - min(after) < 0.02, "moving cash changes no total"
    assert any(view["in_transit"] for _, view in seen)


def test_status_shows_chains_by_assets_and_what_is_on_its_way(walked):
    folder, _, said = walked
    text = said["foredrift status"][-1]
    assert "Chains (USD)" in text
    os.chdir(folder)
    assert "fund-base" in text


def test_the_log_holds_no_signed_bytes_twice_and_show_prints_none(walked):
    folder, _, _ = walked
    project = deployments(load(folder / "foredrift.toml"))
    found = stage.shown(project, stage.listed(project)["transfers"][0]["saga_id"][:10])
    assert [t["leg"] for t in found["transactions"]] == ["depart", "deliver", "settle"]
    assert "raw" not in json.dumps(found["transactions"])
    with pytest.raises(ExecutionError, match="no transfer is '0xffffff'"):
        stage.shown(project, "0xffffff")


def test_what_cannot_be_asked_for_is_refused_in_one_line(walked):
    folder, _, _ = walked
    project = deployments(load(folder / "foredrift.toml"))
    for asked, words in (
        (stage.Asked(1, 8453, "ETH", 10.0), "transfers carry USDC alone"),
        (stage.Asked(1, 10, "USDC", 10.0), "no \\[\\[bridges\\]\\] row leads from 1 to 10"),
    ):
        with pytest.raises(ConfigError, match=words):
            stage.planned(project, asked, now(), live=False)
    with pytest.raises(ConfigError, match="cannot be taken there"):
        stage.flowed(project, 1, -1e9, now())
    with pytest.raises(ConfigError, match="none of"):
        stage.flowed(project, 10, 5.0, now())
    journal = (folder / ".foredrift" / "transfers.jsonl").read_bytes()
    made = stage.planned(project, stage.Asked(1, 8453, "USDC", 90_000.0), now(), live=True)
    assert "transit_cap" in {v["check"] for v in made["verdicts"]}
    assert not made["planned"]
    assert (folder / ".foredrift" / "transfers.jsonl").read_bytes() == journal


TWO = "[[chains]]\nid = 1\n[[chains]]\nid = 10\n"
ROUTE = TWO + "[[bridges]]\nkind = 'cctp'\nfrom = 1\n"
WRONG = (
    (TWO + "[chain]\nid = 1\n", "exclude each other"),
    ("[[chains]]\nid = 1\n", "has one row"),
    (TWO + "[[chains]]\nid = 1\n", "1 is given twice"),
    (TWO + "histry_id = 1\n", "did you mean 'history_id'"),
    ("[[bridges]]\nkind = 'cctp'\nfrom = 1\nto = 10\n", "needs two or more"),
    ("[transfers]\nmax_open = 2\n", "needs two or more"),
    (ROUTE.replace("cctp", "ctp") + "to = 10\n", "did you mean 'cctp'"),
    (ROUTE + "to = 8453\n", "8453 is none of"),
    (ROUTE + "to = 1\n", "same chain 1"),
    (ROUTE + "to = 10\ntoken = 'USDT'\n", "none of"),
    (ROUTE + "to = 10\nspeed = 'fast'\n", "allow_unfinal"),
    (ROUTE + "to = 10\npaper = 'expires'\n", "never expires"),
    (TWO + "[transfers]\noverdue = { cctpp = '1h' }\n", "did you mean 'cctp'"),
    (TWO + "[transfers]\nmax_opn = 1\n", "did you mean 'max_open'"),
)


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_a_wrong_row_is_one_line_that_says_what_is_wanted(tmp_path, text, words):
    with pytest.raises(ConfigError) as told:
        loaded(tmp_path, "[portfolio]\nassets = ['USDC', 'ETH']\n" + text)
    assert words in str(told.value)


def test_the_chains_are_deployments_of_one_portfolio_with_files_of_their_own(tmp_path):
    one, two = deployments(loaded(tmp_path, settings_text()))
    assert (one.name, two.name, one.chain.id, two.chain.id) == ("fund", "fund-base", 1, 8453)
    assert two.portfolio.assets == one.portfolio.assets
    assert len({f for d in (one, two) for f in (d.journal, d.audit, d.path(d.vault.state))}) == 6
    assert one.fleet is two.fleet
    assert one.fleet.chains[0].min_cash_usd == 5_000


def test_one_chain_stays_as_it_was_and_has_no_transfers(tmp_path):
    project = deployments(loaded(tmp_path, "[chain]\nid = 10\n"))
    assert project[0].fleet is None
    with pytest.raises(ConfigError, match="two or more"):
        stage.listed(project)


def test_vaults_on_a_chain_need_its_node_and_their_address(tmp_path):
    vault = "[chains.vault]\nkind = 'reference'\naddress = '0x" + "1" * 40 + "'\n"
    project = deployments(loaded(tmp_path, f"[[chains]]\nid = 1\n{vault}[[chains]]\nid = 10\n"))
    with pytest.raises(ConfigError, match="rpc_urls"):
        stage.listed(project)
    assert "cannot be read" in stage.fleet_report(project)["mismatch"]
    bare = vault.replace("address", "keeper")
    project = deployments(loaded(tmp_path, f"[[chains]]\nid = 1\n{bare}[[chains]]\nid = 10\n"))
    with pytest.raises(ConfigError, match="has no address"):
        stage.listed(project)


def test_the_doctor_tries_every_route_both_ways_and_writes_nothing(walked, tmp_path):
    folder, _, _ = walked
    project = deployments(load(folder / "foredrift.toml"))
    files = {p: p.read_bytes() for p in (folder / ".foredrift").rglob("*.json*") if p.is_file()}
    found = list(route_findings(project))
    assert [f["check"] for f in found] == ["route 1 to 8453 (cctp)", "route 8453 to 1 (across)"]
    assert {f["level"] for f in found} <= {"ok", "warn"}
    assert {p: p.read_bytes() for p in files} == files
    text = (folder / "foredrift.toml").read_text()
    start, end = text.index('[[bridges]]\nkind = "across"'), text.index("[transfers]")
    (folder / "one-way.toml").write_text(text[:start] + text[end:])
    [row] = route_findings(deployments(load(folder / "one-way.toml")))
    assert "could not come home" in row["found"]
    assert list(route_findings(deployments(loaded(tmp_path, "[chain]\nid = 10\n")))) == []


def test_metrics_follow_a_transfer_and_forget_it_when_it_has_arrived(walked):
    from prometheus_client import CollectorRegistry, generate_latest

    _, seen, _ = walked
    registry = CollectorRegistry()
    gauges = FleetGauges(registry)
    moving = next(view for _, view in seen if view["in_transit"])
    gauges.update(moving)
    text = generate_latest(registry).decode()
    assert 'foredrift_in_transit_usd{bridge="simulated-mint",from="1",to="8453"}' in text
    assert 'foredrift_chain_usd{chain="8453",figure="floor"} 5000.0' in text
    assert "foredrift_ledger_mismatch 0.0" in text
    gauges.update(seen[-1][1])
    text = generate_latest(registry).decode()
    assert "foredrift_in_transit_usd{" not in text
    assert 'foredrift_transfers{state="settled"} 2.0' in text


def test_advice_names_late_transfers_low_cash_and_a_count_that_is_off():
    late = {"saga_id": "0x" + "a" * 64, "state": "stuck", "note": "2 deliveries failed"}
    low = {"chain": 10, "cash_usd": 3.0, "floor_usd": 50.0}
    said = stage.fleet_advice({"mismatch": "5 units", "waiting": ["there"], "transfers": [late], "chains": [low]})
    assert [w.split()[0] for w in said] == ["the", "not", "transfer", "cash"]
    assert stage.fleet_advice({"mismatch": "", "waiting": [], "transfers": [], "chains": []}) == []
