"""A plan laid before a Safe's owners: two of three sign and it lands once; what changes in between voids it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from lake.errors import ConfigError, ExecutionError
from lake.evm import calldata
from lake.rpc import Rpc
from lake.units import bps
from policy.execution.checks.rules import Mandate
from policy.execution.context import Limits
from policy.execution.planner import PlanRules
from policy.execution.proposing import ProposalFile, propose
from policy.execution.records.audit import Audit, verify
from policy.execution.vaults.anchored import faults, known
from policy.execution.vaults.safe.adapter import EXEC, ZERO, packed, safe_tx
from policy.execution.vaults.safe.proposal import ProposedSafe, approved, unpacked, valid
from policy.execution.vaults.safe.register import landings, next_nonce
from policy.execution.vaults.safe.service import SafeService
from policy.localnet.accounts import dev_accounts
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import SIGNERS, owners_safe, proposed_vault
from tests.chain_fixtures import CLOCK, fresh, into_the_hour
from tests.execution.chain_kit import landed
from tests.execution.chainlab import chain_context
from tests.execution.safe_service import Service, safe_service
from tests.needs import need_node

pytestmark = pytest.mark.chain
MANDATE = Mandate(leg_loss_bps=150, turnover_bps=8_000, max_legs=6, loss_budget_ppb=20_000_000)
TARGETS = {"USDC": 4_000, "ETH": 3_500, "BTC": 2_500}
DAY_S = 86_400


@pytest.fixture(scope="module")
def market() -> Iterator[Localnet]:
    need_node()
    with start(extras=[owners_safe()], at=CLOCK) as net:
        yield net


class Desk:
    """One Safe of three, its proposals, and the service its owners look at."""

    def __init__(self, net: Localnet, folder: Path, service: Service | None) -> None:
        self.net, self.folder, self.service = net, folder, service
        self.vault: ProposedSafe = proposed_vault(Rpc(net.node_url), net.world, TARGETS, mandate=MANDATE)
        rules = PlanRules(max_slippage_bps=bps(150), max_legs=6, deadline_s=DAY_S, wait_blocks=7_200)
        base = chain_context(folder, net, vault=self.vault)
        limits = Limits(plan=rules, feeds=base.limits.feeds)
        self.ctx = replace(base, vault_address=self.vault.spec.address, limits=limits)
        self.store = ProposalFile(folder / "proposal.json")

    def run(self, *, live: bool = False):
        ctx = self.ctx if live else replace(self.ctx, live=False, signer=None)
        client = None if self.service is None else SafeService(self.service.url, "key")

        def lay(proposal):
            if client is not None:
                keeper = self.net.accounts["keeper"]
                signature = sign("keeper", self.vault.typed(proposal.plan, proposal.safe_nonce))
                data = self.vault.data_of(proposal.plan)
                client.propose(proposal, self.vault.spec.multisend, data, keeper.address, signature)
            return "laid"

        return propose(ctx, self.store, client.confirmations if client else lambda p: {}, lay)

    def sign(self, *roles: str) -> None:
        proposal = self.store.read()
        for role in roles:
            signature = sign(role, self.vault.typed(proposal.plan, proposal.safe_nonce))
            self.service.confirm(proposal.safe_hash, dev_accounts()[role].address, signature)

    def by_owners(self, to: str, data: bytes) -> None:
        """Let the Safe make another transaction of its own, signed by two owners."""
        typed = safe_tx(self.vault.spec.address, to, 31_337, self.vault.signers().nonce, data, ZERO)
        typed["message"]["operation"] = 0
        rows = sorted((dev_accounts()[r].address, sign(r, typed)) for r in SIGNERS[:2])
        joined = b"".join(s for _, s in sorted(rows, key=lambda row: int(row[0], 16)))
        call = calldata(EXEC, to, 0, data, 0, 0, 0, 0, ZERO, ZERO, joined)
        assert landed(self.net, "trader", self.vault.spec.address, call).status == 1


def sign(role: str, typed) -> bytes:
    return bytes(Account.sign_typed_data(dev_accounts()[role].key, full_message=dict(typed)).signature)


@pytest.fixture
def net(market: Localnet) -> Iterator[Localnet]:
    with fresh(market, 1) as made:
        into_the_hour(made, 60)
        yield made


@pytest.fixture
def desk(net: Localnet, tmp_path) -> Iterator[Desk]:
    with safe_service() as service:
        yield Desk(net, tmp_path, service)


def test_two_of_three_sign_and_the_plan_lands_once(desk):
    held = desk.vault.snapshot().holdings
    first = desk.run()
    assert first.outcome == "proposed", (first.why, [v for v in first.verdicts if not v.ok])
    proposal = desk.store.read()
    assert desk.service.proposed[proposal.safe_hash]["nonce"] == 0
    assert desk.service.keys == ["Bearer key"]
    assert desk.run(live=True).why == "0 of 2 owners have signed"
    desk.sign("owner")
    assert desk.run(live=True).why == "1 of 2 owners have signed"
    desk.sign("guardian")
    assert desk.run().outcome == "ready"  # a dry run sends nothing
    assert desk.vault.snapshot().holdings == held
    done = desk.run(live=True)
    assert done.outcome == "traded", done.why
    after = desk.vault.snapshot()
    assert [done.settlement.deltas[t.address] for t in after.tokens] == [
        a - b for a, b in zip(after.holdings, held, strict=True)
    ]
    assert done.attempts[0]["kind"] == "plan"
    assert desk.store.read() is None
    assert next_nonce(desk.vault.rpc, desk.vault.spec.address, "latest") == 1
    assert desk.run(live=True).outcome == "done"
    assert verify(desk.folder / "audit.jsonl").ok
    plans = known(Audit(desk.folder / "audit.jsonl").records(), 31_337, desk.vault.spec.address)

    def find(nonce, start, end):
        return [h for _, _, h in landings(desk.vault.rpc, desk.vault.spec.address, start, end, nonce)]

    assert faults(plans, 1, find) == []


def test_owners_who_approve_on_the_chain_need_no_service(net, tmp_path):
    desk = Desk(net, tmp_path, None)
    assert desk.run().outcome == "proposed"
    proposal = desk.store.read()
    for role in ("owner", "investor"):
        data = calldata("approveHash(bytes32)", bytes.fromhex(proposal.safe_hash[2:]))
        assert landed(net, role, desk.vault.spec.address, data).status == 1
    assert desk.run(live=True).outcome == "traded"


def test_owners_may_execute_it_themselves_and_it_is_settled_all_the_same(desk, net):
    desk.run()
    proposal = desk.store.read()
    signed = proposed_vault(desk.vault.rpc, net.world, TARGETS, signed=True)
    tx = signed.build(proposal.plan)
    assert landed(net, "trader", tx.to, tx.data).status == 1
    found = desk.run()
    assert found.outcome == "traded"
    assert "executed by" in found.why
    assert found.settlement.landed
    assert desk.store.read() is None


def swapped(desk: Desk) -> None:
    """The first owner is replaced by the trader."""
    owners = desk.vault.signers().owners
    old = dev_accounts()["owner"].address
    place = owners.index(old)
    before = "0x" + "0" * 39 + "1" if place == 0 else owners[place - 1]
    data = calldata("swapOwner(address,address,address)", before, old, dev_accounts()["trader"].address)
    desk.by_owners(desk.vault.spec.address, data)


def posted(asset: str, factor: float):
    def act(desk: Desk) -> None:
        feed = desk.net.world.token(asset).feed
        ((_, answer),) = [desk.net.deployer.view(str(feed), "latestRoundData()", "uint80,int256")]
        desk.net.deployer.call("deployer", str(feed), "post(int256)", int(answer * factor))

    return act


def market_moved(desk: Desk) -> None:
    desk.net.advance_prices({"ETH": 1_700.0, "BTC": 20_000.0})


VOID = {
    "another transaction of the Safe": (lambda d: d.by_owners(ZERO, b""), "nonce 0 of the Safe was taken"),
    "the threshold": (lambda d: d.by_owners(d.vault.spec.address, calldata("changeThreshold(uint256)", 3)), "nonce 0"),
    "an owner": (swapped, "nonce 0 of the Safe was taken"),
    "time": (lambda d: d.net.mine(seconds=DAY_S + 700), "deadline"),
    "the oracle rose": (posted("ETH", 1.05), "leg gain"),
    "the oracle fell": (posted("ETH", 0.95), "leg value"),
    "the market moved": (market_moved, "limits"),
}


@pytest.mark.parametrize("what", VOID)
def test_what_changes_in_between_voids_the_proposal_with_its_reason(desk, what):
    act, words = VOID[what]
    assert desk.run().outcome == "proposed"
    desk.sign("owner", "guardian")
    held = desk.vault.snapshot().holdings
    act(desk)
    found = desk.run(live=True)
    assert found.outcome == "void", found.why
    assert words in found.why or (what == "the market moved" and "leg" in found.why)
    assert desk.vault.snapshot().holdings == held
    assert desk.store.read() is None
    settled = [r.body for r in Audit(desk.folder / "audit.jsonl").records() if r.body["event"] == "settlement"]
    assert [s["outcome"] for s in settled] == ["void"]


def test_owners_changed_without_a_new_nonce_void_it_too(desk):
    desk.run()
    proposal = desk.store.read()
    desk.store.write(replace(proposal, owners=(*proposal.owners[:2], dev_accounts()["trader"].address)))
    found = desk.run()
    assert found.outcome == "void"
    assert "the owners changed" in found.why
    assert "joined" in found.why


def test_signatures_of_others_of_other_hashes_and_junk_do_not_count(desk):
    desk.run()
    proposal = desk.store.read()
    typed = desk.vault.typed(proposal.plan, proposal.safe_nonce)
    desk.service.confirm(proposal.safe_hash, dev_accounts()["trader"].address, sign("trader", typed))
    other = desk.vault.typed(proposal.plan, proposal.safe_nonce + 1)
    desk.service.confirm(proposal.safe_hash, dev_accounts()["owner"].address, sign("owner", other))
    desk.service.confirm(proposal.safe_hash, dev_accounts()["guardian"].address, b"\1" * 65)
    desk.service.confirm(proposal.safe_hash, dev_accounts()["investor"].address, b"")
    assert desk.run(live=True).why == "0 of 2 owners have signed"


def test_a_signature_over_the_hash_as_a_message_counts(desk):
    desk.run()
    proposal = desk.store.read()
    owner = dev_accounts()["owner"]
    raw = bytes(Account.sign_message(encode_defunct(bytes.fromhex(proposal.safe_hash[2:])), owner.key).signature)
    assert valid(proposal.safe_hash, owner.address, raw[:64] + bytes([raw[64] + 4]))
    desk.service.confirm(proposal.safe_hash, owner.address, raw[:64] + bytes([raw[64] + 4]))
    desk.sign("guardian")
    assert desk.run(live=True).outcome == "traded"


def test_signatures_of_one_plan_are_not_taken_for_the_next(desk):
    """One process lays plan after plan: the next is simulated as signed by nobody, and goes through."""
    assert desk.run().outcome == "proposed"
    desk.sign(*SIGNERS[:2])
    assert desk.run(live=True).outcome == "traded"
    desk.net.advance_prices({"ETH": 2_100.0, "BTC": 20_000.0})
    into_the_hour(desk.net, 60)
    following = desk.run()
    assert following.outcome == "proposed", following.why


def test_a_service_that_fails_sends_nothing_and_says_so(desk):
    desk.run()
    desk.sign("owner", "guardian")
    for fault in ("down", "junk"):
        setattr(desk.service, fault, True)
        with pytest.raises(ExecutionError, match="Safe service"):
            desk.run(live=True)
        setattr(desk.service, fault, False)
    assert desk.store.read() is not None
    assert desk.run(live=True).outcome == "traded"


def test_a_kill_after_the_send_is_found_by_the_next_run(desk):
    class Killed(BaseException):
        pass

    def die(stage: str) -> None:
        if stage == "send":
            raise Killed

    desk.run()
    desk.sign("owner", "guardian")
    ctx, desk.ctx = desk.ctx, replace(desk.ctx, checkpoint=die)
    with pytest.raises(Killed):
        desk.run(live=True)
    desk.ctx = ctx
    desk.net.mine(2)
    assert desk.run(live=True).outcome == "traded"
    assert desk.store.read() is None
    assert len(landings(desk.vault.rpc, desk.vault.spec.address, 0, "latest")) == 1


def test_a_file_that_is_no_proposal_is_named(desk):
    desk.store.path.write_text("{}")
    with pytest.raises(ExecutionError, match="holds no proposal"):
        desk.run()
    with pytest.raises(ConfigError, match="takes proposals"):
        propose(replace(desk.ctx, vault=object()), desk.store, lambda p: {}, lambda p: "")


def test_a_batch_is_taken_apart_as_it_was_packed(desk):
    desk.run()
    plan = desk.store.read().plan
    calls = desk.vault.batch_of(plan)
    assert unpacked(packed(calls)) == [(to.lower(), data) for to, data in calls]
    assert len(approved(dev_accounts()["owner"].address)) == 65
