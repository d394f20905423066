"""The ledger of several chains: nothing is made or lost, one chain is today's ledger, nothing looks ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lake.errors import ConfigError, NotEnoughData
from policy.base import Vector
from policy.comparison.chains import ChainsConfig, Panel, cell, changes, collapse, compare_chains, halves, panel
from policy.simulation import chain_books as books
from policy.simulation.chain_kernel import alone, fill, restore, run, whole, withdraw
from policy.simulation.chain_world import CHAIN_POLICIES, ChainTerms, at_floor, foreseen, under
from policy.simulation.history import History, load

from tests.policy.conftest import START, fill as fill_lake, frames  # isort: skip

HOURS = 24 * 40 + 24 * 130
NAMES = ("AAA", "BBB", "CCC", "DDD", "ETH", "USDC")


@pytest.fixture(scope="module")
def history(tmp_path_factory) -> History:
    from datetime import timedelta

    lake = fill_lake(tmp_path_factory.mktemp("chains"), frames(hours=HOURS))
    return load(lake, START, START + timedelta(hours=HOURS - 24 * 40 - 2), NAMES)


@pytest.fixture(scope="module")
def config() -> ChainsConfig:
    return ChainsConfig(portfolios=3, navs=(1e5,), threads=1, sensitivity=False)


@pytest.fixture(scope="module")
def judged(history, config) -> Panel:
    return Panel.of(history, config, 1e5, 5, config.terms)


def some(case, name: str = "global"):
    return under(case, CHAIN_POLICIES[name], 1.0, at_floor(case, 0.025))


def start(case, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(seed)
    H = r.uniform(0.0, 1.0, (case.world.base.shape[1], case.rules.target.size))
    return H / H.sum() * case.rules.nav * 0.95, np.zeros((case.rules.delay + 1, H.shape[0]))


@pytest.mark.parametrize("seed", range(12))
def test_no_step_makes_or_loses_a_dollar(judged, seed):
    case = some(judged.cases[0])
    w, rules = case.world, case.rules
    H, due = start(case, seed)
    row, n, t = np.zeros(8), np.zeros(6), case.first + 50 + seed
    books.scale(H, due, rules.nav)
    for step in (
        lambda: fill(H, due, w, rules, t, row, n),
        lambda: whole(H, due, w, rules, t, row, n),
        lambda: alone(H, w, rules, t, row, n),
        lambda: restore(H, due, w, rules, t, row, n),
        lambda: books.ready(H, due, rules, t + 1),
        lambda: books.ready(H, due, rules, t + 2),
    ):
        step()
        assert H.sum() + due.sum() == pytest.approx(rules.nav, rel=1e-12)
        assert H.min() >= -1e-6 * rules.nav
    before = H.sum()
    need = 0.2 * H[seed % 3].sum()
    withdraw(H, w, rules, t, seed % 3, need, row, n)
    assert before - H.sum() == pytest.approx(need, abs=books.DUST + 1e-6)
    assert row.min() >= 0.0


def test_a_transfer_arrives_after_its_hours(judged):
    case = judged.cases[0]
    for delay in (0, 1, 24):
        rules = case.rules._replace(delay=delay)
        H, due = np.full((3, 4), 1_000.0), np.zeros((delay + 1, 3))
        books.send(H, due, case.world, rules, 100, 0, 2, 400.0, np.zeros(8), np.zeros(6))
        seen = []
        for t in range(100, 130):
            if t > 100:
                books.ready(H, due, rules, t)
            seen.append(H[2, rules.cash] == 1_400.0)
        assert seen.index(True) == delay
        assert due.sum() == 0.0


@pytest.mark.parametrize("nav", [3e4, 1e6])
def test_one_chain_without_flows_is_todays_ledger(history, config, nav):
    rows = collapse(history, config, nav)
    assert rows[0]["over_today"] == pytest.approx(1.0, abs=1e-9)
    assert rows[1]["over_today"] < 1.10
    assert rows[0]["low"] == pytest.approx(1.0, abs=1e-9)
    assert rows[0]["high"] == pytest.approx(1.0, abs=1e-9)
    assert rows[0]["elsewhere"] == []
    assert rows[1]["low"] <= rows[1]["over_today"] <= rows[1]["high"]
    assert len(rows[1]["elsewhere"]) == 3, "the other half, and both halves of the other panel"
    if nav < 1e5:
        teach = collapse(history, replace(config, seed=config.seed - 1), nav)
        assert teach[1]["over_today"] == pytest.approx(rows[1]["elsewhere"][1], rel=1e-9), (
            "the panel of the seed before"
        )


def test_withdrawals_are_those_of_the_flows(judged):
    lo, hi = judged.cases[0].first, judged.cases[0].first + 1_000
    for name in CHAIN_POLICIES:
        out = judged.run(CHAIN_POLICIES[name], 1.0, None, (lo, hi))
        asked = np.mean([(c.world.flow[lo:hi] < 0.0).sum() for c in judged.cases])
        assert out.tallies[books.OUTFLOWS] == asked


def test_who_does_what(judged):
    span = (judged.cases[0].first, judged.cases[0].last)
    found = {n: judged.run(p, 1.0, None, span) for n, p in CHAIN_POLICIES.items()}
    for name in ("alone", "netted"):
        assert found[name].tallies[books.TRANSFERS] == found[name].tallies[books.FAST]  # emergencies alone
    assert found["naive"].tallies[books.TRANSFERS] > found["naive"].tallies[books.FAST]
    assert found["global"].tallies[books.FORCED] <= found["netted"].tallies[books.FORCED]
    for o in found.values():
        assert o.books.min() >= 0.0
        assert o.weekly.sum() == pytest.approx(o.books[:, :, [0, 1, 2, 3, 6, 7]].sum())


def test_the_same_seed_gives_the_same_figures(history, config, judged):
    again = Panel.of(history, config, 1e5, 5, config.terms)
    span = (judged.cases[0].first, judged.cases[0].last)
    a, b = (p.run(CHAIN_POLICIES["global"], 1.0, None, span).books for p in (judged, again))
    assert a.tobytes() == b.tobytes()
    other = Panel.of(history, config, 1e5, 6, config.terms).run(CHAIN_POLICIES["global"], 1.0, None, span).books
    assert a.tobytes() != other.tobytes()


def test_no_level_looks_ahead(judged):
    case = judged.cases[0]
    at = (case.first + case.last) // 2
    flow = case.world.flow.copy()
    flow[at:] = -np.abs(flow[at:]) * 5.0
    seen, other = foreseen(case, case.first), foreseen(replace(case, world=case.world._replace(flow=flow)), case.first)
    assert np.array_equal(seen.low[:at], other.low[:at])
    assert np.array_equal(seen.goal[:at], other.goal[:at])
    assert not np.array_equal(seen.low[at:], other.low[at:])


def test_nothing_looks_ahead(judged):
    case = some(judged.cases[0])
    at = (case.first + case.last) // 2
    later = case.world._replace(
        base=np.where(np.arange(len(case.world.base))[:, None] >= at, 9.0, 1.0) * case.world.base,
        returns=np.where(np.arange(len(case.world.returns))[:, None] >= at, 3.0, 1.0) * case.world.returns,
    )

    def spent(w: books.ChainWorld) -> Vector:
        out = np.zeros((int(w.week[-1]) + 1, 8))
        run(w, case.rules, case.first, at, out, np.zeros(6))
        return out

    assert spent(case.world).tobytes() == spent(later).tobytes()


def test_levels_fit_in_the_cash_of_the_target(judged):
    for case in judged.cases:
        w = foreseen(case, case.first)
        share = case.rules.target[case.rules.cash]
        assert (w.low >= 0.0).all()
        assert (w.goal >= w.low).all()
        assert (w.low[case.first :].sum(axis=1) <= share + 1e-9).all()
        assert (w.early >= w.low).all()


def test_without_flows_nothing_is_sent(history, config):
    still = Panel.of(history, config, 1e5, 5, replace(config.terms, flow_size=0.0))
    out = still.run(CHAIN_POLICIES["global"], 1.0, None, halves(history)[1])
    assert out.tallies[books.FORCED] == out.tallies[books.OUTFLOWS] == out.tallies[books.FAST] == 0.0


def test_a_cell_and_its_pairs(history, config):
    figures, found = cell(history, config, 1e5, "base")
    rows = {r["policy"]: r for r in figures["policies"]}
    assert list(rows) == list(CHAIN_POLICIES) == list(found)
    for r in rows.values():
        parts = sum(r[k] for k in ("gas_bp", "fee_bp", "impact_bp", "bridge_bp", "tracking_bp"))
        assert r["total_bp"] == pytest.approx(parts)
        assert r["saved_vs_alone_bp"] == pytest.approx(rows["alone"]["total_bp"] - r["total_bp"])
    for p in figures["pairs"]:
        assert p["ratio"] == pytest.approx(rows["global"]["total_bp"] / rows[p["against"]]["total_bp"])
        assert p["low"] <= p["ratio"] <= p["high"]
    assert rows["global_fixed"]["floor"] in {0.01, 0.025}


def test_the_whole_comparison(history, config):
    done = []
    asked = replace(config, navs=(1e6,), portfolios=1, sensitivity=True)
    found = compare_chains(history, asked, lambda *a: done.append(a))
    wanted = [label for label, nav, _ in changes(config.terms) if nav == 1e6]
    assert [c["cell"] for c in found["sensitivity"]] == wanted
    assert found["chains"] == [1, 42161, 8453]
    assert done[-1][1] == done[-1][2]
    shift = {c["cell"]: {p["policy"]: p for p in c["policies"]} for c in found["sensitivity"]}
    assert shift["no flows"]["global"]["withdrawals"] == 0.0
    base = {p["policy"]: p for p in found["cells"][0]["policies"]}
    assert shift["flows x2"]["alone"]["withdrawals"] == base["alone"]["withdrawals"]
    assert shift["blob data 1/20"]["netted"]["gas_bp"] < base["netted"]["gas_bp"]


def test_what_cannot_be_compared_is_refused(history, config):
    with pytest.raises(ConfigError, match="cash asset 'DAI' is none of"):
        compare_chains(history, replace(config, cash="DAI"))
    with pytest.raises(NotEnoughData, match="ask for 1 portfolio"):
        panel(history, replace(config, portfolios=0), 1e5, 1)
    with pytest.raises(NotEnoughData, match="2688 are needed"):
        halves(replace(history, first=len(history.ts) - 1_000))
    with pytest.raises(ConfigError, match="each once"):
        ChainTerms(chains=(1, 1))
    with pytest.raises(ConfigError, match="more than 0"):
        ChainTerms(depth_share=0.0)
    with pytest.raises(ConfigError, match="times the band"):
        under(Panel.of(history, config, 1e5, 5, config.terms).cases[0], CHAIN_POLICIES["alone"], 0.0)
