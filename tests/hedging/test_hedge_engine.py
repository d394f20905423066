"""Hedge decisions on a chain: into the band, one plan in flight whatever is killed or reorganised, refusals by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lake.evm import Call, read
from pipelines.vault_setup.hedge_rule import HedgeTermsOf
from policy.execution.hedge_engine import hedge_step
from policy.execution.records.audit import Audit, verify
from policy.execution.vaults.hedge.state import WAD, HedgeLimits
from policy.execution.vaults.hedge.venues import split
from policy.hedging.book_attribution import explained_share
from policy.hedging.decision import HedgeMandate
from policy.localnet.faults import Fault, FaultKind
from policy.localnet.hedging import HEARTBEAT_S
from tests.hedging.chain_kit import BOOK, act, hedge_context, market, renew
from tests.hedging.moving_blocks import STAGES, Killed, hedge_records, run

pytestmark = pytest.mark.chain


@pytest.fixture(scope="module")
def shared():
    with market() as found:
        yield found


@pytest.fixture
def net(shared):
    saved = shared.snapshot()
    shared.mine(4)
    yield shared
    shared.faults.clear()
    shared.revert(saved)


def checks(report):
    return [v.check for v in report.verdicts if not v.ok]


def test_a_decision_shorts_by_the_perpetual_and_buys_back_before_it_holds_spot(net, tmp_path):
    ctx = hedge_context(tmp_path, net)
    report = hedge_step(ctx)
    assert report.outcome == "traded", report.why
    s = ctx.vault.state()
    assert s.standing.size < 0
    assert s.standing.spot == 0
    x, inner = s.net_units * s.price_usd / s.nav_usd, report.expected["inner"]
    assert abs(x) == pytest.approx(inner, rel=0.02)
    assert report.settlement.nav_after - report.settlement.nav_before == s.standing.nav - BOOK.cash_usd * 10**6
    assert hedge_step(ctx).outcome == "waited"
    first = []
    for price in (1_650.0, 1_800.0, 1_950.0, 2_100.0, 2_300.0):
        renew(net, price)
        report = hedge_step(ctx)
        assert report.outcome in {"traded", "waited"}, report.why
        first += [report.legs[0].target] if report.legs else []
    assert first[0] == s.layout.perp
    s = ctx.vault.state()
    assert s.standing.size == 0
    assert s.standing.spot > 0
    renew(net, 1_500.0)
    report = hedge_step(ctx)
    assert report.outcome == "traded", report.why
    s = ctx.vault.state()
    assert s.standing.spot < WAD // 100
    assert s.standing.size < 0
    assert verify(tmp_path / "audit.jsonl").ok
    decisions = [r for r in Audit(tmp_path / "audit.jsonl").records() if r.body["event"] == "hedge"]
    assert len(decisions) == 8


def test_what_is_open_on_the_other_side_closes_first():
    assert split(5 * WAD, 0, -3 * WAD) == (2 * WAD, 3 * WAD)
    assert split(2 * WAD, 0, -3 * WAD) == (0, 2 * WAD)
    assert split(-5 * WAD, 3 * WAD, 0) == (-3 * WAD, -2 * WAD)
    assert split(-2 * WAD, 3 * WAD, -WAD) == (-2 * WAD, 0)
    assert split(4 * WAD, WAD, 0) == (4 * WAD, 0)


def test_a_dry_run_plans_and_sends_nothing(net, tmp_path):
    ctx = hedge_context(tmp_path, net, live=False, signer=None)
    nonce = ctx.node.account_nonce(ctx.sender)
    report = hedge_step(ctx)
    assert report.outcome == "planned"
    net.mine(3)
    assert ctx.node.account_nonce(ctx.sender) == nonce
    assert ctx.journal.last() is None


def test_a_hard_limit_is_kept(net, tmp_path):
    ctx = hedge_context(tmp_path, net, HedgeTermsOf(HedgeMandate(delta_limit=0.2), 12.0))
    report = hedge_step(ctx)
    assert report.outcome == "traded", report.why
    s = ctx.vault.state()
    assert abs(s.net_units * s.price_usd / s.nav_usd) < 0.2


@pytest.mark.parametrize("stage", ["simulate", "journal", "journal_signed", "send", "journal_mined"])
@pytest.mark.parametrize("depth", [0, 2])
def test_killed_and_reorganised_a_decision_is_executed_once(net, tmp_path, stage, depth):
    def stop(name):
        if name == stage:
            raise Killed(name)

    with pytest.raises(Killed):
        hedge_step(hedge_context(tmp_path, net, checkpoint=stop))
    if depth:
        net.reorg(depth)
    ctx = hedge_context(tmp_path, net)
    outcomes = [hedge_step(ctx).outcome for _ in range(3)]
    assert outcomes[-1] in {"waited", "done"}, outcomes
    records = hedge_records(net, ctx.vault_address)
    assert len(records) == 1
    s = ctx.vault.state()
    assert s.nonce == 1
    assert abs(s.net_units * s.price_usd / s.nav_usd) < 0.12
    assert stage in STAGES


def test_moving_blocks_stay_in_the_band_and_their_change_is_explained(net, tmp_path):
    found = run(net, tmp_path, 5, seed=2)
    assert (found.outside, found.doubles, found.refused) == (0, 0, [])
    assert found.trades >= 1
    assert explained_share(found.changes) >= 0.99
    json.dumps(found.json())


def perp_terms(net, *terms):
    act(net, "deployer", net.world.extras["perp_market"], "set_terms(int256,int256,int256,bool)", *terms)


def stale(net):
    net.mine(1, seconds=BOOK.bounds.max_age_s + 60)
    net.advance_prices({"ETH": 1_500.0})


def paused(net):
    act(net, "guardian", net.world.extras["hedge_account"], "pause()")


def bad_price(net):
    act(net, "deployer", str(net.world.token("ETH").feed), "post(int256)", -1)


def expired(net):
    net.mine(1, seconds=BOOK.expiry - net.node.head().time + 5)
    renew(net, 1_500.0)


def silent_feed(net):
    net.mine(1, seconds=HEARTBEAT_S + 60)


def poor(net):
    net.node.admin.call("anvil_setBalance", [net.accounts["keeper"].address, hex(10**12)])


REFUSED = {
    "stale volatility": (stale, "iv_stale"),
    "paused account": (paused, "account_paused"),
    "negative price": (bad_price, "oracle_not_positive"),
    "silent feed": (silent_feed, "oracle_stale"),
    "expired option": (expired, "line_expired"),
    "halted market": (lambda net: perp_terms(net, 0, 1, 5, True), "perp_halted"),
    "dear market": (lambda net: perp_terms(net, 0, 40, 40, False), "simulation"),
    "no gas money": (poor, "gas_money"),
    "dead node": (lambda net: net.faults.add(Fault(FaultKind.HTTP_502, times=None)), "rpc"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_refusal_is_named_and_sends_nothing(net, tmp_path, name):
    disturb, expected = REFUSED[name]
    ctx = hedge_context(tmp_path, net)
    nonce = ctx.node.account_nonce(ctx.sender)
    disturb(net)
    report = hedge_step(ctx)
    net.faults.clear()
    net.mine(2)
    assert report.outcome == "refused"
    assert expected in checks(report), report.why
    assert ctx.journal.last() is None
    assert ctx.node.account_nonce(ctx.sender) == nonce


def test_another_chain_and_a_book_that_disagrees_are_refused(net, tmp_path):
    assert "chain_id" in checks(hedge_step(hedge_context(tmp_path / "a", net, chain_id=1)))
    ctx = hedge_context(tmp_path / "b", net)
    honest = ctx.vault.state()
    doubled = tuple(replace(line, quantity=2 * line.quantity) for line in honest.lines)

    class Lying(type(ctx.vault)):
        def state(self, block="latest"):
            return replace(super().state(block), lines=doubled)

    lying = Lying(ctx.vault.rpc, ctx.vault.address)
    assert checks(hedge_step(replace(ctx, vault=lying))) == ["delta_disagrees"]


def test_funding_is_told_and_a_liquidation_stops_the_hedge(net, tmp_path):
    perp_terms(net, -5 * 10**14, 1, 5, False)
    ctx = hedge_context(tmp_path, net)
    assert hedge_step(ctx).outcome == "traded"
    report = hedge_step(ctx)
    assert "funding_paid" in [v.check for v in report.verdicts if v.ok]
    renew(net, 1_840.0)
    thin = [v.check for v in hedge_step(replace(ctx, live=False, signer=None)).verdicts]
    assert "perp_margin_thin" in thin
    renew(net, 2_100.0)
    named = [v.check for v in hedge_step(replace(ctx, live=False, signer=None)).verdicts]
    assert "perp_liquidatable" in named
    act(net, "trader", net.world.extras["perp_market"], "liquidate(address)", ctx.vault_address)
    assert "perp_liquidated" in checks(hedge_step(ctx))


def test_thin_margin_is_topped_up_without_a_trade(net, tmp_path):
    ctx = hedge_context(tmp_path, net, HedgeTermsOf(HedgeMandate(delta_limit=0.9), 12.0))
    report = hedge_step(hedge_context(tmp_path, net))
    assert report.outcome == "traded"
    renew(net, 1_700.0)
    before = ctx.vault.state()
    report = hedge_step(ctx)
    after = ctx.vault.state()
    assert (report.outcome, report.action) == ("traded", "margin"), report.why
    assert after.standing.size == before.standing.size
    assert after.standing.equity > before.standing.equity


def test_a_venue_that_may_hold_little_refuses_what_it_cannot_secure(tmp_path):
    book = replace(BOOK, limits=HedgeLimits(venue_bps=100))
    with market(book) as net:
        report = hedge_step(hedge_context(tmp_path, net))
        assert report.outcome == "refused"
        assert "perp_margin" in checks(report)


def test_a_posted_delta_is_bounded_and_compared_with_the_book(tmp_path):
    from policy.hedging.book import Book
    from policy.hedging.instruments import Spot

    with market(replace(BOOK, posted=True)) as net:
        source = net.world.extras["delta_book"]
        act(net, "guardian", source, "post(int256)", 9 * WAD)
        terms = HedgeTermsOf(HedgeMandate(gamma=30.0), 12.0, vol=0.6,
                             outside=lambda at: Book(at, {"ETH": 1_500.0}, (Spot("lent", "ETH", 9.0),)))  # fmt: skip
        ctx = hedge_context(tmp_path, net, terms)
        assert hedge_step(ctx).outcome == "traded"
        other = replace(terms, outside=lambda at: Book(at, {"ETH": 1_500.0}, (Spot("lent", "ETH", 8.0),)))
        net.mine()
        assert checks(hedge_step(hedge_context(tmp_path, net, other))) == ["delta_disagrees"]
        none = HedgeTermsOf(HedgeMandate(gamma=30.0), 12.0)
        net.mine()
        assert checks(hedge_step(hedge_context(tmp_path, net, none))) == ["book_unknown"]
        told = read(net.rpc, [Call(source, "exposure()", "int256")])[0][0]
        assert told == 9 * WAD


def test_no_key_is_in_any_record(net, tmp_path):
    ctx = hedge_context(tmp_path, net)
    hedge_step(ctx)
    key = (
        bytes(net.accounts["keeper"].key).hex()
        if not isinstance(net.accounts["keeper"].key, str)
        else net.accounts["keeper"].key.removeprefix("0x")
    )
    for path in (tmp_path / "journal.jsonl", tmp_path / "audit.jsonl"):
        assert key not in Path(path).read_text()
    assert key not in repr(ctx)
