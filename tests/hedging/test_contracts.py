"""Delta source and hedge account on a chain: their arithmetic against Python's, and every rule a keeper is held to."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from eth_abi.abi import encode

from lake.evm import Call, calldata, read
from pipelines.vault_setup.hedge_rule import HedgeTermsOf, book_of_lines, greeks_of_book
from policy.execution.base import Hop, Leg, Plan
from policy.execution.routing.calldata import swap
from policy.execution.submission.simulate_tx import reason_of
from policy.execution.vaults.hedge.adapter import HedgeAccount
from policy.execution.vaults.hedge.state import EXPIRED, GOOD, NO_PRICE, STALE, WAD
from policy.hedging import pricing
from policy.hedging.decision import HedgeMandate
from tests.hedging.chain_kit import BOOK, DAY_S, act, market, renew

pytestmark = pytest.mark.chain
POINTS = 300
SEQUENCE = 100
TERMS = HedgeTermsOf(HedgeMandate(gamma=10.0), 12.0)


@pytest.fixture(scope="module")
def net():
    with market() as found:
        yield found


@pytest.fixture
def fresh(net):
    saved = net.snapshot()
    net.mine()
    yield net
    net.faults.clear()
    net.revert(saved)


def random_options(seed=1):
    rng = np.random.default_rng(seed)
    S = rng.uniform(800, 4_000, POINTS)
    K = S * np.exp(rng.normal(0, 0.25, POINTS))
    seconds = rng.integers(DAY_S, 180 * DAY_S, POINTS)
    return S, K, rng.uniform(0.3, 1.5, POINTS), seconds, rng.random(POINTS) < 0.5


def test_fixed_point_options_agree_with_the_kernel(net):
    where = net.deployer.vyper("mock_wad_math")
    S, K, vol, seconds, call = random_options()
    exact = [[round(float(x) * 1e9) * 10**9 for x in column] for column in (S, K, vol)]
    taus = [int(t) * WAD // (365 * DAY_S) for t in seconds]
    kinds = "option(int256,int256,int256,int256,bool)"
    asks = [Call(where, kinds, "int256,int256", (*row, bool(c))) for *row, c in zip(*exact, taus, call, strict=True)]
    told = np.array(read(net.rpc, asks), dtype=np.float64) / WAD
    found = pricing.greeks(*(np.array(x) / WAD for x in (*exact[:2], taus, exact[2])), call)
    assert np.abs(told[:, 0] - found[:, pricing.PRICE]).max() / 1_000 < 1e-9
    assert np.abs(told[:, 1] - found[:, pricing.DELTA]).max() < 1e-9


def test_logarithm_and_exponential_are_exact_to_the_last_digits(net):
    where = net.deployer.vyper("mock_wad_math")
    xs = [1, 10**9, WAD // 3, WAD - 1, WAD, WAD + 1, 2 * WAD, 10 * WAD, 10**36]
    logs = [row[0] for row in read(net.rpc, [Call(where, "ln(int256)", "int256", (x,)) for x in xs])]
    assert logs == pytest.approx([math.log(x / 1e18) * 1e18 for x in xs], rel=1e-14, abs=300)
    ys = [-42 * WAD, -10 * WAD, -1, 0, 1, WAD // 7, WAD, 40 * WAD, 130 * WAD]
    powers = [row[0] for row in read(net.rpc, [Call(where, "exp(int256)", "int256", (y,)) for y in ys])]
    assert powers == pytest.approx([math.exp(y / 1e18) * 1e18 for y in ys], rel=1e-13, abs=2)
    tails = [
        row[0] for row in read(net.rpc, [Call(where, "cdf(int256)", "int256", (y,)) for y in (-38 * WAD, 0, 38 * WAD)])
    ]
    assert tails == pytest.approx([0, WAD // 2, WAD], abs=10**8)


def test_the_chains_delta_is_the_books_at_any_price(fresh):
    account = HedgeAccount(fresh.rpc, fresh.world.extras["hedge_account"])
    for price in (900.0, 1_195.0, 1_500.0, 1_870.0, 2_600.0):
        renew(fresh, price)
        s = account.state()
        assert s.source_verdict == GOOD
        at = datetime.fromtimestamp(s.head.time, UTC)
        greeks = greeks_of_book(book_of_lines(s, at), s.layout.asset.symbol, TERMS)
        assert s.book / WAD == pytest.approx(greeks.delta_units, abs=1e-6 * greeks.gross_units)


def source_of(net):
    return net.world.extras["delta_book"]


def exposure(net):
    return read(net.rpc, [Call(source_of(net), "exposure()", "int256,uint256,uint256")])[0]


def why(net, role, to, signature, *args):
    """Why a call fails in the next block, None where it would not."""
    data = calldata(signature, *args)
    return refusal(net, net.accounts[role].address, to, data)


def refusal(net, sender, to, data):
    call = {"from": sender, "to": to, "data": "0x" + data.hex(), "gas": hex(5_000_000)}
    head = net.node.head()
    ahead = {"number": hex(head.number + 1), "time": hex(head.time + 12)}
    body = {"blockStateCalls": [{"blockOverrides": ahead, "calls": [call]}], "validation": False}
    row = net.rpc.call("eth_simulateV1", [body, "latest"])[0]["calls"][0]
    if row["status"] == "0x1":
        return None
    return reason_of((row.get("error") or {}).get("data") or row.get("returnData"), "")


def test_posts_are_bounded_aged_and_the_keepers_alone(fresh):
    source, vols = source_of(fresh), [7 * WAD // 10, 7 * WAD // 10, 0, 0]
    post = "post_vols(uint256[])"
    assert why(fresh, "guardian", source, post, vols) is None
    assert why(fresh, "keeper", source, post, vols) == "keeper"
    assert why(fresh, "guardian", source, post, vols[:3]) == "lines"
    assert why(fresh, "guardian", source, post, [0, *vols[1:]]) == "vols"
    assert why(fresh, "guardian", source, post, [6 * WAD, *vols[1:]]) == "vols"
    assert why(fresh, "guardian", source, post, [8 * WAD // 10, *vols[1:]]) == "step"
    assert why(fresh, "guardian", source, post, [WAD * 73 // 100, *vols[1:]]) is None
    assert why(fresh, "guardian", source, "post(int256)", 0) == "lines"
    assert (
        why(fresh, "guardian", source, "set_lines((uint256,int256,uint256,uint256)[],uint256[])", [], []) == "timelock"
    )
    fresh.mine(1, seconds=BOOK.bounds.max_age_s + 60)
    assert exposure(fresh)[2] == STALE


def test_a_bad_price_and_an_expired_option_are_verdicts(fresh):
    act(fresh, "deployer", str(fresh.world.token("ETH").feed), "post(int256)", -1)
    assert exposure(fresh)[2] == NO_PRICE
    assert HedgeAccount(fresh.rpc, fresh.world.extras["hedge_account"]).state().price == 0
    renew(fresh, 1_500.0)
    assert exposure(fresh)[2] == GOOD
    fresh.mine(1, seconds=BOOK.expiry - fresh.node.head().time + 5)
    renew(fresh, 1_500.0)
    assert exposure(fresh)[2] == EXPIRED


def perp_leg(s, size, put_in=0, taken_out=0, limit=None, **over):
    limit = (0 if size < 0 else 2**200) if limit is None else limit
    data = encode(["int256", "uint256"], [size, limit])
    leg = Leg(s.layout.cash.address, s.layout.perp, put_in, taken_out, 0, (), s.layout.perp, data)
    return replace(leg, **over)


def spot_leg(net, s, amount, *, buys=True, min_out=0, **over):
    ref = net.world.pools["v3:ETH/USDC:500"]
    ends = (s.layout.cash.address, s.layout.asset.address) if buys else (s.layout.asset.address, s.layout.cash.address)
    hop = Hop("uniswap_v3", ref.address, *ends, 500)
    data = swap([hop], amount, min_out, net.world.extras["hedge_account"], 2**40)
    return replace(Leg(*ends, amount, min_out, 0, (hop,), ref.router, data), **over)


def tried(net, account, s, *legs, role="keeper", **over):
    """Why a plan of ``legs`` is refused, None where it would land."""
    plan = Plan("d", account.address, net.chain_id, s.nonce, s.head.time + 600, 0, tuple(legs), b"", 0, "")
    plan = account.seal(replace(plan, **over))
    return refusal(net, net.accounts[role].address, account.address, account.build(plan).data)


@pytest.fixture
def desk(fresh):
    account = HedgeAccount(fresh.rpc, fresh.world.extras["hedge_account"])
    return fresh, account, account.state()


def test_a_plan_that_reduces_the_net_delta_lands_and_every_other_is_refused(desk):
    net, account, s = desk
    assert s.net_units > 100
    fine = perp_leg(s, -50 * WAD, 20_000 * 10**6)
    assert tried(net, account, s, fine) is None
    cases = {
        "progress": [perp_leg(s, 10 * WAD, 20_000 * 10**6)],
        "crossing": [perp_leg(s, -int(s.net_units * WAD) - 20 * WAD, 120_000 * 10**6)],
        "margin": [perp_leg(s, -100 * WAD, 10_000 * 10**6)],
        "venue": [perp_leg(s, -10 * WAD, 300_000 * 10**6)],
        "pair": [replace(fine, token_in=s.layout.asset.address)],
        "data": [replace(fine, calldata=fine.calldata + b"\0")],
        "target": [spot_leg(net, s, 10**6, target=net.world.contracts["v2_router"])],
    }
    for word, legs in cases.items():
        assert tried(net, account, s, *legs) == word, word
    assert tried(net, account, s, fine, role="guardian") == "keeper"
    assert tried(net, account, s, fine, nonce=7) == "nonce"
    assert tried(net, account, s, fine, deadline=1) == "deadline"
    assert tried(net, account, s, fine, min_nav=s.standing.nav + 10**6) == "nav floor"
    assert tried(net, account, s, *[fine] * 4) is not None
    assert tried(net, account, s) == "legs"


def test_a_source_that_is_not_good_lets_the_hedge_only_shrink(desk):
    net, account, s = desk
    act(net, "keeper", account.address, *call_of(account, s, perp_leg(s, -140 * WAD, 100_000 * 10**6)))
    renew(net, 1_900.0)
    net.mine(1, seconds=BOOK.bounds.max_age_s + 60)
    net.advance_prices({"ETH": 1_900.0})
    s = account.state()
    assert s.source_verdict == STALE
    assert s.net_units < 0
    assert tried(net, account, s, perp_leg(s, 20 * WAD)) is None
    assert tried(net, account, s, perp_leg(s, -5 * WAD, 50_000 * 10**6)) == "progress"
    act(net, "guardian", source_of(net), "pause()")
    assert account.state().source_verdict == STALE


def call_of(account, s, *legs):
    plan = Plan("d", account.address, s.layout.chain_id, s.nonce, s.head.time + 600, 0, tuple(legs), b"", 0, "")
    plan = account.seal(plan)
    from policy.execution.vaults.reference.adapter import REBALANCE, encode_legs

    return REBALANCE, encode_legs(plan.legs), plan.plan_hash, plan.nonce, plan.deadline, plan.min_nav


def test_losses_stay_within_the_budget_and_refill(desk):
    net, account, s = desk
    act(net, "deployer", net.world.extras["perp_market"], "set_terms(int256,int256,int256,bool)", 0, 20, 25, False)
    lost, word = [], None
    for _ in range(12):  # each churns at 45 bp within the bound of a leg
        s = account.state()
        put_in = 0 if lost else 60_000 * 10**6
        legs = [perp_leg(s, -40 * WAD, put_in), perp_leg(s, 40 * WAD)]
        word = tried(net, account, s, *legs)
        if word:
            break
        act(net, "keeper", account.address, *call_of(account, s, *legs))
        lost.append(account.state().standing.nav - s.standing.nav)
    assert word == "loss budget"
    assert -sum(lost) <= 500_000 * 10**6 * BOOK.limits.budget_ppb // 10**9 + 10**6
    net.mine(1, seconds=DAY_S)
    renew(net, 1_500.0)
    s = account.state()
    assert tried(net, account, s, perp_leg(s, -40 * WAD)) is None


def test_the_owner_changes_and_takes_money_out_through_the_timelock_alone(desk):
    net, account, s = desk
    where = account.address
    cash = s.layout.cash.address
    for signature, *args in (
        ("withdraw(address,uint256,address)", cash, 1, where), ("withdraw_margin(uint256)", 1), ("resume()",),
        ("set_source(address,int256)", where, 0), ("set_call(address,bytes4,bool)", where, b"\1\2\3\4", True),
    ):  # fmt: skip
        for role in ("keeper", "owner", "guardian", "trader"):
            assert why(net, role, where, signature, *args) == "timelock", signature
    data = calldata("set_call(address,bytes4,bool)", cash, b"\1\2\3\4", True)
    act(net, "owner", where, "schedule(bytes)", data)
    net.mine(1, seconds=3_700)
    assert why(net, "owner", where, "execute(bytes)", data) is not None  # a token is never a target
    out = calldata("withdraw(address,uint256,address)", cash, 10**6, net.accounts["owner"].address)
    act(net, "owner", where, "schedule(bytes)", out)
    assert why(net, "owner", where, "execute(bytes)", out) == "early"
    net.mine(1, seconds=3_700)
    assert why(net, "owner", where, "execute(bytes)", out) is None


def test_no_sequence_of_a_stolen_keepers_plans_pushes_the_net_delta_outward(fresh):
    """Random legs, many at once, a hundred plans from one start; ``make hedge-fuzz`` runs 10,000."""
    rounds = int(os.environ.get("FOREDRIFT_HEDGE_FUZZ", "60"))
    rng, told, worst = np.random.default_rng(7), Counter(), 0.0
    for first in range(0, rounds, SEQUENCE):
        saved = fresh.snapshot()
        fresh.mine()
        worst = max(worst, stolen_sequence(fresh, rng, min(SEQUENCE, rounds - first), told))
        fresh.revert(saved)
    landed = told.pop(None)
    print(f"{rounds} plans, {landed} landed, worst loss to the plans of a sequence {100 * worst:.2f} % of NAV")
    print("refused by", dict(told.most_common()))
    assert landed > rounds // 50


def stolen_sequence(net, rng, plans, told):
    """Run random plans from here; count what became of each in ``told``, return what they lost of NAV together."""
    account = HedgeAccount(net.rpc, net.world.extras["hedge_account"])
    s, start, lost = account.state(), net.node.head().time, 0.0
    for i in range(plans):
        if i % 10 == 9:
            net.mine(1, seconds=1_200)
            renew(net, float(1_500 * np.exp(0.08 * rng.standard_normal())))
            s = account.state()
        legs = [stolen_leg(net, s, rng) for _ in range(int(rng.integers(1, 4)))]
        word = tried(net, account, s, *legs)
        told[word] += 1
        if word is not None:
            continue
        act(net, "keeper", account.address, *call_of(account, s, *legs))
        after = account.state()
        room = BOOK.limits.cross_bps / 1e4 * s.nav_usd / s.price_usd
        assert abs(after.net_units) <= abs(s.net_units) + 1e-3
        assert after.net_units * s.net_units > 0 or abs(after.net_units) <= room * 1.01
        lost += max(0.0, 1 - after.standing.nav / s.standing.nav)  # at one price: what the plan itself lost
        s = after
    refills = 1 + (net.node.head().time - start) / BOOK.limits.window_s
    assert lost <= refills * BOOK.limits.budget_ppb / 1e9 + 1e-6
    return lost


def stolen_leg(net, s, rng):
    """Return a random leg, half of them of the size and sign that would hedge: those get past the first rules."""
    drawn = rng.normal(0, 60) if rng.random() < 0.5 else -s.net_units * rng.uniform(0, 1.05)
    size = int(drawn * 1e9) * 10**9
    if rng.random() < 0.6:
        return perp_leg(s, size, int(rng.integers(0, 80_000)) * 10**6, int(rng.integers(0, 3)) * 10**8)
    dollars = int(rng.integers(1, 50_000)) * 10**6
    return spot_leg(net, s, dollars if size > 0 else min(abs(size), s.standing.spot) or 1, buys=size > 0)
