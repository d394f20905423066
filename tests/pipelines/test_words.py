"""One sentence for each decision: every check that the engine can give has its words, none falls through to a name."""

from __future__ import annotations

import ast
import importlib
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.sequencer import Uptime
from pipelines.reports import terminal
from pipelines.reports.check_words import CHECKS, in_words, said
from pipelines.reports.decision import as_markdown
from pipelines.reports.words import Told, ago, amount, sentence, without_paths

ROOT = Path(__file__).resolve().parents[2]
MAKERS = {"refused", "passed", "broken", "Verdict"}
SIX = datetime(2026, 3, 1, 6, tzinfo=UTC)


@cache
def checks() -> set[str]:
    """Return the name of every check that the code can put into a verdict."""
    found = {"price_jump"} | {f"sequencer_{u}" for u in Uptime}  # of a row's flag, and of a feed's state
    for file in [*(ROOT / "policy").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]:
        if "node_modules" in file.parts:
            continue
        text = file.read_text()
        breaks = "broken(name, words) for" in text
        for node in ast.walk(ast.parse(text)):
            if breaks and isinstance(node, ast.Tuple) and len(node.elts) == 3:
                found |= {e.value for e in node.elts[1:2] if isinstance(e, ast.Constant) and isinstance(e.value, str)}
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            given = node.args[2] if name == "_failed" and len(node.args) > 2 else node.args[0]
            if name not in MAKERS | {"_failed"}:
                continue
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                found.add(given.value)
            elif isinstance(given, ast.Name) and given.id in chosen(text):
                found |= chosen(text)[given.id]
            elif isinstance(given, ast.Name) and given.id.isupper():
                module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
                found.add(getattr(importlib.import_module(module), given.id))
    return found


@cache
def chosen(text: str) -> dict[str, set[str]]:
    """Return the texts that a name is given by ``name = "a" if ... else "b"``."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.IfExp) and isinstance(node.targets[0], ast.Name):
            parts = (node.value.body, node.value.orelse)
            if all(isinstance(p, ast.Constant) and isinstance(p.value, str) for p in parts):
                found.setdefault(node.targets[0].id, set()).update(p.value for p in parts)
    return found


@pytest.mark.parametrize("folder", ["transfers", "bridges", "lagoon"])
def test_the_search_sees_the_checks_of_other_chains_and_of_requests(folder):
    own = {
        "transfers": "recipient_not_ours", "bridges": "bridge_quote", "lagoon": "nav_pushed",
    }[folder]  # fmt: skip
    assert own in checks()
    assert any(own in f.read_text() for f in (ROOT / "policy").rglob(f"{folder}/*.py"))


def test_every_check_has_words():
    known = checks()
    assert len(known) > 75
    assert sorted(known - set(CHECKS)) == []


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_words_are_a_clause_without_a_raw_name(check):
    said = CHECKS[check]
    assert "_" not in said
    assert said[0].islower()
    assert not said.endswith(".")
    made = sentence(Told("refuse", "refused", "", [{"check": check, "ok": False, "reason": "17 against 9"}]))
    assert made == f"Not trading: {said} (17 against 9)"


def test_a_verdict_is_its_clause_with_its_figures_on_every_screen(capsys):
    fresh = {"check": "oracle_fresh", "ok": True, "reason": "ETH: 32 s old"}
    stale = {"check": "oracle_stale", "ok": False, "reason": "ETH: 4000 s old"}
    quoted = {"check": "quotes", "ok": True, "reason": CHECKS["quotes"]}
    words = ["the price feeds are fresh (ETH: 32 s old)", "a price feed is older than it may be (ETH: 4000 s old)",
             CHECKS["quotes"]]  # fmt: skip
    assert [said(v) for v in (fresh, stale, quoted)] == words
    shown = {"outcome": "refused", "summary": "", "weights": [], "verdicts": [fresh, stale, quoted]}
    page = as_markdown(shown)
    terminal.plan(
        {
            **shown,
            "action": "refuse",
            "why": "x",
            "decision_id": "ab",
            "legs": [],
            "expected": {},
            "rules_off_chain": [],
        }
    )
    screen = " ".join(capsys.readouterr().out.split())
    for mark, line in zip(("ok", "refused", "ok"), words, strict=True):
        assert f"- {mark}: {line}" in page
        assert f"{mark} {line}" in screen
    assert "oracle_" not in page + screen


def test_a_check_of_another_package_is_said_without_its_underscores():
    assert in_words("my_own_rule") == "my own rule"


BOOK = {
    "assets": ("USDC", "ETH", "BTC"), "target": (0.2, 0.4, 0.4), "caps": (0.05, 0.05, 0.05), "nav_usd": 1e6,
    "prices": {"USDC": 1.0, "ETH": 2_000.0},
}  # fmt: skip
OFF = {**BOOK, "before": (0.197, 0.453, 0.35)}
TABLE = [
    (
        Told("wait", "waited", "", gas_gwei=21.7, gas_low=(14.0, SIX), details={"distance": 0.8, "outer": 1.0},
             **{**BOOK, "before": (0.195, 0.416, 0.389)}),
        ("Waiting: ETH is 1.6 points above its target, 0.4 points from trading; "
         "gas is 21.7 gwei, 14 gwei is expected by 06:00 UTC"),
    ),
    (
        Told("wait", "waited", "", gas_gwei=3.0, details={"distance": 0.0, "outer": 0.5},
             **{**BOOK, "before": (0.2, 0.4, 0.4)}),
        "Waiting: the portfolio is on target; gas is 3 gwei",
    ),
    (
        Told("forced", "traded", "", **{**BOOK, "before": (0.19, 0.4502, 0.3598)}, wanted=(0.19, 0.4, 0.41)),
        "Traded 25.1 ETH for 50,200 USD of BTC: forced, ETH is at the edge of its band",
    ),
    (
        Told("forced", "traded", "", **OFF, wanted=(0.197, 0.403, 0.4)),
        "Traded 25.0 ETH for 50,000 USD of BTC: forced, ETH is 0.3 points outside its band",
    ),
    (
        Told("trade", "planned", "", **{**BOOK, "before": (0.3, 0.3, 0.4)}, wanted=(0.2, 0.4, 0.4)),
        "Would trade 100,000 USDC for 50.0 ETH: the trade saves more than it costs",
    ),
    (
        Told("split", "traded", "", **{**BOOK, "before": (1.0, 0.0, 0.0)}, wanted=(0.75, 0.15, 0.1), turnover=0.25),
        ("Traded 250,000 USDC for 75.0 ETH and 100,000 USD of BTC: a part now, the rest in the next hours; "
         "moved only 25% of the portfolio (the turnover limit), 3 more steps to target"),
    ),
    (Told("trade", "pending", "x"), "A trade is on its way; what became of it is looked up"),
    (Told("", "offered", "x"), "An order is out and may be filled by others; nothing else is traded meanwhile"),
    (Told("trade", "void", "too late"), "The trade came to nothing: too late"),
    (Told("trade", "reverted", "price"), "The trade failed on the chain and cost gas: price"),
    (Told("trade", "done", "x"), "Nothing to do: this hour's decision was carried out already"),
    (Told("abstain", "refused", "", [{"check": "data_missing", "ok": False, "reason": ""}]),
     "Not trading: there are no market data for this hour"),
    (Told("trade", "refused", "x", [{"check": "halted", "ok": False, "reason": "a"}, {"check": "rpc", "ok": False}]),
     "Not trading: trading is stopped by hand (a); and 1 more"),
]  # fmt: skip


@pytest.mark.parametrize(("told", "said"), TABLE, ids=lambda x: x.outcome if isinstance(x, Told) else "")
def test_a_decision_is_one_sentence(told, said):
    assert sentence(told) == said


actions = st.sampled_from(["trade", "split", "forced", "wait", "refuse", "abstain", "margin", ""])
outcomes = st.sampled_from(
    ["traded", "waited", "planned", "refused", "pending", "offered", "done", "reverted", "void", "proposed", "ready"]
)
numbers = st.lists(st.floats(0, 1), max_size=4)


@given(actions, outcomes, numbers, numbers, st.text(max_size=300), st.sampled_from(sorted(CHECKS)), st.booleans())
def test_whatever_was_decided_is_said_in_one_line(action, outcome, before, wanted, why, check, ok):
    n = min(len(before), len(wanted))
    told = Told(
        action, outcome, why, [{"check": check, "ok": ok, "reason": why}], ("A", "B", "C", "D")[:n], before[:n],
        wanted[:n], (0.25,) * n, (0.05,) * n, 1e6, {"A": 3.0}, {"distance": 0.3, "outer": float("inf")}, 12.5,
    )  # fmt: skip
    said = sentence(told)
    assert said
    assert "\n" not in said
    assert len(said) < 700
    assert said[0].isupper()


@given(st.floats(1e-4, 1e9), st.floats(1e-6, 1e6))
def test_an_amount_has_its_unit_and_three_digits(usd, price):
    said = amount("ETH", usd, {"ETH": price})
    number, unit = said.rsplit(" ", 1)
    assert unit == "ETH"
    assert float(number.replace(",", "")) == pytest.approx(usd / price, rel=0.01, abs=1e-8)


def test_times_are_relative():
    assert ago(SIX, SIX + timedelta(minutes=3)) == "3 min ago"
    assert ago(SIX, SIX + timedelta(seconds=20)) == "20 s ago"
    assert ago(SIX, SIX - timedelta(hours=2)) == "in 2 h"
    assert ago(SIX, SIX + timedelta(days=4)) == "4 d ago"


def test_files_are_named_and_not_located():
    said = without_paths(
        "/home/me/fund/.foredrift/vault.json holds none; disk failed at /srv/a b/x: see https://x.org/y"
    )
    assert said == "vault.json holds none; disk failed at a b/x: see https://x.org/y"
    assert without_paths("20 of 100 bp, 1/2, and/or") == "20 of 100 bp, 1/2, and/or"
