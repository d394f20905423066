"""The matrix of kills, faults and reorganisations over two local chains with contracts, over every kind of bridge.

``python -m tests.transfers.real_matrix [runs] [seed] [part] [parts]`` (``make matrix-real``). Every run is judged at
every look by what the chains hold: no unit lost, none doubled, none unexplained, one departure.
"""

from __future__ import annotations

import itertools
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from eth_account import Account

from lake.errors import RpcError
from lake.rpc import Rpc
from lake.universe import chain
from policy.execution.base import Token, UnsignedTx
from policy.execution.submission.channels import PublicChannel
from policy.execution.submission.node import JsonNode
from policy.execution.submission.signer import SignedTx, TxRequest
from policy.execution.transfers.ends import End, Refused, TransferContext, TransferRules
from policy.execution.transfers.journal import TransferLog
from policy.execution.transfers.ledger import count
from policy.execution.transfers.machine import look_at_all
from policy.execution.transfers.planning import PlannedTransfer, Wish, plan_transfer
from policy.execution.transfers.saga import SagaState as S
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.localnet.accounts import dev_accounts
from policy.localnet.bridges import CHAIN_IDS, USD
from policy.localnet.chain_pair import ChainPair, pair
from policy.localnet.faults import Fault, FaultKind
from tests.chain_fixtures import CLOCK, fresh
from tests.transfers.lab import ROOMY, Killed
from tests.transfers.matrix import Case, Outcome, summary
from tests.transfers.quick import Quick
from tests.transfers.real_acts import CASES, Acts, Truth

KILLS = (
    None, "sign depart", "signed depart", "sent depart", "handed depart", "departed", "final", "attested",
    "sign deliver", "signed deliver", "sent deliver", "handed deliver", "received", "sign settle", "signed settle",
    "sent settle", "settled", "expired", "refunded",
)  # fmt: skip
SEND, RECEIPT = ("eth_sendRawTransaction",), ("eth_getTransactionReceipt",)
NODE_FAULTS = {
    "lost": Fault(FaultKind.LOST_REPLY, SEND),
    "unsent": Fault(FaultKind.TIMEOUT, SEND, times=2, hold_s=0.01),
    "no receipt": Fault(FaultKind.LYING, RECEIPT, times=6, change=lambda *_: None),
    "lag": Fault(FaultKind.LAGGING, (), times=40, blocks=2),
    "down": Fault(FaultKind.HTTP_502, (), times=6),
    "limit": Fault(FaultKind.HTTP_429, (), times=6),
    "wrong chain": Fault(FaultKind.WRONG_CHAIN, (), times=3),
}
ATTESTER_FAULTS = ({"down": 4}, {"expired": 2}, {"garbage": 2}, {"equivocating": 2})
NODES = ({}, {"low gas": 1}, *({f"{name} {side}": 1} for name in NODE_FAULTS for side in "AB"))
WORLDS = {
    "cctp": ("plain", "stranger", "paused"),
    "oft": ("plain", "stranger", "paused"),
    "across": ("plain", "paused", "slow", "expire", "late refund"),
}
SERVICES = {"cctp": ATTESTER_FAULTS, "oft": ({"down": 4}, {"equivocating": 1}), "across": ()}
"""What may go wrong with those who vouch for a kind of bridge."""
REORGS = (None, ("A", 1, True), ("A", 2, True), ("A", 2, False), ("B", 1, True), ("B", 2, True))
LOOKS = 80
DOLLARS = 5_000


def cases(n: int, seed: int = 1) -> list[Case]:
    """So many different cases, drawn without order: as many of each kind of bridge."""
    dice, drawn = random.Random(seed), list[Case]()  # noqa: S311
    for k, kind in enumerate(sorted(WORLDS)):
        every = [
            Case(kind, kill, tuple(fault.items()), world, reorg, (6, 6))
            for kill, fault, world, reorg in itertools.product(KILLS, (*NODES, *SERVICES[kind]), WORLDS[kind], REORGS)
        ]
        drawn += dice.sample(every, n // len(WORLDS) + (k < n % len(WORLDS)))
    dice.shuffle(drawn)
    return drawn


class DevSigner:
    """The keeper's development key."""

    def sign(self, tx: TxRequest) -> SignedTx:
        fields = {
            "type": 2, "chainId": tx.chain_id, "to": tx.to, "data": tx.data, "value": tx.value, "nonce": tx.nonce,
            "gas": tx.gas_limit, "maxFeePerGas": tx.max_fee_wei, "maxPriorityFeePerGas": tx.tip_wei,
        }  # fmt: skip
        made = Account.sign_transaction(fields, dev_accounts()["keeper"].key)
        return SignedTx(bytes(made.raw_transaction), "0x" + bytes(made.hash).hex())

    def sign_message(self, text: str) -> str:
        raise AssertionError(text)


@dataclass
class RealLab:
    """Two chains, and the machine over them; ``fresh`` is a new process that knows only the journal."""

    pair: ChainPair
    folder: Path
    rules: TransferRules = field(default_factory=lambda: ROOMY)
    kill: str | None = None
    low_gas: int = 0
    alarms: list = field(default_factory=list)
    clients: dict[bool, list[Rpc]] = field(default_factory=dict)
    seen: Quick = field(default_factory=lambda: Quick(keeps=True))  # of one moment, past the fronts

    def __post_init__(self) -> None:
        nets = self.pair.nets
        self.clients = {
            False: [Rpc(n.url, tries=1, transport=Quick()) for n in nets],
            True: [Rpc(n.node_url, tries=1, transport=self.seen) for n in nets],
        }

    def fresh(self, *, live: bool = True, sound: bool = False) -> TransferContext:
        """Return a context; ``sound``: past the fronts, where no fault strikes, at this moment of both chains."""
        self.seen.forget()
        rpcs = self.clients[sound]
        ends = {CHAIN_IDS[i]: self._end(i, rpcs[i]) for i in (0, 1)}
        bridges = {}
        for i in (0, 1):
            for kind, made in (("cctp", self.pair.cctp(i)), ("across", self.pair.across(i)), ("oft", self.pair.oft(i))):
                near, far = made.ends
                made.ends = replace(near, rpc=rpcs[i]), replace(far, rpc=rpcs[1 - i])  # type: ignore[assignment]
                bridges[kind, CHAIN_IDS[i], CHAIN_IDS[1 - i]] = made
        log = TransferLog(self.folder / "transfers.jsonl")
        return TransferContext(ends, bridges, log, self.rules, live, told=self.tell, checkpoint=self.at)

    def _end(self, i: int, rpc: Rpc) -> End:
        net = self.pair.nets[i]
        cash = net.world.token("USDC")
        vault = ReferenceVault(rpc, net.world.extras["vault"])
        return End(
            chain=chain(CHAIN_IDS[i]), node=JsonNode(rpc), vault=vault, address=vault.address,
            cash=Token("USDC", cash.address, 6, None), sender=dev_accounts()["keeper"].address,
            channel=PublicChannel(rpc), estimate=lambda tx: self.estimate(rpc, tx), signer=DevSigner(),
        )  # fmt: skip

    def estimate(self, rpc: Rpc, tx: UnsignedTx) -> int:
        """Gas a call uses now."""
        call = {
            "from": dev_accounts()["keeper"].address,
            "to": tx.to,
            "data": "0x" + tx.data.hex(),
            "value": hex(tx.value),
        }
        try:
            gas = int(str(rpc.call("eth_estimateGas", [call])), 16)
        except RpcError as error:
            if error.code == 3 or "revert" in str(error).lower():
                raise Refused(str(error)) from None
            raise
        if self.low_gas:
            self.low_gas -= 1
            return 40_000
        return gas

    def tell(self, name: str, saga_id: str, words: str) -> None:
        self.alarms.append((name, words))

    def at(self, stage: str) -> None:
        if self.kill == stage:
            self.kill = None
            raise Killed(stage)

    def plan(self, kind: str = "cctp") -> PlannedTransfer:
        ctx = self.fresh(sound=True)
        with ctx.log.lease():
            return plan_transfer(ctx, Wish(kind, *CHAIN_IDS, CASES[kind].route, DOLLARS * USD, "cash is wanted there"))

    def look(self) -> None:
        ctx = self.fresh()
        with ctx.log.lease():
            look_at_all(ctx)


def judge(out: Outcome, lab: RealLab, truth: Truth) -> None:
    """Look at the truth of both chains, and at what the machine counts of it."""
    gone = truth.gone()
    if gone > 0:
        out.lost, out.words = max(out.lost, gone), f"{gone} missing"
    if gone < 0:
        out.doubled, out.words = max(out.doubled, -gone), f"{-gone} too much"
    ctx = replace(lab.fresh(live=False, sound=True), told=lambda *_: None)
    left = ctx.ends[CHAIN_IDS[0]].vault.departures(0, ctx.ends[CHAIN_IDS[0]].node.head().number)
    out.departures = max(out.departures, len(left))
    found = count(ctx)
    unread = any("cannot be" in d for d in found.doubts)
    if not unread and (found.mismatch or found.doubts):
        out.unexplained += 1
        out.words = f"{found.mismatch} unexplained {found.doubts}"


def run(case: Case, made: ChainPair, folder: Path, step=RealLab.look) -> Outcome:
    """Play one case from plan to end."""
    lab, truth, out = RealLab(made, folder), Truth(made, case.kind), Outcome(case)
    plan = lab.plan(case.kind)
    assert plan.saga is not None, plan.verdicts
    lab.kill, lab.low_gas = case.kill, 0
    for name, times in case.fault:
        what, side = name[:-2], name[-1]
        if name == "low gas":
            lab.low_gas = times
        elif side in "AB" and what in NODE_FAULTS:
            made.nets["AB".index(side)].faults.add(replace(NODE_FAULTS[what], struck=0))
        else:
            (made.verifiers if case.kind == "oft" else made.attester).faults[name] = times
    acts = Acts(lab, case)
    for look in range(LOOKS):
        with suppress(Killed):
            step(lab)
        saga = lab.fresh(sound=True).log.sagas()[-1]
        acts.play(saga, look)
        made.mine()
        judge(out, lab, truth)
        if saga.state in {S.SETTLED, S.VOID, S.STUCK} and (case.world != "paused" or look > 20):
            break
    out.state = str(saga.state)
    if saga.state is S.STUCK and not any(name == "stuck" for name, _ in lab.alarms):
        out.words, out.state = "stuck without an alarm", "silent"
    if not out.good and not out.words:
        out.words = f"ended {out.state}: {saga.note} {lab.alarms[-3:]}"
    return out


@contextmanager
def hurried(made: ChainPair) -> Iterator[None]:
    """Let the world's own calls go over kept plain connections meanwhile: most of a run's time is spent in them."""
    rpcs = [rpc for net in made.nets for rpc in (net.rpc, net.deployer.rpc)]
    kept, quick = [rpc.transport for rpc in rpcs], Quick()
    for rpc in rpcs:
        rpc.transport = quick
    try:
        yield
    finally:
        for rpc, transport in zip(rpcs, kept, strict=True):
            rpc.transport = transport


def alone(case: Case, made: ChainPair, step=RealLab.look) -> Outcome:
    """Play one case and take back what it did to both chains."""
    with ExitStack() as held:
        held.enter_context(hurried(made))
        for net in made.nets:
            held.enter_context(fresh(net, 6))
        folder = held.enter_context(tempfile.TemporaryDirectory())
        made.level()
        made.attester.faults.clear()
        made.verifiers.faults.clear()
        return run(case, made, Path(folder), step)


def main(runs: int = 600, seed: int = 1, part: int = 0, parts: int = 1) -> None:
    """Play every ``parts``-th of the cases from number ``part`` on, and print what they came to."""
    played = []
    with pair(at=CLOCK) as made:
        for case in cases(runs, seed)[part::parts]:
            played.append(alone(case, made))
            if not played[-1].good:
                print(case, played[-1].words, "departures", played[-1].departures, flush=True)
    kinds = Counter(o.case.kind for o in played)
    print(summary(played) + f"; {', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))}")
    sys.exit(any(not o.good for o in played))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
