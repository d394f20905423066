"""A portfolio on two paper chains under a keeper: what triggers it, what stops it, who stands in where it is killed."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from lake.errors import ConfigError, ForedriftError
from lake.units import utc
from pipelines.deployments import deployments
from pipelines.scheduled import kept_child
from pipelines.scheduled.keep import replay as played
from pipelines.scheduled.keep_vaults import KeepChoice, keep_vaults
from pipelines.scheduled.keeper_watch import groups
from pipelines.sections import KeepSection
from pipelines.stages import rebalance as stage
from pipelines.stages.doctor import examine
from pipelines.stages.status import status
from pipelines.vault_settings import FleetSettings
from pipelines.vault_setup import kept, whole_cycle
from pipelines.vault_setup.decider import decider
from pipelines.vault_setup.kept_paper import PaperDesk, paper_desks
from pipelines.vault_setup.kept_sight import STALE_S, WholeSight
from pipelines.vault_setup.kept_whole import paper_whole
from pipelines.vault_setup.tape import replayed
from pipelines.vault_setup.transfer_fleet import Fleet, fleet_of
from pipelines.wiring import lake_of
from policy.execution.records import owner
from policy.execution.records.audit import Audit, verify
from policy.execution.records.journal import Journal
from policy.execution.vaults.simulated import adapter
from policy.keeping.keeper import Keeper
from policy.strategies.replay import replay
from tests.pipelines.market import moment, project
from tests.pipelines.test_whole_cycle import TWO, balances, fund

START = utc(moment(48))
UNTIL = START + timedelta(hours=3)
CHOICES: dict = {}
HTTP = KeepSection(http=("http://127.0.0.1:1",), serve=True)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """The folder whose lake all projects of this file read."""
    return project(tmp_path_factory.mktemp("market")).root


@pytest.fixture(autouse=True)
def _asked_once(monkeypatch):
    """Every project of this file asks the same about the same lake."""

    def once(deployment, lake, at):
        key = deployment.chain.id, at
        if key not in CHOICES:
            CHOICES[key] = decider(deployment, lake, at)
        return CHOICES[key]

    for module in (kept, whole_cycle):
        monkeypatch.setattr(module, "decider", once)


def heads(settings, blocks: int):
    one = deployments(settings)[0]
    return replayed(one, lake_of(one), START, blocks)[0]


def keeper_of(settings) -> tuple[Keeper, WholeSight]:
    """A keeper of the project's portfolio on paper, which leaves the lake as it is."""
    whole, market = paper_whole(fleet_of(deployments(settings)), UNTIL)
    return Keeper([whole.desk()], market, width=3, workers=1), whole.sight


def decisions(one) -> list[dict]:
    return [r.body for r in Audit(one.audit).records() if r.body["event"] == "decision"]


def vault(one):
    return adapter.load(one.path(one.vault.state))[0]


@pytest.fixture(scope="module")
def fund_kept(lake, tmp_path_factory):
    settings = fund(lake, tmp_path_factory.mktemp("fund"))
    every = deployments(settings)
    done = keep_vaults(every, settings.keep, KeepChoice(start=moment(48), blocks=60))
    folder = settings.root / ".foredrift" / "replay"
    apart = {
        d.name: replace(d, vault=d.vault.model_copy(update={
            "state": str(folder / d.name / "vault.json"), "journal": str(folder / d.name / "journal"),
            "audit": str(folder / d.name / "audit.jsonl"),
        })) for d in every
    }  # fmt: skip
    return SimpleNamespace(settings=settings, done=done, fund=apart["fund"], base=apart["fund-base"])


def test_the_whole_is_traded_where_it_costs_least_by_one_keeper_and_once_a_plan_nonce(fund_kept):
    assert fund_kept.done["vaults"] == ["fund"]
    assert fund_kept.done["blocks"] == 60
    assert {a["outcome"] for a in fund_kept.done["acts"]} == {"waited"}, (
        "the first vault is on its targets, and left alone"
    )
    assert vault(fund_kept.fund).world.clock.nonce == 0
    flights = Journal(fund_kept.base.journal).flights()
    assert [f.state for f in flights] == ["landed"] * len(flights)
    assert [f.plan.nonce for f in flights] == list(range(vault(fund_kept.base).world.clock.nonce))
    assert flights
    made = next(b for b in decisions(fund_kept.base) if b.get("plan"))
    assert made["portfolio"]["placement"]["trades"][0]["chain"] == 8453
    assert made["keeper"]["chain"] == 1
    assert any(b["portfolio"] == made["portfolio"] for b in decisions(fund_kept.fund)), (
        "both records have the same whole"
    )
    assert not any(d.path(d.vault.state).exists() for d in deployments(fund_kept.settings)), "a replay is apart"
    assert "no transfers" in fund_kept.done["notes"]


def test_every_record_of_it_gives_its_decision_again(fund_kept):
    for one in (fund_kept.fund, fund_kept.base):
        assert verify(one.audit).ok
        taken = [b for b in decisions(one) if "waits" not in b["portfolio"]]
        assert taken
        for body in taken:
            assert replay(body).differs == ()


def test_on_one_chain_it_does_what_a_kept_vault_does_to_the_last_unit(lake, tmp_path):
    text = TWO.replace('start = "targets"', "start = [0.6, 0.1, 0.3]").replace("history_id = 1\n", "", 1)
    found = []
    for name in ("alone", "whole"):
        (tmp_path / name).mkdir()
        settings = fund(lake, tmp_path / name, text)
        one = deployments(settings)[0]
        shared = one.fleet
        row = shared.chains[0].model_copy(update={"corridor": 0.0})
        shared = FleetSettings((row,), (), shared.transfers)
        if name == "alone":
            desks, market = paper_desks([replace(one, fleet=None)], UNTIL)
        else:
            desk, market = paper_whole(Fleet({1: replace(one, fleet=shared)}, shared), UNTIL)
            desks = [desk.desk()]
        run = played(Keeper(desks, market, width=3, workers=1), heads(settings, 40))
        acts = [(a.block, a.triggers, a.report.outcome, a.report.decision_id, a.report.why) for a in run.acts]
        plans = [f.plan for f in Journal(one.journal).flights()]
        found.append((acts, plans, vault(one).world.balances))
    assert found[0] == found[1]
    assert any(outcome == "traded" for _, _, outcome, _, _ in found[0][0])


def test_a_chain_that_cannot_be_decided_on_stops_what_prices_trigger_and_the_hour_says_why(lake, tmp_path, monkeypatch):
    settings = fund(lake, tmp_path)
    first, base = deployments(settings)
    stage.rebalance(settings, live=True, as_of=(START - timedelta(minutes=30)).isoformat())
    now, sight = keeper_of(settings)
    blocks = heads(settings, 2 + STALE_S // 12)
    now.on_block(blocks[0])
    now.on_block(blocks[1])
    assert now.desks[0].unknown == ""
    assert np.isfinite(now.glance.distance[0])
    chain, spec = adapter.load(base.path(base.vault.state))
    chain.set_world(replace(chain.world, paused=True))
    adapter.save(base.path(base.vault.state), chain, spec)
    before = balances(settings)
    late, read_s = blocks[-1], sight.read_s
    now.undo(0)
    now.on_block(replace(blocks[2], timestamp_s=read_s + STALE_S))
    assert now.desks[0].unknown == "", "what was known stands for half an hour"
    assert "chain 8453" in sight.why
    now.on_block(replace(late, timestamp_s=read_s + STALE_S + 60))
    assert "chain 8453" in now.desks[0].unknown
    assert np.isnan(now.glance.distance[0])
    [act] = now.on_block(replace(late, timestamp_s=late.timestamp_s + 3_600))
    assert "hour" in act.triggers
    assert "chain 8453" in act.report.why
    assert "chain 8453" in decisions(first)[-1]["portfolio"]["waits"]
    assert balances(settings) == before
    with owner.owning(first.journal) as file:
        now.desks[0].owner = file
        now._refresh(late)  # noqa: SLF001 - the file is written at each block
        said = next(line for line in status(settings)["advice"] if "hour alone" in line)
        assert "chain 8453" in said
        told = {d["name"]: d["keeper"] for d in status(settings)["deployments"]}
        assert told["fund-base"]["unknown"] == told["fund"]["unknown"] == now.desks[0].unknown
        assert next(r for r in examine(settings.file) if r["check"] == "keeper")["level"] == "warn"
    monkeypatch.setattr(WholeSight, "look", lambda *_: (_ for _ in ()).throw(ForedriftError("no node of chain 8453")))
    again, dead = keeper_of(settings)
    assert again.on_block(late)[0].report.why == "no node of chain 8453"
    assert dead.why == "no node of chain 8453"


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("heir", ["schedule", "keeper"])
def test_a_killed_keeper_is_stood_in_for_and_no_second_plan_flies(lake, tmp_path, monkeypatch, heir):
    settings = fund(lake, tmp_path)
    first, base = deployments(settings)
    given = PaperDesk.cycle

    @contextmanager
    def dying(desk, occasion):
        with given(desk, occasion) as ctx:

            def checkpoint(name: str) -> None:
                if desk.standing.deployment.chain.id == base.chain.id and name == "journal_signed":
                    raise Killed(name)

            yield replace(ctx, checkpoint=checkpoint)

    blocks = heads(settings, 60)
    with monkeypatch.context() as patched:
        patched.setattr(PaperDesk, "cycle", dying)
        now, _ = keeper_of(settings)
        with pytest.raises(Killed):
            played(now, blocks)
    assert not owner.ownership(first.journal, 12.0).held
    assert Journal(base.journal).in_flight() is not None
    again, sight = keeper_of(settings)
    assert sight.flying() == [base.chain.id]
    if heir == "schedule":
        found = stage.rebalance(settings, live=True, as_of=(START + timedelta(minutes=15)).isoformat())
        assert "is in flight" in found["portfolio"]["waits"]
        stage.rebalance(settings, live=True, as_of=(START + timedelta(minutes=75)).isoformat())
    else:
        [act] = again.on_block(blocks[-1])
        assert act.report.recovered
        assert "looked up first" in act.report.why
        played(again, heads(settings, 62)[-2:])
    assert sight.flying() == []
    flights = Journal(base.journal).flights()
    assert [f.plan.nonce for f in flights if f.state == "landed"] == list(range(vault(base).world.clock.nonce))
    assert vault(base).world.clock.nonce == 1, "one plan of the first nonce, and nothing more to trade after it"
    assert all(f.state in {"landed", "void"} for f in flights)


def test_it_is_kept_with_its_first_vault_by_a_process_of_its_own(lake, tmp_path, monkeypatch):
    settings = fund(lake, tmp_path)
    every = deployments(settings)
    [one] = groups(every, HTTP)
    assert list(one.journals) == ["fund"]
    with pytest.raises(ConfigError, match=r"keep the portfolio's first vault.*weights"):
        keep_vaults(every[1:], settings.keep, KeepChoice(start=moment(48), blocks=1), every)
    given = []
    monkeypatch.setenv("FOREDRIFT_CONFIG", str(settings.file))
    monkeypatch.setattr(kept_child, "keep_vaults", lambda *args: given.append(args))
    assert kept_child.main(["fund"]) == 0
    assert [d.name for d in given[0][0]] == ["fund"]
    assert [d.name for d in given[0][3]] == ["fund", "fund-base"]
    alone = fund(lake, tmp_path, TWO + '[transfers]\nweights = "chain"\n')
    assert [list(g.journals) for g in groups(deployments(alone), HTTP)] == [["fund", "fund-base"]]
