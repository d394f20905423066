"""Several vaults in one project: each with files of its own, served, shown and recorded beside the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from lake.errors import ConfigError
from pipelines import flows
from pipelines.deployments import deployment, deployments
from pipelines.scheduled import serve
from pipelines.settings import load
from pipelines.settlements.audited import verify_all
from pipelines.stages import rebalance as stage
from pipelines.stages.doctor import examine
from pipelines.stages.status import status
from pipelines.vault_setup import cycle
from pipelines.wiring import lake_of
from policy.execution.records.audit import Audit
from policy.memory import PolicyMemory
from tests.pipelines.market import END, moment, project

SECOND = """
[mandate]
min_trade_usd = 1
loss_budget_bps = 5
[[deployments]]
name = "growth"
rebalance = "8 * * * *"
[deployments.portfolio]
assets = ["ETH", "BTC"]
targets = [0.7, 0.3]
nav_usd = 50_000
[deployments.mandate]
max_turnover_bps = 900
"""
VAULTS = ("0x" + "1" * 40, "0x" + "2" * 40)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return project(tmp_path_factory.mktemp("two"), SECOND)


def loaded(tmp_path, text: str):
    file = tmp_path / "foredrift.toml"
    file.write_text(text)
    return load(file)


def onchain(**second: str) -> str:
    rows = {"address": VAULTS[1], "keeper": VAULTS[1]} | second
    own = "\n".join(f'{k} = "{v}"' for k, v in rows.items() if v)
    return f"""
[vault]
kind = "reference"
address = "{VAULTS[0]}"
keeper = "{VAULTS[0]}"
keystore = "keeper.json"
[[deployments]]
name = "growth"
[deployments.vault]
{own}
"""


def test_a_row_takes_over_what_it_leaves_out_but_no_file_key_or_weight(settings):
    one, two = deployments(settings)
    assert (one.name, two.name, two.portfolio.name) == ("main", "growth", "growth")
    assert two.mandate.max_turnover_bps == 900
    assert two.mandate.loss_budget_bps == one.mandate.loss_budget_bps == 5
    assert two.policy == one.policy
    assert two.portfolio.weights == {"ETH": 0.7, "BTC": 0.3}
    assert (one.cron, two.cron) == ("6 * * * *", "8 * * * *")
    files = [f for d in (one, two) for f in (d.journal, d.audit, d.path(d.vault.state))]
    assert len(set(files)) == 6


def test_another_chain_takes_over_no_node_pool_or_relay(tmp_path):
    text = f"""
[chain]
id = 1
rpc_urls = ["https://one.example"]
[vault]
relay_url = "https://relay.example"
[[sources.pools]]
address = "{VAULTS[0]}"
asset = "ETH"
[[deployments]]
name = "there"
[deployments.chain]
id = 10
[[deployments]]
name = "here"
"""
    _, there, here = deployments(loaded(tmp_path, text))
    assert (there.chain.id, there.chain.rpc_urls, there.sources.pools, there.vault.relay_url) == (10, (), (), None)
    assert len(here.chain.rpc_urls) == len(here.sources.pools) == 1
    assert here.vault.relay_url is not None


@pytest.mark.parametrize("name", ["main", "MAIN"])
def test_names_are_distinct(tmp_path, name):
    with pytest.raises(ConfigError, match="two deployments are called"):
        loaded(tmp_path, f'[[deployments]]\nname = "{name}"\n')


@pytest.mark.parametrize("name", ["../x", "a b", "", ".hidden", "foredrift"])
def test_a_name_that_is_no_folder_or_taken_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="deployment"):
        loaded(tmp_path, f'[[deployments]]\nname = "{name}"\n')


@pytest.mark.parametrize("key", ["journal", "audit", "state"])
@pytest.mark.parametrize("other", ["journal", "audit", "state"])
def test_no_file_is_shared_by_whatever_name(tmp_path, key, other):
    text = f"""
[vault]
{key} = "files/one"
[[deployments]]
name = "b"
[deployments.vault]
{other} = "files/../files/one"
"""
    with pytest.raises(ConfigError, match=r"main and b share the file .*files/one: give each"):
        loaded(tmp_path, text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"address": VAULTS[0]}, "share vault"),
        ({"keeper": VAULTS[0]}, "share keeper"),
        ({"keystore": "keeper.json"}, "share keystore"),
        ({"audit": ".foredrift/audit.jsonl"}, "share the file"),
    ],
)
def test_no_vault_or_key_is_shared_on_a_chain(tmp_path, change, said):
    assert len(deployments(loaded(tmp_path, onchain()))) == 2
    with pytest.raises(ConfigError, match=said):
        loaded(tmp_path, onchain(**change))


@pytest.mark.parametrize(
    "row", ["vault = 5", "chain = 5", "portfolio = []", '[deployments.portfolio]\nname = "other"', "cron = 1"]
)
def test_what_is_no_section_is_refused_in_words(tmp_path, row):
    with pytest.raises(ConfigError, match="deployments"):
        loaded(tmp_path, f'[[deployments]]\nname = "b"\n{row}\n')


def test_a_vault_on_a_chain_executes_on_schedule_only_where_its_own_row_says_so(tmp_path):
    assert not deployments(loaded(tmp_path, "[schedule]\nlive = true\n" + onchain()))[1].live


def test_an_unknown_deployment_is_named_with_those_there_are(settings):
    with pytest.raises(ConfigError, match=r"no deployment 'growht'; did you mean 'growth'\? \(there are: main, growth"):
        stage.rebalance(settings, name="growht")
    assert deployment(settings, "growth").name == "growth"


def test_two_paper_vaults_run_are_shown_and_are_recorded_apart(settings):
    done = [stage.rebalance(settings, live=True, as_of=moment(4), name=n) for n in (None, "growth")]
    assert all(r["outcome"] in {"waited", "traded"} for r in done)
    assert done[0]["decision_id"] != done[1]["decision_id"]
    assert [r["assets"] for r in done] == [["BTC", "ETH", "LINK"], ["ETH", "BTC"]]
    report = status(settings, END)
    shown = {r["name"]: r["decision_id"] for r in report["deployments"]}
    assert shown == {"main": done[0]["decision_id"], "growth": done[1]["decision_id"]}
    assert report["decision"]["decision_id"] == done[0]["decision_id"]
    assert set(lake_of(settings).scan("decisions").collect()["vault"]) == {"simulated", "growth: simulated"}
    both = verify_all(deployments(settings))
    assert both["ok"]
    assert both["records"] == sum(d["records"] for d in both["deployments"].values())
    for result in done:
        assert result["decision_id"] in stage.explain(settings, result["decision_id"])["text"]
    replayed = stage.audit_replay(deployments(settings), None)
    assert replayed["same"] == replayed["of"] == 2
    checks = [f["check"] for f in examine(settings.file)]
    assert {"vault", "growth: vault"} <= set(checks)


def test_both_are_served_side_by_side_each_on_its_own_schedule(settings, monkeypatch):
    made = serve.deployments(settings, ("ingest", "rebalance"))
    found = {(d.flow_name, d.name): d.schedules[0].schedule.cron for d in made}
    assert found["rebalance", "foredrift"] == "6 * * * *"
    assert found["rebalance", "growth"] == "8 * * * *"
    pages = []
    monkeypatch.setenv("FOREDRIFT_CONFIG", str(settings.file))
    monkeypatch.setenv("FOREDRIFT_REPLAY", f"{moment(2)},{datetime.now(UTC).isoformat()},1")
    monkeypatch.setattr(flows, "configure_logging", lambda form: None)
    monkeypatch.setattr(flows, "create_markdown_artifact", lambda text, key, description: pages.append(key))
    monkeypatch.setattr(flows, "get_run_logger", lambda: SimpleNamespace(info=print, warning=print, error=print))
    monkeypatch.setattr(flows, "flow_run", SimpleNamespace(scheduled_start_time=None, id=None))
    done = {}
    for name in ("foredrift", "growth"):
        monkeypatch.setattr(flows, "served", SimpleNamespace(name=name))
        done[name] = flows.rebalance.fn()
    assert pages == ["rebalance", "rebalance-growth"]
    assert {r["outcome"] for r in done.values()} <= {"waited", "traded"}
    newest = {r["name"]: r["decision_id"] for r in status(settings, END)["deployments"]}
    assert newest == {"main": done["foredrift"]["decision_id"], "growth": done["growth"]["decision_id"]}


def test_a_step_decides_on_the_memory_and_at_the_moment_it_is_asked_for(settings):
    plans = []
    for one in deployments(settings):
        done = one.step(END, on_plan=plans.append)
        [record] = [r.body for r in Audit(one.audit).records() if r.body.get("decision_id") == done["decision_id"]]
        assert PolicyMemory.from_json(record["memory"]) == one.memory(END)
        assert done["decision_id"] == plans[-1]["decision_id"] == one.step(END)["decision_id"]
    assert len({p["decision_id"] for p in plans}) == 2


@pytest.mark.parametrize("apart_h", [-24, 24])
def test_a_vault_on_a_chain_decides_at_its_present_only(tmp_path, monkeypatch, apart_h):
    one = deployment(loaded(tmp_path, onchain()))
    monkeypatch.setattr(cycle, "present", lambda _: END)
    assert cycle.moment_of(one, None) == END
    assert cycle.moment_of(one, END + timedelta(seconds=12)) == END + timedelta(seconds=12)
    with pytest.raises(ConfigError, match="only the simulated vault replays"):
        one.step(END + timedelta(hours=apart_h), live=True)


def test_no_option_of_the_lake_is_in_the_text_of_a_deployment(tmp_path):
    text = '[lake]\npath = "s3://bucket/lake"\n[lake.options]\nAWS_SECRET_ACCESS_KEY = "hush"\n'
    assert "hush" not in repr(deployments(loaded(tmp_path, text)))
