"""A token that is left alone is named where people look: the decision's words, the status and its advice."""

from __future__ import annotations

import json
from types import SimpleNamespace

import polars as pl

from pipelines.stages import status
from pipelines.stages.rebalance import as_shown
from policy.execution.base import Token
from policy.execution.checks.verdicts import refused
from policy.execution.context import StepReport
from policy.execution.probes import sick
from policy.execution.records.codec import verdicts_json

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
