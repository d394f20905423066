"""What other people do to a transfer between two local chains, and what the chains hold past every fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lake.evm import Call, read
from policy.execution.bridges.across import TRANSFER
from policy.execution.bridges.events import data_of, logs_between, padded
from policy.execution.transfers.saga import SagaState as S
from policy.localnet import across as ax
from policy.localnet.chain_pair import ChainPair
from tests.transfers.real_bridges import AcrossCase, OftCase
from tests.transfers.real_chains import CctpCase

CASES = {"cctp": CctpCase, "across": AcrossCase, "oft": OftCase}
UNFILLED = frozenset({S.FINAL, S.FILLABLE, S.OVERDUE, S.EXPIRED, S.REFUND_DUE})
LATE_LOOKS = 30


@dataclass
class Truth:
    """What both chains hold: of our vaults, of everybody; by it what is missing, or there twice."""

    pair: ChainPair
    kind: str
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
        """What is missing (below 0: too much) with what is on its way and what a relayer earned."""
        ours, supply = self.read()
        away = self.with_pools() if self.kind == "across" else self.supply - supply
        return self.ours - ours - away

    def with_pools(self) -> int:
        """What the origin's pool holds of ours, and what fills cost: by the pools' own records."""
        near, far = self.pair.nets
        away = -refunds(self.pair)
        for made in ax.deposits(near, near.world.extras["vault"]):
            paid = made.relay.output_amount if ax.filled(far, made) else 0
            away += made.relay.input_amount - paid
        return away


def refunds(pair: ChainPair) -> int:
    """What the origin's pool has ever paid back to our vault, raw units."""
    near = pair.nets[0]
    topics = [TRANSFER, padded(near.world.extras[ax.POOL]), padded(near.world.extras["vault"])]
    cash, last = near.world.token("USDC").address, near.node.head().number
    return sum(data_of(x, "uint256")[0] for x in logs_between(near.deployer.rpc, cash, topics, 0, last))


class Acts:
    """What other people and the chains do in a run, most of it once; ``lab`` and ``case`` are the matrix' own."""

    def __init__(self, lab: Any, case: Any) -> None:
        self.lab, self.case, self.done = lab, case, set[str]()
        self.world = CASES[case.kind](lab.pair)
        self.asked = -LATE_LOOKS  # the look at which a refund was asked for last

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
        self.lab.pair.level()
        for net, rows in zip(self.lab.pair.nets, kept, strict=True):
            net.faults.rows.extend(rows)

    def _play(self, saga, look: int) -> None:
        world = self.case.world
        if self.case.kind == "oft":
            self.lab.pair.verifiers.step()
        if self.case.kind == "across" and saga.state in UNFILLED:
            self._relay(saga, look)
        if world == "stranger" and saga.state in {S.FINAL, S.ATTESTED, S.DELIVERING} and self.once("stranger"):
            self._deliver(saga)
        if world == "paused" and look in {4, 20}:
            self.world.pause(1, on=look == 4)
        if self.case.reorg is not None:
            side, depth, keep = self.case.reorg
            ripe = {S.DEPARTED} if side == "A" else {S.RECEIVED, S.REFUNDED}
            if saga.state in ripe and self.once("reorg"):
                home = side == "B" and saga.state is S.REFUNDED
                self._reorganise(self.lab.pair.nets[0 if home else "AB".index(side)], depth, keep=keep)

    def _deliver(self, saga) -> None:
        """Bring the message before the keeper does; again at the next look where nothing is ready."""
        bridge = self.lab.fresh(sound=True).bridge(saga.transfer)
        tx = bridge.deliver(saga.transfer, bridge.find(saga.transfer))
        if tx is None:
            self.done.discard("stranger")
        else:
            self.world.send(1, tx)

    def _relay(self, saga, look: int) -> None:
        """Fill a deposit, fast or slowly, or let its deadline pass and pay it back with a bundle."""
        near, far = self.lab.pair.nets
        deposit = self.world.deposit(saga.transfer)
        if self.case.world in {"expire", "late refund"}:
            if self.once("deadline"):
                self.lab.pair.mine(1, seconds=self.lab.rules.fill_s + 400)
            due = look - self.asked >= 6 and (self.case.world == "expire" or look > LATE_LOOKS)
            if saga.state in {S.EXPIRED, S.REFUND_DUE} and due and not refunds(self.lab.pair):
                self.asked = look
                assert ax.refund(near, [deposit])
        elif not ax.filled(far, deposit):
            slow = self.case.world == "slow"
            _ = ax.fill_slowly(far, deposit) if slow else ax.fill(far, deposit)

    def _reorganise(self, net, depth: int, *, keep: bool) -> None:
        top = net.node.head().number
        blocks = [net.rpc.call("eth_getBlockByNumber", [hex(top - k), False]) for k in range(depth)]
        net.reorg(depth, [] if keep else [str(h) for block in blocks for h in block["transactions"]])
