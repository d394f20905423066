"""Tables of the verbs that need a chain or a long run: every figure given is shown, absent ones are no crash.

The reports are made up in the form that the stages return; a table must show each of them at any width, never as
markup, and say in words what is to be done next.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from pipelines.reports import (
    chain_tables,
    deploy_tables,
    hedge_tables,
    holder_tables,
    key_tables,
    mandate_tables,
    network_tables,
    stretch_tables,
    terminal,
    transfer_tables,
    vault_tables,
)

A, B, C, TX = "0xaaaa", "0xbbbb", "0xcccc", "0x7777"
Shown = Callable[..., str]


@pytest.fixture(params=[60, 200])
def shown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Shown:
    """What a table prints, all white space as one blank, at a narrow and a wide terminal."""

    def run(what: Callable[..., Any], *given: Any, **named: Any) -> str:
        out = io.StringIO()
        monkeypatch.setattr(terminal, "console", Console(file=out, width=request.param))
        what(*given, **named)
        return re.sub(r"\s+", " ", out.getvalue())

    return run


def has(text: str, *words: str) -> None:
    """Assert every word, wherever a narrow table has folded it."""
    bare = re.sub(r"[\s│┃]+", "", text)
    missing = [w for w in words if w.replace(" ", "") not in bare]
    assert missing == [], text


CHAIN_ROW = {
    "chain": "ethereum", "deployment": "main", "assets_usd": {"USDC": 125.5, "ETH": 874.5}, "usd": 1_000.0,
    "share": 0.625, "floor_usd": 25.0, "block": 19_000_001, "gas_gwei": 12.5,
}  # fmt: skip
TRANSFER = {
    "saga_id": "0x" + "d" * 64, "from": "ethereum", "to": "base", "bridge": "cctp", "usd": 50.0, "reported_usd": 25.0,
    "state": "departed", "age_s": 61, "usual_s": 1_200, "asset": "USDC", "amount": "50000000", "note": "[late]",
}  # fmt: skip


def test_a_fleet_shows_every_chain_and_what_is_on_its_way(shown):
    text = shown(transfer_tables.fleet, {"chains": [CHAIN_ROW], "in_transit": [TRANSFER]})
    has(
        text, "ethereum", "main", "125.5", "874.5", "62.5", "19000001", "12.5", "25", "departed", "1200", "0xdddddddddd"
    )
    assert shown(transfer_tables.fleet, {"chains": [], "in_transit": []}) == ""


def test_an_asset_that_a_chain_does_not_hold_is_nothing_of_it(shown):
    other = CHAIN_ROW | {"chain": "base", "assets_usd": {"USDC": 9.0}}
    has(shown(transfer_tables.fleet, {"chains": [CHAIN_ROW, other], "in_transit": []}), "base", "9", "874.5")


def test_transfers_are_listed_with_their_notes_as_text_and_none_is_said(shown):
    has(shown(transfer_tables.transfers, [TRANSFER]), "50000000", "[late]", "cctp", "departed")
    assert "no transfer yet" in shown(transfer_tables.transfers, [])
    assert "call a person" in shown(transfer_tables.advice, ["call a person"])


@pytest.mark.parametrize(
    ("verdicts", "planned", "words"),
    [
        ([{"check": "cash", "reason": "below its floor"}], False, "below its floor"),
        ([], True, "planned and begun"),
        ([], False, "dry run: nothing was written; --live begins it"),
    ],
)
def test_a_plan_of_a_transfer_says_what_arrives_at_least_and_what_stops_it(shown, verdicts, planned, words):
    made = TRANSFER | {"least": "49990000", "fee": "10000", "verdicts": verdicts, "planned": planned}
    text = shown(transfer_tables.plan, made)
    has(text, "50000000 raw units of USDC", "at least 49990000 arrive", "fee 10000", words)
    assert shown(transfer_tables.plan, None) == ""


def test_a_vault_s_rules_say_which_the_chain_enforces(shown):
    rules = [{"words": "sells below the feed", "on_chain": True}, {"words": "turnover a day", "on_chain": False}]
    told = {"kind": "safe", "address": A, "rules": rules, "stolen_key": "a stolen key takes 12 bp a day"}
    has(shown(vault_tables.described, told), A, "sells below the feed", "on chain", "turnover a day", "not on chain",
        "a stolen key takes 12 bp a day")  # fmt: skip
    assert "on paper" in shown(vault_tables.described, told | {"address": None})


ROLE = {
    "keeper": A, "safe": B, "stolen_key": "10 % of a token a day",
    "permissions": [{"function": "exactInput", "target": C, "words": "to the Safe only"}],
    "allowances": [{"token": "USDC", "amount": "100000000", "period_s": 86_400}],
    "calls": [{"to": C, "words": "assign the role"}], "transaction": None, "file": None,
}  # fmt: skip


def test_a_role_shows_what_it_may_and_what_owners_still_sign(shown):
    has(
        shown(vault_tables.role, ROLE),
        A,
        B,
        C,
        "exactInput",
        "to the Safe only",
        "100000000",
        "86400 s",
        "assign the role",
    )
    has(shown(vault_tables.installed, ROLE), "1 calls are to be signed", "10 % of a token a day")
    done = ROLE | {"calls": [], "transaction": TX, "file": "batch.json"}
    has(
        shown(vault_tables.installed, done),
        "the role is installed as the settings ask for",
        TX,
        "batch.json: import it",
    )


def test_rates_show_their_year_only_where_it_is_known(shown):
    rows = [
        {"symbol": "wstETH", "rate": 1.18451236, "yield_a_year": 0.031, "ok": True, "words": ""},
        {"symbol": "rETH", "rate": 1.1, "yield_a_year": None, "ok": False, "words": "fell since the last look"},
    ]
    text = shown(vault_tables.rates, {"rates": rows})
    has(text, "1.18451236", "3.10 %", "ok", "1.10000000", "refused", "fell since the last look")


def test_requests_of_holders_are_in_units_of_the_asset_and_an_unknown_one_is_blank(shown):
    told = {
        "vault": A, "asset": "USDC", "decimals": 6, "nav": 1_250_000_000_000, "valued_at": None, "pushed": 0,
        "coming": 2_500_000, "leaving": 1, "verdicts": [{"check": "jump", "ok": False, "words": "2 % since yesterday"}],
        "calls": [{"to": B, "words": "push the valuation", "data": "0xabcd"}], "next": "push",
        "transaction": None, "file": "settle.json", "words": "nothing was sent",
    }  # fmt: skip
    text = shown(vault_tables.requests, told)
    has(
        text, "1,250,000.000000", "0.000000", "2.500000", "0.000001", "refused", "2 % since yesterday", "0xabcd", "push"
    )
    has(shown(vault_tables.settled, told), "settle.json: import it", "nothing was sent; next: push")


DEPLOY = {
    "vault": A, "chain_id": 10, "sender": A, "keeper": B, "guardian": C, "delay_s": 86_400, "gas": 5_200_000,
    "terms": {"hold_s": 3_600, "entry_bps": 5, "exit_bps": 7}, "cost_wei": 15 * 10**15, "balance_wei": 2 * 10**18,
    "steps": [{"words": "the oracle", "address": B, "done": True, "gas": 0},
              {"words": "the vault", "address": A, "done": False, "gas": 4_000_000}],
    "written": None, "verification": [],
}  # fmt: skip


def test_a_deployment_says_what_it_makes_and_costs_and_what_is_left(shown):
    text = shown(deploy_tables.plan, DEPLOY)
    has(text, "the oracle", "there", "the vault", "4,000,000 gas", "24 h", "1 h", "entry 5 bp and exit 7 bp",
        "5,200,000 gas", "0.015000", "2.000000", B, C)  # fmt: skip
    assert "1 steps are to be made; --live makes them" in shown(deploy_tables.done, DEPLOY)
    steps = [s | {"done": True} for s in DEPLOY["steps"]]
    done = DEPLOY | {"steps": steps, "written": "foredrift.toml", "verification": ["oracle.json"]}
    has(shown(deploy_tables.done, done), f"stands at {A}", "its address is in foredrift.toml", "explorer: oracle.json")


@pytest.mark.parametrize(
    ("row", "live", "words"),
    [
        ({"did": "announced", "state": "new"}, True, f"announced by {TX}; ready at noon"),
        ({"did": "made", "state": "ready"}, True, f"made by {TX}"),
        ({"did": "nothing", "state": "waiting"}, True, "announced already; ready at noon"),
        ({"did": "nothing", "state": "waiting"}, False, "announced already; ready at noon"),
        ({"did": "nothing", "state": "ready"}, False, "--live makes it"),
        ({"did": "nothing", "state": "open"}, False, "--live makes it"),
        ({"did": "nothing", "state": "new"}, False, "--live announces it"),
    ],
)
def test_an_owner_s_change_says_what_comes_next(shown, row, live, words):
    result = {"vault": A, "changes": [row | {"tx": TX, "ready_at": "noon", "words": "targets"}]}
    assert words in shown(deploy_tables.changed, result, live=live)
    has(shown(deploy_tables.changes, result), "targets", row["state"], "noon")


def test_nothing_to_change_is_said_and_what_must_be_sold_first(shown):
    assert "nothing to do: the vault is as wanted" in shown(deploy_tables.changed, {"changes": []}, live=True)
    left = {"changes": [], "left_usd": 1_234.5}
    assert "1,234.50 USD of it are to be sold first" in shown(deploy_tables.changed, left, live=True)
    assert shown(deploy_tables.changes, {"changes": [], "vault": A}) == ""


def test_a_vault_s_status_names_a_bad_price_a_pause_and_every_difference(shown):
    token = {
        "symbol": "USDC",
        "amount": "10.5",
        "price_usd": 1.0,
        "weight_bps": 5_050,
        "target_bps": 5_000,
        "good": True,
    }
    told = {
        "vault": A, "block": 12, "tokens": [token, token | {"symbol": "WETH", "good": False, "price_usd": 3_000.5}],
        "roles": [{"role": "keeper", "address": B, "gas_money_wei": 5 * 10**17}], "nav": "20.0", "plans": 3,
        "paused": "guardian", "delay_s": 7_200, "differs": ["turnover is 20 %, settings say 25 %"],
    }  # fmt: skip
    text = shown(deploy_tables.status, told)
    has(text, "50.50 %", "50.00 %", "3,000.50", "BAD", "ok", "0.500000", "PAUSED by guardian", "2 h",
        "differs: turnover is 20 %, settings say 25 %")  # fmt: skip
    text = shown(deploy_tables.status, told | {"paused": None, "differs": []})
    has(text, "open", "everything is as the settings say")
    assert "PAUSED" not in text


FIGURES = {
    "minutes_outside": None, "largest_window_use": None, "blocks": 3, "decisions": 24, "live": 20, "replayed_same": 23,
    "replayed_different": 1, "traded": 4, "refusals": 2, "versions": 1, "actions": 0, "faults": 1,
}  # fmt: skip
HEAD = {"name": "main", "from": "2024-01-01", "to": "2024-02-01", "figures": FIGURES, "audit": {"head": None}}


def test_a_mandate_s_report_says_what_was_not_measured_and_counts_its_faults(shown):
    findings = pl.DataFrame({"kind": ["missing"], "words": ["plan 3 is in no record [!]"]})
    text = shown(mandate_tables.reported, HEAD, findings)
    has(
        text,
        "not measured",
        "23 of 24",
        "24 (20)",
        "none",
        "1 findings, 1 of them faults",
        "plan 3 is in no record [!]",
    )
    known = HEAD | {
        "figures": FIGURES | {"minutes_outside": 12.345, "largest_window_use": 0.5},
        "audit": {"head": "ab"},
    }
    text = shown(mandate_tables.reported, known, findings.clear())
    has(text, "12.35 min", "50.0 %", "ab", "record, lake and chain agree, in every direction")


def test_a_rehearsal_counts_what_would_have_been_refused_most_first_with_the_last_reason(shown):
    verdicts = pl.DataFrame({
        "check": ["oracle_age", "turnover", "turnover", "cash"], "ok": [False, False, False, True],
        "reason": ["61 min", "30 %", "35 %", ""],
    })  # fmt: skip
    text = shown(mandate_tables.rehearsed, {"traded": 3, "waited": 21}, {"verdicts": verdicts})
    has(text, "traded", "3", "waited", "21", "oracle_age", "61 min", "turnover", "2", "35 %")
    assert "30 %" not in text
    assert text.index("turnover") < text.index("oracle_age")
    told = mandate_tables.rehearsed({}, {"verdicts": verdicts})
    assert told == {"turnover": 2, "oracle_age": 1}
    assert "nothing would have been refused" in shown(mandate_tables.rehearsed, {}, {"verdicts": verdicts.filter("ok")})


def test_an_anchor_that_is_not_the_record_s_is_told_apart(shown):
    anchors = [{"of": "2024-01-01", "head": "ab", "plan_hash": None, "true": True},
               {"of": "2024-01-02", "head": "cd", "plan_hash": TX, "true": False}]  # fmt: skip
    text = shown(mandate_tables.anchored, {"deployment": "main", "anchors": anchors, "due": "cd"})
    has(text, "no plan yet", "true", "NOT the record's", TX, "the next executed plan carries cd")


def test_keys_are_shown_by_address_and_a_missing_file_is_none_yet(shown):
    rows = [{"role": "keeper", "address": A, "file": "keeper.json", "made": True},
            {"role": "owner", "address": None, "file": "owner.json"}]  # fmt: skip
    has(shown(key_tables.keys, rows), A, "no file yet", "owner.json", "made: keeper. Keep a copy")
    assert "made:" not in shown(key_tables.keys, rows[1:])


def test_a_rotation_says_where_every_vault_stands_and_what_is_left_to_a_person(shown):
    change = {"words": "keeper", "state": "new", "ready_at": None, "did": "nothing", "tx": None}
    told = {"role": "keeper", "old": A, "new": None, "file": "keeper.json", "void": None, "do": ["fund the new key"],
            "vaults": [{"vault": B, "revoked": False, "changes": [change]}]}  # fmt: skip
    has(shown(key_tables.rotation, told), f"keeper: {A} -> a new key, keystore keeper.json", B, "new")
    has(shown(key_tables.rotated, told, live=False), "--live announces it", "fund the new key")
    made = change | {"did": "announced", "tx": TX, "ready_at": "noon", "state": "waiting"}
    done = told | {"new": C, "void": "keeper.json.void", "vaults": [{"vault": B, "revoked": True, "changes": [made]}]}
    has(shown(key_tables.rotated, done, live=True), f"the new keeper is {C}", f"announced by {TX}; ready at noon",
        f"{B}: {A} is the keeper no longer", "the old keystore is void: keeper.json.void")  # fmt: skip


def test_a_network_shows_its_rows_with_sources_and_says_not_confirmed_where_it_is_not(shown):
    told = {
        "name": "base", "chain_id": 8453, "router_venue": "uniswap_v3", "missing": ["a feed of AAVE"],
        "chain": {"block_time_s": 2.0, "native": "ETH", "denominator": 50}, "sources": {"docs": "the issuer's page"},
        "tokens": [{"symbol": "USDC", "asset": "USDC", "address": A, "decimals": 6, "issuer": "Circle",
                    "kind": "native", "sources": ["docs"]}],
        "feeds": [{"pair": "ETH / USD", "address": B, "heartbeat_s": None, "accepted_age": "2h", "deviation_bps": None,
                   "sources": ["feeds"], "heartbeat_sources": []}],
        "pools": [{"tokens": ["WETH", "USDC"], "fee_pips": 500, "address": C, "sources": ["subgraph"]}],
        "contracts": [{"name": "router", "address": A, "sources": ["docs"]}],
    }  # fmt: skip
    text = shown(network_tables.network, told)
    has(text, "chain 8453, a block every 2 s", "1/50", "Circle, native", "not confirmed", "0.05 %", "WETH / USDC",
        "a feed of AAVE", "the issuer's page", A, B, C)  # fmt: skip
    short = shown(network_tables.networks, [{"name": "base", "chain_id": 8453, "usable": []}])
    has(short, "8453", "none")


def test_holders_say_who_is_listed_and_whether_a_stranger_may_enter(shown):
    told = {
        "vault": A, "block": 7, "at": "noon", "permissioned": True, "strangers": False,
        "holders": [{"account": B, "shares": "12", "share_bp": 9_950, "listed": False}],
        "list": [{"account": C, "allowed": False, "at": "dawn", "by": A}],
    }  # fmt: skip
    text = shown(holder_tables.holders, told)
    has(text, "99.50 %", "not listed", "struck off", "only listed accounts may hold shares",
        "a deposit of a stranger is refused by the vault")  # fmt: skip
    text = shown(holder_tables.holders, told | {"permissioned": False, "strangers": None, "list": []})
    has(text, "anyone may hold shares")
    assert "stranger" not in text


@pytest.mark.parametrize("step", sorted(holder_tables.STEPS))
def test_every_step_of_an_owner_s_change_has_words(shown, step):
    told = {"vault": A, "words": "list C", "step": step, "owner": B, "delay_s": 60, "data": "0xab", "transaction": None,
            "ready_at": "noon", "permissioned": False}  # fmt: skip
    has(shown(holder_tables.change, told), holder_tables.STEPS[step], "list C", "60 s", "0xab")
    text = shown(holder_tables.changed, told)
    assert ("nothing is to be done" in text) == (step == "done")
    assert ("it can be made from noon on" in text) == (step != "done")
    assert "the list is not in force: anyone may hold shares" in text


RATIO = {"way": "mirrored", "b": "past_best", "scenario": "soft", "nav_usd": 1e6, "window": "w1", "ratio": 0.91,
         "ci_low": 0.85, "ci_high": 0.97}  # fmt: skip
EVIDENCE = {
    "windows": [{"start": "2024-01-01T00:00", "end": "2024-07-01T00:00"}], "portfolios": 8, "paths": 16, "starts": 4,
    "ratios": [RATIO, RATIO | {"way": "recorded", "b": "gas_band", "ratio": 1.02}],
    "ablation": [RATIO | {"family": "gas", "window": "pooled"},
                 RATIO | {"family": "drift", "window": "pooled", "ci_low": 1.01, "ci_high": 1.2}],
}  # fmt: skip


def test_evidence_says_no_worth_where_none_is_shown_and_harm_where_there_is(shown):
    text = shown(stretch_tables.evidence, EVIDENCE)
    has(text, "2024-01-01..2024-07-01", "8 baskets a cell", "16 paths", "0.91", "1.02")
    has(text, "gas: cheaper beyond chance on mirrored paths at soft $1,000,000")
    has(text, "drift: cheaper beyond chance on mirrored paths at no cell: no worth shown")
    has(text, "drift: dearer beyond chance at soft $1,000,000")
    assert "each family" not in shown(stretch_tables.evidence, EVIDENCE | {"ablation": []})


def test_chains_compared_show_parts_counts_and_an_undefined_ratio_as_such(shown):
    pairs = [{"against": "apart", "ratio": 0.8, "low": 0.7, "high": 0.9}, {"against": "one", "ratio": None}]
    policy = {"policy": "global", "total_bp": 30.0, "gas_bp": 5.0, "fee_bp": 10.0, "impact_bp": 5.0, "bridge_bp": 1.0,
              "tracking_bp": 9.0, "trades": 12.25, "transfers": 3.5, "forced_sales": 0.0}  # fmt: skip
    told = {
        "chains": [1, 10], "cells": [{"nav_usd": 1e6, "policies": [policy], "pairs": pairs}],
        "sensitivity": [{"cell": "dear bridge", "nav_usd": 1e6, "pairs": pairs}],
        "collapse": [{"cell": "soft", "over_today": 1.0, "low": 0.98, "high": 1.02, "elsewhere": [0.99]}],
    }  # fmt: skip
    text = shown(chain_tables.comparison, told)
    has(text, "global/apart 0.800 (0.700 to 0.900)", "global/one undefined", "12.2", "3.5", "dear bridge", "0.800",
        "global costs 1.0000 (0.980 to 1.020) of gas_band", "on the other half and panel 0.9900")  # fmt: skip
    assert "sensitivity" not in shown(chain_tables.comparison, told | {"sensitivity": [], "collapse": []}).lower()


def test_a_hedge_says_what_it_trades_and_why_it_did_not(shown):
    expected = {"price_usd": 3_000.0, "net_delta_units": -2.5, "hedge_units": 1.0, "change_units": 0.5, "gas_usd": 1.25,
                "x": 0.0125, "outer": 0.02}  # fmt: skip
    leg = {"amount_in": 10**18, "token_in": A, "target": B}
    told = {
        "policy": "hedge_gas_band", "block_number": 5, "expected": expected, "plan": {"legs": [leg]}, "planned": False,
        "outcome": "refused", "why": "the feed is old", "attempts": [{"kind": "plan", "tx_hash": TX}],
        "verdicts": [{"check": "oracle_age", "ok": False, "reason": "61 min"}], "remedies": {"oracle_age": "wait"},
    }  # fmt: skip
    text = shown(hedge_tables.hedge, told)
    has(text, "oracle age: wait")
    has(text, "3,000.00", "-2.5000", "1.25 %", "2.00 %", "leg 1: at most 1000000000000000000 raw", "refused", "61 min",
        "hedge refused: the feed is old", TX)  # fmt: skip
    has(shown(hedge_tables.hedge_plan, told | {"plan": None}), "0.5000")


def test_an_attribution_says_whether_enough_is_explained(shown):
    row = {"asset": "ETH", "from_days": 7.0, "to_days": 35.0, "intervals": 12, "price": 0.9999, "hedged": 0.99,
           "book_hedged": None, "book_median": 0.002}  # fmt: skip
    fit = {"inside_quotes": None, "parity_coin": None, "implied_error": 1e-9, "smiles": 0, "hidden_median": None,
           "hidden_p99": None, "hidden_inside": 0.875,
           "recorded": {"mark_coin": 2e-5, "delta": None}}  # fmt: skip
    told = {"explained": [row], "from": "a", "to": "b", "sums_usd": {"delta": -12.5}, "fit": fit, "least": 0.985,
            "ok": False}  # fmt: skip
    text = shown(hedge_tables.attribution, told)
    has(text, "7-35 d", "99.990 %", "99.00 %", "-12.5", "1.0e-09", "87.5 %", "2.0e-05", "98.5 % or more: no")
    assert "or more: yes" in shown(hedge_tables.attribution, told | {"ok": True})
    changes = {"portfolio": "p", "from": "a", "to": "b", "sums_usd": {"gas": -1.0}, "intervals": 3, "explained": 0.97,
               "least": 0.95, "ok": True}  # fmt: skip
    has(shown(hedge_tables.book_changes, changes), "3 intervals, 97.00 %", "95.0 %: yes")


def test_a_volatility_forecast_of_no_use_is_said_to_be_none(shown):
    skill = {"target": "realised", "ahead_d": 7, "baseline": "har", "skill": -0.012, "low": -0.05, "high": 0.02,
             "days": 365, "used": False}  # fmt: skip
    text = shown(hedge_tables.volatility, {"asset": "ETH", "skills": [skill], "notes": ["a gap of a day"]})
    has(text, "realised, 7 d", "-1.2 %", "-5.0 to 2.0 %", "365", "no", "a gap of a day")
