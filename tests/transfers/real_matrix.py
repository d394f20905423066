"""The matrix of kills, faults and reorganisations over two local chains with contracts: CCTP, by the same machine.

``python -m tests.transfers.real_matrix [runs] [seed]`` (``make matrix-real``). Every run is judged at every look by
what the chains hold: no unit lost, none doubled, none unexplained, one departure.
"""

from __future__ import annotations

import itertools
import random
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from eth_account import Account

from lake.errors import RpcError
from lake.evm import Call, read
from lake.rpc import Rpc
from lake.universe import chain
from policy.execution.base import Token, UnsignedTx
from policy.execution.bridges.cctp import CctpBridge
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
from policy.localnet.bridges import CCTP_ROUTE, CHAIN_IDS, USD
from policy.localnet.chain_pair import ChainPair, pair
from policy.localnet.faults import Fault, FaultKind
from tests.chain_fixtures import CLOCK, fresh
from tests.transfers.lab import ROOMY, Killed
from tests.transfers.matrix import Case, Outcome, summary
from tests.transfers.real_chains import CctpCase

KILLS = (
    None, "sign depart", "signed depart", "sent depart", "handed depart", "departed", "final", "attested",
    "sign deliver", "signed deliver", "sent deliver", "handed deliver", "received", "sign settle", "signed settle",
    "sent settle", "settled",
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
FAULTS = (
    {}, {"low gas": 1}, *ATTESTER_FAULTS, *({f"{name} {side}": 1} for name in NODE_FAULTS for side in "AB"),
)  # fmt: skip
WORLDS = ("plain", "stranger", "paused")
REORGS = (None, ("A", 1, True), ("A", 2, True), ("A", 2, False), ("B", 1, True), ("B", 2, True))
LOOKS = 80
DOLLARS = 5_000


def cases(n: int, seed: int = 1) -> list[Case]:
    """So many different cases, drawn without order from all."""
    every = [
        Case("cctp", kill, tuple(fault.items()), world, reorg, (6, 6))
        for kill, fault, world, reorg in itertools.product(KILLS, FAULTS, WORLDS, REORGS)
    ]
    return random.Random(seed).sample(every, n)  # noqa: S311


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

    def __post_init__(self) -> None:
        nets = self.pair.nets
        self.clients = {False: [Rpc(n.url, tries=1) for n in nets], True: [Rpc(n.node_url, tries=1) for n in nets]}

    def fresh(self, *, live: bool = True, sound: bool = False) -> TransferContext:
        """Return a context; ``sound``: past the fronts, where no fault strikes."""
        rpcs = self.clients[sound]
        ends = {CHAIN_IDS[i]: self._end(i, rpcs[i]) for i in (0, 1)}
        bridges = {}
        for i in (0, 1):
            known = self.pair.cctp(i).ends
            sides = replace(known[0], rpc=rpcs[i]), replace(known[1], rpc=rpcs[1 - i])
            bridges["cctp", CHAIN_IDS[i], CHAIN_IDS[1 - i]] = CctpBridge(sides, self.pair.attester)
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

    def plan(self) -> PlannedTransfer:
        ctx = self.fresh()
        with ctx.log.lease():
            return plan_transfer(ctx, Wish("cctp", *CHAIN_IDS, CCTP_ROUTE, DOLLARS * USD, "cash is wanted there"))

    def look(self) -> None:
        ctx = self.fresh()
        with ctx.log.lease():
            look_at_all(ctx)


@dataclass
class Truth:
    """What both chains hold, past every fault: of our vaults, of everybody, burnt and not minted yet."""

    pair: ChainPair
    ours: int = 0
    supply: int = 0

    def __post_init__(self) -> None:
        self.ours, self.supply = self.read()

    def read(self) -> tuple[int, int]:
        ours = supply = 0
        for net in self.pair.nets:
            cash, vault = net.world.token("USDC").address, net.world.extras["vault"]
            asks = [Call(cash, "balanceOf(address)", "uint256", (vault,)), Call(cash, "totalSupply()", "uint256")]
            (held,), (all_,) = read(net.deployer.rpc, asks)
            ours, supply = ours + int(str(held)), supply + int(str(all_))
        return ours, supply

    def gone(self) -> int:
        """What is missing (below 0: too much) with what is on its way."""
        ours, supply = self.read()
        return self.ours - ours - (self.supply - supply)


class Acts:
    """What other people and the chains do in a run, each at most once."""

    def __init__(self, lab: RealLab, case: Case) -> None:
        self.lab, self.case, self.done = lab, case, set()
        self.world = CctpCase(lab.pair)

    def once(self, name: str) -> bool:
        new = name not in self.done
        self.done.add(name)
        return new

    def play(self, saga, look: int) -> None:
        """Act past the faults, which strike the machine's own calls alone."""
        kept = [list(net.faults.rows) for net in self.lab.pair.nets]
        for net in self.lab.pair.nets:
            net.faults.clear()
        self._play(saga, look)
        for net, rows in zip(self.lab.pair.nets, kept, strict=True):
            net.faults.rows.extend(rows)

    def _play(self, saga, look: int) -> None:
        if (
            self.case.world == "stranger"
            and saga.state in {S.FINAL, S.ATTESTED, S.DELIVERING}
            and self.once("stranger")
        ):
            bridge = self.lab.fresh(sound=True).bridge(saga.transfer)
            tx = bridge.deliver(saga.transfer, bridge.find(saga.transfer))
            if tx is None:
                self.done.discard("stranger")
            else:
                self.world.send(1, tx)
        if self.case.world == "paused" and look in {4, 20}:
            self.world.pause(1, on=look == 4)
        if self.case.reorg is not None:
            side, depth, keep = self.case.reorg
            ripe = {S.DEPARTED} if side == "A" else {S.RECEIVED}
            if saga.state in ripe and self.once("reorg"):
                self._reorganise(self.lab.pair.nets["AB".index(side)], depth, keep=keep)

    def _reorganise(self, net, depth: int, *, keep: bool) -> None:
        top = net.node.head().number
        blocks = [net.rpc.call("eth_getBlockByNumber", [hex(top - k), False]) for k in range(depth)]
        net.reorg(depth, [] if keep else [str(h) for block in blocks for h in block["transactions"]])


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
    lab, truth, out = RealLab(made, folder), Truth(made), Outcome(case)
    plan = lab.plan()
    assert plan.saga is not None, plan.verdicts
    lab.kill, lab.low_gas = case.kill, 0
    for name, times in case.fault:
        what, side = name[:-2], name[-1]
        if name == "low gas":
            lab.low_gas = times
        elif side in "AB" and what in NODE_FAULTS:
            made.nets["AB".index(side)].faults.add(replace(NODE_FAULTS[what], struck=0))
        else:
            made.attester.faults[name] = times
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


def alone(case: Case, made: ChainPair, step=RealLab.look) -> Outcome:
    """Play one case and take back what it did to both chains."""
    with ExitStack() as held:
        for net in made.nets:
            held.enter_context(fresh(net, 6))
        folder = held.enter_context(tempfile.TemporaryDirectory())
        made.level()
        made.attester.faults.clear()
        return run(case, made, Path(folder), step)


def main() -> None:
    """Play and print."""
    runs, seed = (int(x) for x in (*sys.argv[1:], *("600", "1")[len(sys.argv) - 1 :]))
    played = []
    with pair(at=CLOCK) as made:
        for case in cases(runs, seed):
            played.append(alone(case, made))
            if not played[-1].good:
                print(case, played[-1].words, "departures", played[-1].departures, flush=True)
    print(summary(played))
    sys.exit(any(not o.good for o in played))


if __name__ == "__main__":
    main()
