"""Each named verdict of a hedge made to happen, on the chain or by a recorded book; each has words and a remedy."""

from __future__ import annotations

import ast
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.errors import DataError
from lake.store import Lake
from pipelines.reports.check_remedies import HEDGE_REMEDIES, NOTES, remedies
from pipelines.reports.check_words import CHECKS
from pipelines.stages.book_lake import fresh_book_of
from pipelines.vault_setup.hedge_lines import LINEAR, POOL, against, fallen
from pipelines.vault_setup.hedge_rule import HedgeTermsOf, book_of_lines
from policy.execution.checks.oracle_rules import UNREACHABLE
from policy.execution.checks.verdicts import passed, refused
from policy.execution.hedge_engine import hedge_step
from policy.execution.hedge_guards import ORACLE_CHECKS, guards
from policy.execution.vaults.hedge.state import EXPIRED, GOOD, NO_PRICE, SOURCE_WORDS, STALE, WAD, BookLine
from policy.execution.vaults.hedge.venues import PerpVenue, SpotVenue
from policy.hedging.book import Book
from policy.hedging.decision import HedgeMandate
from policy.hedging.instruments import Option, Pool, Spot
from tests.hedging import test_hedge_engine
from tests.hedging.chain_kit import BOOK, act, hedge_context, market, renew
from tests.hedging.plan_fuzz import BEGIN, USD
from tests.hedging.sim_account import ACCOUNT
from tests.hedging.test_plan_fuzz import desk

ROOT = Path(__file__).resolve().parents[2]
GAMMA = HedgeMandate(gamma=30.0)


@pytest.fixture(scope="module")
def shared():
    with market() as found:
        yield found


@pytest.fixture
def net(shared):
    saved = shared.snapshot()
    shared.mine(4)
    yield shared
    shared.revert(saved)


def dry(folder, net, terms=None):
    return hedge_step(hedge_context(folder, net, terms, live=False, signer=None))


def named(report, *, ok):
    return [v.check for v in report.verdicts if v.ok is ok]


@pytest.mark.chain
def test_a_pool_position_out_of_its_range_is_told_and_still_hedged(net, tmp_path):
    inside = dry(tmp_path, net)
    assert "lp_out_of_range" not in named(inside, ok=True)
    for price, side in ((1_190.0, "all underlying"), (1_880.0, "all cash")):
        renew(net, price)
        report = dry(tmp_path, net)
        assert report.outcome in {"planned", "waited"}, report.why
        [told] = [v for v in report.verdicts if v.check == "lp_out_of_range"]
        assert told.ok
        assert side in told.reason


def perp_terms(net, *terms):
    act(net, "deployer", net.world.extras["perp_market"], "set_terms(int256,int256,int256,bool)", *terms)


@pytest.mark.chain
def test_funding_that_changes_its_side_is_told_once(net, tmp_path):
    perp_terms(net, 5 * 10**14, 1, 5, False)
    assert hedge_step(hedge_context(tmp_path, net)).outcome == "traded"
    assert "funding_flipped" not in named(dry(tmp_path, net), ok=True)
    perp_terms(net, -5 * 10**14, 1, 5, False)
    report = dry(tmp_path, net)
    [told] = [v for v in report.verdicts if v.check == "funding_flipped"]
    assert "shorts pay 5.00 bp" in told.reason
    assert "the position pays" in told.reason
    assert "funding_flipped" not in named(dry(tmp_path, net), ok=True)


@pytest.mark.chain
def test_a_stale_delta_is_another_refusal_than_stale_volatilities(tmp_path):
    with market(replace(BOOK, posted=True)) as net:
        net.mine(1, seconds=BOOK.bounds.max_age_s + 60)
        net.advance_prices({"ETH": 1_500.0})
        terms = HedgeTermsOf(GAMMA, 12.0, vol=0.6, outside=lambda at: Book(at, {"ETH": 1_500.0}, ()))
        assert named(dry(tmp_path, net, terms), ok=False) == ["delta_stale"]


@pytest.mark.chain
def test_a_book_that_cannot_be_priced_is_refused_and_not_guessed(net, tmp_path):
    def unpriced(at):
        raise DataError("no price of ETH is known")

    report = dry(tmp_path, net, HedgeTermsOf(GAMMA, 12.0, outside=unpriced))
    assert named(report, ok=False) == ["book_unpriced"]
    assert report.plan is None


@pytest.fixture
def recorded(net):
    """The account's state, and its lines as a recorded book that bears them out."""
    s = _state(net)
    at = datetime.fromtimestamp(s.head.time, UTC)
    book = book_of_lines(s, at)
    units = sum(line.quantity for line in s.lines if line.kind == LINEAR) / WAD
    kept = [p for p in book.positions if isinstance(p, Option | Pool)]
    return s, replace(book, positions=(*kept, Spot("staked", "ETH", 50.0, units / 50.0, 0.03, units / 50.0)))


def _state(net):
    from policy.execution.vaults.hedge.adapter import HedgeAccount

    return HedgeAccount(net.rpc, net.world.extras["hedge_account"]).state()


def without(book, kind):
    return replace(book, positions=tuple(p for p in book.positions if not isinstance(p, kind)))


def changed(book, kind, **over):
    return replace(book, positions=tuple(replace(p, **over) if isinstance(p, kind) else p for p in book.positions))


SLASHED = {"rate": 1.0, "rate_peak": 1.2}
WRONG = {
    "burnt pool position": (lambda b: without(b, Pool), ["position_burnt"]),
    "liquidity taken out": (lambda b: changed(b, Pool, liquidity=1.0), ["position_burnt"]),
    "another range": (lambda b: changed(b, Pool, lower=900.0), ["position_burnt"]),
    "another expiry": (
        lambda b: changed(b, Option, expiry=b.positions[0].expiry + timedelta(days=7)),
        ["expiry_wrong", "expiry_wrong"],
    ),
    "options not held": (lambda b: without(b, Option), ["line_unheld", "line_unheld"]),
    "another strike": (lambda b: changed(b, Option, strike=1_400.0), ["line_unheld", "line_unheld"]),
    "a slashed rate": (lambda b: changed(b, Spot, **SLASHED), ["rate_fell"]),
}


@pytest.mark.chain
@pytest.mark.parametrize("name", WRONG)
def test_lines_that_the_recorded_book_does_not_bear_out_are_refused_by_name(recorded, name):
    s, book = recorded
    assert [v for v in against(s, book) if not v.ok] == []
    change, expected = WRONG[name]
    found = [v.check for v in against(s, change(book)) if not v.ok]
    assert found == expected


@pytest.mark.chain
def test_the_engine_sends_nothing_for_lines_that_are_not_held(net, recorded, tmp_path):
    _, book = recorded
    good = HedgeTermsOf(GAMMA, 12.0, outside=lambda at: book)
    assert dry(tmp_path, net, good).outcome == "planned"
    net.mine()
    gone = HedgeTermsOf(GAMMA, 12.0, outside=lambda at: without(book, Pool))
    ctx = hedge_context(tmp_path, net, gone)
    before = ctx.node.account_nonce(ctx.sender)
    report = hedge_step(ctx)
    assert named(report, ok=False) == ["position_burnt"]
    assert ctx.journal.last() is None
    assert ctx.node.account_nonce(ctx.sender) == before


@pytest.mark.chain
def test_a_rate_that_fell_before_its_line_was_set_is_a_note(recorded):
    s, book = recorded
    known = changed(book, Spot, rate_peak=2.0)  # the line has the rate of now
    assert [(v.check, v.ok) for v in against(s, known)] == [("rate_fell", True)]
    linear = replace(s, lines=tuple(line for line in s.lines if line.kind == POOL))
    assert [v.check for v in against(linear, known) if not v.ok] == ["rate_fell"]


def test_only_a_rate_below_its_peak_fell():
    at = datetime(2026, 3, 1, tzinfo=UTC)
    rows = (Spot("a", "ETH", 1.0, 1.2, 0.03, 1.2), Spot("b", "ETH", 1.0), Spot("c", "ETH", 1.0, 1.1, 0.0, 1.2))
    assert ["of c fell 8.33 %" in v.reason for v in fallen(Book(at, {"ETH": 1.0}, rows))] == [True]


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(("age_h", "fresh"), [(1, True), (11, True), (13, False), (90, False)])
def test_positions_nobody_records_any_more_are_no_book_to_hedge(tmp_path, age_h, fresh):
    lake = Lake(str(tmp_path / "lake"))
    times = [NOW - timedelta(hours=age_h + 6 * i) for i in range(3)]
    rows = [{"portfolio": "desk", "position_id": "cash", "ts": t, "kind": "stable", "quantity": 1.0, "available_at": t}
            for t in times]  # fmt: skip
    lake.write("positions", pl.DataFrame(rows))
    if fresh:
        assert len(fresh_book_of(lake, "desk", NOW).positions) == 1
        return
    with pytest.raises(DataError, match="over 2 intervals old: `foredrift ingest`"):
        fresh_book_of(lake, "desk", NOW)


def seen(s, **over):
    """The state with other values; those of ``standing``, ``terms`` and ``head`` by their own names."""
    own = {name: over.pop(name) for name in ("standing", "terms", "head") if name in over}
    return replace(s, **{name: replace(getattr(s, name), **values) for name, values in own.items()}, **over)


OPTION = (BookLine(1, -WAD, 1_500 * WAD, BEGIN + 600, WAD // 2),)
RANGE = (BookLine(2, WAD, 1_600 * WAD, 2_000 * WAD, 0),)
BAD_PRICE = {"price": 0, "source_verdict": GOOD}
REFUSED_BY_GUARDS = {
    "account_empty": {"standing": {"nav": 0}},
    "account_paused": {"paused": True},
    "oracle": {**BAD_PRICE, "price_code": UNREACHABLE},
    **{name: {**BAD_PRICE, "price_code": code} for code, name in ORACLE_CHECKS.items()},
    "iv_stale": {"lines": OPTION, "source_verdict": STALE},
    "delta_stale": {"lines": (), "source_verdict": STALE},
    "delta_unpriced": {"source_verdict": NO_PRICE},
    "line_expired": {"lines": OPTION, "source_verdict": EXPIRED, "head": {"time": BEGIN + 601}},
    "delta_source": {"source_verdict": 9},
    "block_old": {"head": {"time": BEGIN - 100_000}},
}
NOTED_BY_GUARDS = {"lp_out_of_range": {"lines": RANGE}}


@pytest.mark.parametrize("check", [*REFUSED_BY_GUARDS, *NOTED_BY_GUARDS])
def test_a_guard_fires_alone_on_what_it_is_named_for(tmp_path, check):
    ctx = desk(tmp_path).context()
    s = ctx.vault.state()
    assert guards(ctx, s) == []
    over = {**REFUSED_BY_GUARDS, **NOTED_BY_GUARDS}[check]
    assert [(v.check, v.ok) for v in guards(ctx, seen(s, **over))] == [(check, check in NOTED_BY_GUARDS)]


def test_a_delta_without_a_price_says_so_and_nothing_is_planned(tmp_path):
    at = desk(tmp_path)
    ctx = at.context(live=False)
    report = hedge_step(ctx)
    assert report.outcome == "planned"
    unpriced = ctx.vault.state
    ctx.vault.state = lambda block="latest": replace(unpriced(block), source_verdict=NO_PRICE)
    at.chain.mine()
    report = hedge_step(ctx)
    assert named(report, ok=False) == ["delta_unpriced"]
    assert SOURCE_WORDS[NO_PRICE] in report.why
    assert report.plan is None
    told = remedies(report.verdicts)
    assert told["delta_unpriced"] == HEDGE_REMEDIES["delta_unpriced"]


SHORT = {"standing": {"size": -WAD, "equity": 10 * USD}, "maintenance": 5 * USD}
BY_VENUE = {
    "perp_halted": ({"terms": {"halted": True}}, lambda s: [PerpVenue(s).build(-WAD, BEGIN, 30)]),
    "perp_margin": ({"standing": {"cash": 0}}, lambda s: [PerpVenue(s).build(-100 * WAD, BEGIN, 30)]),
    "hedge_route": ({}, lambda s: [SpotVenue(s, ACCOUNT, ()).build(WAD, BEGIN, 30)]),
    "perp_margin_thin": (SHORT, lambda s: PerpVenue(s).margin()),
    "perp_liquidatable": ({**SHORT, "maintenance": 11 * USD}, lambda s: PerpVenue(s).margin()),
    "funding_paid": ({**SHORT, "terms": {"funding": -(10**14)}}, lambda s: PerpVenue(s).margin()[1:]),
}


@pytest.mark.parametrize("check", BY_VENUE)
def test_a_venue_says_what_it_is_asked_in_vain(tmp_path, check):
    over, ask = BY_VENUE[check]
    [found] = ask(seen(desk(tmp_path).context().vault.state(), **over))
    assert (found.check, found.ok) == (check, check in NOTES)


def test_a_node_of_another_chain_and_a_plan_that_has_landed_are_seen(tmp_path):
    ctx = desk(tmp_path).context()
    s = ctx.vault.state()
    assert [v.check for v in guards(replace(ctx, chain_id=ctx.chain_id + 1), s)] == ["chain_id"]
    assert hedge_step(ctx).outcome == "traded"
    assert [v.check for v in guards(ctx, s) if not v.ok] == ["node_lagging"]


FIRED = {*REFUSED_BY_GUARDS, *NOTED_BY_GUARDS, *BY_VENUE, "chain_id", "node_lagging"}
ON_THE_CHAIN = {  # by the test that makes it happen
    "book_unpriced": test_a_book_that_cannot_be_priced_is_refused_and_not_guessed,
    "book_unknown": test_hedge_engine.test_a_posted_delta_is_bounded_and_compared_with_the_book,
    "delta_disagrees": test_hedge_engine.test_a_posted_delta_is_bounded_and_compared_with_the_book,
    "funding_flipped": test_funding_that_changes_its_side_is_told_once,
    "perp_liquidated": test_hedge_engine.test_funding_is_told_and_a_liquidation_stops_the_hedge,
    **{name: test_lines_that_the_recorded_book_does_not_bear_out_are_refused_by_name
       for _, [name, *_] in WRONG.values()},
}  # fmt: skip


def checks_made() -> set[str]:
    """Every name a verdict of a hedge is given in the code."""
    files = ("policy/execution/hedge_guards.py", "policy/execution/vaults/hedge/venues.py",
             "pipelines/vault_setup/hedge_lines.py", "pipelines/vault_setup/hedge_rule.py")  # fmt: skip
    made = {*ORACLE_CHECKS.values(), "oracle", "iv_stale", "delta_stale", "delta_unpriced", "line_expired"}
    made.add("delta_source")
    for file in files:
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"passed", "refused"}:
                made |= {a.value for a in node.args[:1] if isinstance(a, ast.Constant)}
    return made


def test_every_hedge_check_has_words_a_remedy_and_a_test_that_makes_it_happen():
    made = checks_made()
    shared = {"chain_id", "block_old", "node_lagging", "oracle_second", "oracle_deviates", "sequencer_down"}
    assert sorted(made - shared) == sorted(HEDGE_REMEDIES)
    assert sorted(made - set(CHECKS)) == []
    assert sorted(made - FIRED - set(ON_THE_CHAIN)) == []
    assert sorted((FIRED | set(ON_THE_CHAIN)) - made) == []


@pytest.mark.parametrize("check", sorted(HEDGE_REMEDIES))
def test_a_remedy_is_one_sentence_and_its_check_is_in_the_words_and_the_documents(check):
    said = HEDGE_REMEDIES[check]
    assert said[0].isupper()
    assert said.endswith(".")
    assert check in CHECKS
    assert f"`{check}`" in (ROOT / "docs/hedging.md").read_text()


def test_remedies_are_of_what_was_refused_or_is_worth_a_word():
    rows = [passed("perp_margin", "fine"), refused("iv_stale", "old"), passed("funding_flipped", "turned")]
    assert set(remedies(rows)) == {"iv_stale", "funding_flipped"}
    assert set(HEDGE_REMEDIES) >= NOTES
