"""Laws of the count of cash over three chains: conserved whatever happens, the same by any heights."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from lake.errors import ExecutionError
from policy.execution.bridges.base import WrongUnits, converted
from policy.execution.bridges.finality import confirmed_block
from policy.execution.transfers.journal import TransferLog
from policy.execution.transfers.ledger import count
from policy.execution.transfers.saga import NEXT
from policy.execution.transfers.saga import SagaState as S
from tests.transfers.lab import ROOMY, Lab, made
from tests.transfers.two_chains import CHAINS, TwoChains

DECIMALS = (6, 18, 8)


class ThreeChains(RuleBasedStateMachine):
    """Transfers, flows of people, reorganisations and the scheduler's looks, in any order."""

    kind = "simulated-mint"

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        self.lab = Lab(TwoChains(self.kind, DECIMALS, fee_pips=100), Path(self.scratch.name), rules=ROOMY)

    def teardown(self) -> None:
        self.scratch.cleanup()

    @precondition(lambda self: len(self.lab.fresh().log.open()) < 3)
    @rule(origin=st.integers(0, 2), route=st.integers(1, 2), dollars=st.integers(1, 50_000), dust=st.integers(0, 99))
    def plan(self, origin, route, dollars, dust):
        amount = dollars * 10 ** DECIMALS[origin] + dust
        try:
            found = self.lab.plan(origin=origin, amount=amount, route=route)
        except ExecutionError as error:
            if "while a chain cannot be read" not in str(error):
                raise
        else:
            assert found.saga is not None or found.verdicts

    @rule()
    def look(self):
        self.lab.look()

    @rule(blocks=st.integers(1, 4))
    def mine(self, blocks):
        self.lab.world.mine(blocks)

    @rule(i=st.integers(0, 2), depth=st.integers(1, 2), keep=st.booleans(), delay=st.integers(0, 2))
    def reorganise(self, i, depth, keep, delay):
        before = self.lab.world.chains[i].world.bridges.moves
        self.lab.world.chains[i].reorg(depth, keep=keep, delay=delay)
        after = self.lab.world.chains[i].world.bridges.moves
        for _, _, raw in before[len(after) :]:  # a flow that the branch dropped did not happen
            self.lab.world.start -= (1 if raw > 0 else -1) * converted(abs(raw), DECIMALS[i], 18)[0]

    @rule(i=st.integers(0, 2), dollars=st.integers(-9_000, 9_000).filter(bool))
    def flow(self, i, dollars):
        self.lab.world.flow(i, dollars)

    @rule(name=st.sampled_from(["lost A", "no receipt B", "unsent C", "down A", "lag B", "low gas"]))
    def fail(self, name):
        self.lab.faults.left[name] = 2

    @rule()
    def help(self):
        """A relayer fills, a bundle pays: what other people do for transfers of that kind."""
        for saga in self.lab.fresh().log.sagas():
            if self.kind == "simulated-fill" and saga.state in {S.FILLABLE, S.EXPIRED, S.REFUND_DUE}:
                origin = CHAINS.index(saga.transfer.origin.chain_id)
                if self.lab.world.relay(saga.transfer, origin):
                    self.lab.world.come_home(saga.transfer, origin)

    @invariant()
    def nothing_is_lost_or_made(self):
        world = self.lab.world
        assert world.value() + world.transit() + world.fees() == world.start

    @invariant()
    def every_unit_is_explained(self):
        found = count(self.lab.fresh(live=False))
        assert found.doubts or found.mismatch == 0
        assert all("cannot be" in d for d in found.doubts)


class ThreeChainsFilled(ThreeChains):
    kind = "simulated-fill"

    @rule()
    def time_passes(self):
        for c in self.lab.world.chains:
            c.mine(skip_s=4_000)


@pytest.mark.parametrize("machine", [ThreeChains, ThreeChainsFilled])
def test_cash_is_conserved_and_explained_under_any_interleaving(machine):
    limits = settings(
        max_examples=12,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    run_state_machine_as_test(machine, settings=limits)


@pytest.mark.parametrize("kind", ["simulated-mint", "simulated-fill"])
def test_a_moving_transfer_is_counted_once_for_every_pair_of_heights(tmp_path, kind):
    lab = made(tmp_path, kind, (6, 18), fee_pips=100)
    plan = lab.plan(5_000)
    for _ in range(14):
        saga = lab.look()[-1]
        if saga.state is S.FILLABLE:
            lab.world.relay(saga.transfer)
        lab.world.mine()
    ctx = lab.fresh()
    tops = [confirmed_block(c.head().number, r) for c, r in zip(lab.world.chains, lab.world.rows, strict=False)]
    pairs = list(itertools.product(range(106, tops[0] + 1), range(106, tops[1] + 1)))
    found = {p: count(ctx, {CHAINS[0]: p[0], CHAINS[1]: p[1]}) for p in pairs}
    assert {c.mismatch for c in found.values()} == {0}
    early = [c for c in found.values() if c.early]
    assert early, "some pair sees the arrival and not yet the departure"
    assert {c.early for c in early} == {converted(plan.transfer.amount, 6, 18)[0]}
    totals = {c.total + c.fees for c in found.values()}
    assert totals == {lab.world.start}


@given(st.integers(0, 10**30), st.sampled_from([6, 8, 18]), st.sampled_from([6, 8, 18]))
def test_raw_units_convert_there_and_back_and_dust_stays_with_the_sender(raw, near, far):
    there, dust = converted(raw, near, far)
    assert converted(there, far, near) == (raw - dust, 0)
    assert dust == 0 or near > far


def test_a_negative_amount_has_no_units():
    with pytest.raises(WrongUnits, match="at least 0"):
        converted(-1, 6, 18)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(list(S)), min_size=1, max_size=9), st.data())
def test_only_what_may_follow_reaches_the_disk_and_any_prefix_folds(tmp_path_factory, wanted, data):
    folder = tmp_path_factory.mktemp("fold")
    lab = made(folder)
    log = TransferLog(folder / "transfers.jsonl")
    with log.lease():
        saga = log.plan(lab.world.transfer(), 1, {})
        for state in wanted:
            size = log.path.stat().st_size
            person = {"person": "A. Treasurer"} if state is S.WRITTEN_DOWN else {}
            if state in NEXT[saga.state]:
                saga = log.moved(saga, state, note="seen", **person)
            else:
                with pytest.raises(ExecutionError, match="cannot become"):
                    log.moved(saga, state, note="seen", **person)
                assert log.path.stat().st_size == size
    lines = log.path.read_bytes().splitlines(keepends=True)
    n = data.draw(st.integers(0, len(lines)))
    cut = folder / "cut.jsonl"
    cut.write_bytes(b"".join(lines[:n]))
    assert len(TransferLog(cut).sagas()) == (n > 0)
