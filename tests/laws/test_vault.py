"""Laws of the Vault protocol. A vault joins by adding a lab to ``LABS``: one entry, no further test.

A lab is a context manager that yields a :class:`Lab`: the vault with some value in it, off its targets, and the
few things a test does around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lake.rpc import Rpc
from policy.execution.base import AttemptFate, Plan, Receipt, UnsignedTx, Vault
from policy.execution.planner import Costs, PlanRules, PriceRisk, draft, seal_ready
from policy.execution.state_builder import weights
from policy.execution.submission.signer import TxRequest
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.execution.vaults.safe.adapter import SafeAccount
from policy.execution.vaults.simulated.adapter import SimulatedVault
from tests.chain_fixtures import CLOCK, fresh
from tests.execution import simlab

if TYPE_CHECKING:
    from policy.localnet.market import Localnet

MARKETS = ExitStack()


@dataclass
class Lab:
    """``plan()``: a fresh sealed plan towards the targets; ``land``: mine a transaction from the keeper (a
    failed one gives status 0); ``wait``: let seconds pass and a block be made, prices staying fresh.
    """

    vault: Vault
    keeper: str
    stranger: str
    plan: Callable[[], Plan]
    land: Callable[[UnsignedTx], Receipt]
    wait: Callable[[int], None]
    relayable: bool = False  # signed by its owners, a plan may be brought by anyone, unchanged


@contextmanager
def simulated() -> Iterator[Lab]:
    chain = simlab.chain()
    vault = SimulatedVault(simlab.spec(), chain)

    def plan() -> Plan:
        snapshot = vault.snapshot()
        rules = PlanRules(deadline_s=300)
        now = np.array([float(h) for h in snapshot.targets_bps]) / 10_000
        half = (weights(snapshot) + now) / 2
        costs, outlook = Costs(10**9, 2_000.0), PriceRisk(simlab.COVARIANCE)
        made = draft(simlab.VAULT, snapshot, half, vault.pools(snapshot), outlook, costs, rules)
        return vault.seal(seal_ready("law", simlab.VAULT, snapshot, made.legs, rules))

    def land(tx: UnsignedTx) -> Receipt:
        nonce = chain.account_nonce(simlab.KEEPER)
        request = TxRequest(tx.chain_id, tx.to, tx.data, tx.value, nonce, 2_000_000, 10**10, 10**8)
        signed = simlab.SimSigner(simlab.KEEPER).sign(request)
        chain.send_raw(signed.raw)
        chain.mine()
        found = chain.receipt(signed.tx_hash)
        assert found is not None
        return found

    def wait(seconds: int) -> None:
        chain.mine(skip_s=max(0, seconds - 12))
        head = chain.head()
        posted = {k: (p, head.time, r + 1) for k, (p, _, r) in chain.world.prices.items()}
        chain.set_world(replace(chain.world, prices=posted))

    yield Lab(vault, simlab.KEEPER, "0x00000000000000000000000000000000000000cc", plan, land, wait)


@lru_cache(maxsize=1)
def both() -> Localnet:
    """One market with a reference vault and the Safes, for as long as the tests run."""
    from policy.localnet.enzyme import enzyme_fund
    from policy.localnet.lagoon import lagoon_vault
    from policy.localnet.market import start
    from policy.localnet.portfolio import owners_safe, reference_vault, roles_safe, safe_account
    from tests.execution.vault_kit import no_lagoon
    from tests.needs import need_node

    need_node()
    extras = [reference_vault(), safe_account(), roles_safe(), owners_safe(), enzyme_fund()]
    extras += [lagoon_vault()] if no_lagoon() is None else []
    return MARKETS.enter_context(start(extras=extras, at=CLOCK))


@contextmanager
def on_chain(kind: str) -> Iterator[Lab]:
    """The reference vault or a Safe among the local market's real Uniswap pools, as they were built."""
    from policy.localnet.enzyme import enzyme_vault
    from policy.localnet.lagoon import lagoon_adapter
    from policy.localnet.portfolio import proposed_vault, roles_vault, safe_spec
    from tests.execution.chain_kit import USD, landed, sealed, v3_leg
    from tests.execution.vault_kit import need_lagoon

    if kind == "lagoon":
        need_lagoon()
    with fresh(both(), 1) as net:
        node = Rpc(net.node_url)
        made: dict[str, tuple[str, Callable[[], Vault]]] = {
            "reference": ("vault", lambda: ReferenceVault(node, net.world.extras["vault"])),
            "safe": ("safe", lambda: SafeAccount(node, safe_spec(net.world))),
            "safe with roles": ("roles_safe", lambda: roles_vault(node, net.world)),
            "enzyme": ("enzyme_vault", lambda: enzyme_vault(node, net.world)),
            "lagoon": ("lagoon_safe", lambda: lagoon_adapter(node, net.world)),
            "safe proposals": ("owners_safe", lambda: proposed_vault(node, net.world, signed=True)),
        }
        place, make = made[kind]
        vault, address = make(), net.world.extras[place]
        pools = ("v3:ETH/USDC:500", "v3:BTC/USDC:3000")

        def plan() -> Plan:
            legs = [v3_leg(net, address, pool, "USDC", 100_000 * USD) for pool in pools[: vault.snapshot().max_legs]]
            return sealed(vault, address, legs, deadline_s=300)

        def wait(seconds: int) -> None:
            net.mine(seconds=seconds)

        who = {role: account.address for role, account in net.accounts.items()}
        yield Lab(
            vault,
            who["keeper"],
            who["trader"],
            plan,
            lambda tx: landed(net, "keeper", tx.to, tx.data),
            wait,
            relayable=kind in {"safe", "safe proposals"},
        )


LABS: dict[str, tuple[Callable[[], AbstractContextManager[Lab]], tuple[pytest.MarkDecorator, ...]]] = {
    "simulated": (simulated, ()),
    "reference": (lambda: on_chain("reference"), (pytest.mark.chain,)),
    "safe": (lambda: on_chain("safe"), (pytest.mark.chain,)),
    "safe with roles": (lambda: on_chain("safe with roles"), (pytest.mark.chain,)),
    "enzyme": (lambda: on_chain("enzyme"), (pytest.mark.chain,)),
    "safe proposals": (lambda: on_chain("safe proposals"), (pytest.mark.chain,)),
    "lagoon": (lambda: on_chain("lagoon"), (pytest.mark.chain,)),
}


@pytest.fixture(scope="module", autouse=True)
def markets() -> Iterator[None]:
    """End what :func:`both` started."""
    yield
    MARKETS.close()
    both.cache_clear()


@pytest.fixture(params=[pytest.param(name, marks=marks) for name, (_, marks) in LABS.items()])
def lab(request) -> Iterator[Lab]:
    with LABS[request.param][0]() as made:
        yield made


def test_a_snapshot_is_one_block_and_stays_what_it_was(lab):
    first = lab.vault.snapshot()
    lab.land(lab.vault.build(lab.plan()))
    later = lab.vault.snapshot()
    assert later.block_number > first.block_number
    again = lab.vault.snapshot(first.block_number)
    assert (again.block_hash, again.holdings, again.nav, again.plan_nonce) == (
        first.block_hash,
        first.holdings,
        first.nav,
        first.plan_nonce,
    )


def test_a_snapshot_fits_together(lab):
    s = lab.vault.snapshot()
    n = len(s.tokens)
    assert len(s.holdings) == len(s.quotes) == len(s.targets_bps) == n
    assert sum(s.targets_bps) == 10_000
    assert [q.token for q in s.quotes] == [t.address for t in s.tokens]
    assert all(isinstance(h, int) and h >= 0 for h in s.holdings)
    usd = sum(h * q.price_e8 * 10**10 // 10**t.decimals for h, q, t in zip(s.holdings, s.quotes, s.tokens, strict=True))
    assert s.nav == usd * 10 ** s.tokens[0].decimals // (s.quotes[0].price_e8 * 10**10)
    assert 0 < s.loss_budget_left <= s.nav


def test_a_good_plan_checks_simulates_lands_and_verifies_to_the_unit(lab):
    plan = lab.plan()
    before = lab.vault.snapshot()
    assert list(lab.vault.check(plan)) == []
    tx = lab.vault.build(plan)
    simulation = lab.vault.simulate(tx, lab.keeper)
    assert simulation.ok, simulation.revert
    receipt = lab.land(tx)
    assert receipt.status == 1
    settlement = lab.vault.verify(receipt, plan)
    after = lab.vault.snapshot()
    assert settlement.landed
    moved = {t.address: a - b for t, a, b in zip(after.tokens, after.holdings, before.holdings, strict=True)}
    assert dict(settlement.deltas) == moved
    assert {t: d for t, d in simulation.deltas.items() if d} == {t: d for t, d in moved.items() if d}
    assert settlement.nav_after == after.nav
    assert settlement.nav_after >= plan.min_nav
    assert settlement.gas_used == receipt.gas_used <= simulation.gas_used * 1.25
    for leg in plan.legs:
        assert moved[leg.token_in] < 0 < moved[leg.token_out]


def test_a_plan_lands_at_most_once(lab):
    plan = lab.plan()
    tx = lab.vault.build(plan)
    assert lab.land(tx).status == 1
    held = lab.vault.snapshot().holdings
    lab.wait(120)
    if lab.vault.describe().plan_nonce:
        assert "nonce" in {v.check for v in lab.vault.check(plan)}
        assert not lab.vault.simulate(tx, lab.keeper).ok
    else:  # the sender's account number makes it single; what is sent anew is refused on this side
        assert "nonce" in {v.check for v in lab.vault.check(plan)}
        return
    again = lab.land(tx)
    assert again.status == 0
    assert not lab.vault.verify(again, plan).landed
    assert lab.vault.snapshot().holdings == held


def test_a_plan_never_lands_late(lab):
    plan = lab.plan()
    lab.wait(plan.deadline - lab.vault.snapshot().block_time + 60)
    assert "deadline" in {v.check for v in lab.vault.check(plan)}
    if lab.vault.describe().deadline:
        tx = lab.vault.build(plan)
        assert not lab.vault.simulate(tx, lab.keeper).ok
        assert lab.land(tx).status == 0
    assert lab.vault.recover(plan, []) is AttemptFate.VOID


def test_recovery_says_what_became_of_a_plan(lab):
    plan = lab.plan()
    assert lab.vault.recover(plan, []) is AttemptFate.REPLACEABLE
    assert lab.vault.executed_by(plan) is None
    receipt = lab.land(lab.vault.build(plan))
    assert lab.vault.executed_by(plan) == receipt.tx_hash
    assert lab.vault.recover(plan, [receipt.tx_hash]) is AttemptFate.LANDED
    other = lab.vault.seal(replace(plan, deadline=plan.deadline + 1))
    assert lab.vault.recover(other, []) is AttemptFate.VOID
    assert lab.vault.executed_by(other) is None


def test_the_seal_binds_every_field_of_the_plan(lab):
    plan = lab.plan()
    assert lab.vault.seal(plan) == plan
    leg = plan.legs[0]
    changes = [
        {"nonce": plan.nonce + 1},
        {"deadline": plan.deadline + 1},
        {"min_nav": plan.min_nav + 1},
        {"legs": (replace(leg, amount_in=leg.amount_in + 1), *plan.legs[1:])},
        {"legs": (replace(leg, min_out=leg.min_out + 1), *plan.legs[1:])},
        {"legs": (*plan.legs, leg)},
    ]
    hashes = {lab.vault.seal(replace(plan, **change)).plan_hash for change in changes}
    assert len(hashes | {plan.plan_hash}) == len(changes) + 1
    assert len(plan.plan_hash) == 32


SPOILED = {
    "nonce": lambda p: replace(p, nonce=p.nonce + 1),
    "deadline": lambda p: replace(p, deadline=1),
    "legs": lambda p: replace(p, legs=()),
    "nav floor": lambda p: replace(p, min_nav=p.min_nav * 2),
    "min out": lambda p: replace(p, legs=(replace(p.legs[0], min_out=p.legs[0].quoted_out * 2), *p.legs[1:])),
    "pair": lambda p: replace(p, legs=(replace(p.legs[0], token_out=p.legs[0].token_in), *p.legs[1:])),
}


@pytest.mark.parametrize("rule", SPOILED)
def test_a_broken_rule_is_found_by_the_check_and_by_the_chain(lab, rule):
    plan = lab.vault.seal(SPOILED[rule](lab.plan()))
    failed = lab.vault.check(plan)
    assert failed
    assert all(not v.ok and v.reason for v in failed)
    held = lab.vault.snapshot().holdings
    if not lab.vault.describe().onchain_price_bound:
        return  # this vault leaves the mandate to the check
    assert not lab.vault.simulate(lab.vault.build(plan), lab.keeper).ok
    assert lab.vault.snapshot().holdings == held


def test_a_stranger_cannot_trade(lab):
    tx = lab.vault.build(lab.plan())
    if lab.relayable:
        middle = len(tx.data) // 2
        tx = replace(tx, data=tx.data[:middle] + bytes([tx.data[middle] ^ 1]) + tx.data[middle + 1 :])
    assert not lab.vault.simulate(tx, lab.stranger).ok


def test_simulating_changes_nothing(lab):
    before = lab.vault.snapshot()
    lab.vault.simulate(lab.vault.build(lab.plan()), lab.keeper)
    assert lab.vault.snapshot() == before


def test_describe_states_every_capability(lab):
    told = lab.vault.describe()
    assert told.kind
    flags = [getattr(told, f) for f in type(told).__slots__ if f not in ("kind", "stolen_key")]
    assert all(isinstance(f, bool) for f in flags)
    bounded = told.stolen_key
    assert (bounded is not None) == told.loss_budget  # without a budget on chain a stolen key takes everything
    if bounded:
        assert 0 <= bounded.day_ppb <= bounded.quarter_ppb <= bounded.ever_ppb
