"""A token that is left alone is named where people look: the decision's words, the status and its advice."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import polars as pl

from pipelines.reports.decision import as_shown
from pipelines.settings import load
from pipelines.stages import rebalance as stage
from pipelines.stages import status
from pipelines.vault_setup import cycle
from policy.execution.base import Token
from policy.execution.checks.verdicts import NAV_DENIED, passed, refused
from policy.execution.context import StepReport
from policy.execution.probes import sick
from policy.execution.probes.roundtrip import Proven
from policy.execution.records.codec import verdicts_json
from tests.pipelines import market

TOKENS = (Token("USDC", "0xa", 6), Token("LINK", "0xb", 18), Token("UNI", "0xc", 18))


def named():
    world = SimpleNamespace(tokens=TOKENS)
    return sick.named(world, {"0xb": refused("round_trip", "LINK: it can be bought and not sold", token="0xb")})


def test_the_decision_names_it():
    report = StepReport(outcome="traded", action="trade", why="drift", verdicts=named())
    shown = as_shown(report, "", SimpleNamespace(tokens=TOKENS, targets_bps=(4_000, 3_000, 3_000)))
    assert shown["summary"] == "trade; drift; left alone: LINK"
    (row,) = shown["untradable"]
    assert (row["token"], row["symbol"], row["cause"]) == ("0xb", "LINK", "round_trip")
    assert "not sold" in row["reason"]


def test_the_status_names_it_until_a_decision_without_it():
    sickly, well = json.dumps(verdicts_json(named())), json.dumps([])
    assert "LINK" in status._untradable(pl.DataFrame({"verdicts": [well, sickly]}))[0]
    assert status._untradable(pl.DataFrame({"verdicts": [sickly, well]})) == []


def test_people_are_notified_of_it_by_name(tmp_path, monkeypatch):
    """A whole cycle of the paper vault, in which the market of one asset has failed the engine's proof."""
    said = []
    monkeypatch.setattr(cycle.notify, "notify", lambda event, title, body: said.append((event, title, body)))
    real = cycle.step
    monkeypatch.setattr(cycle, "step", lambda ctx: real(replace(ctx, probe=doubted)))
    market.project(tmp_path)
    settings = load(tmp_path / "foredrift.toml")
    shown = stage.rebalance(settings, as_of=market.moment(0))
    (name,) = [u["symbol"] for u in shown["untradable"]]
    assert [(event, title) for event, title, _ in said if event == "untradable"] == [
        ("untradable", f"{name} left alone")
    ]
    assert "bought and not sold" in next(body for event, _, body in said if event == "untradable")


def test_people_are_told_of_a_nav_that_the_market_denies(monkeypatch):
    said = []
    monkeypatch.setattr(cycle.notify, "notify", lambda *words: said.append(words))
    denied = passed(NAV_DENIED, "ETH: 700 bp apart; closed deposits and exits", token="0xb")
    report = StepReport(outcome="traded", action="trade", why="drift", verdicts=[denied])
    shown = as_shown(report, "", SimpleNamespace(tokens=TOKENS, targets_bps=(4_000, 3_000, 3_000)))
    assert "the market denies NAV: ETH: 700 bp apart; closed deposits and exits" in shown["summary"]
    cycle.announce_decision(SimpleNamespace(), SimpleNamespace(abstained=False), shown)
    assert said == [("denied", "the market denies the vault's NAV", denied.reason)]


def doubted(snapshot, pools):
    token = snapshot.tokens[1]
    words = f"{token.symbol}: it can be bought and not sold"
    return Proven(sick={token.address: refused("round_trip", words, token=token.address)}, unproven={})
