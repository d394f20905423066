"""Contexts of the transfer machine over two simulated chains, with faulty nodes between it and them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from lake.errors import RpcError
from policy.execution.base import UnsignedTx
from policy.execution.bridges.simulated import SimEnds, SimulatedBridge
from policy.execution.submission.channels import Reply
from policy.execution.transfers.ends import End, Refused, TransferContext, TransferRules
from policy.execution.transfers.journal import TransferLog
from policy.execution.transfers.machine import look_at_all
from policy.execution.transfers.planning import PlannedTransfer, Wish, plan_transfer
from policy.execution.vaults.simulated.adapter import SimulatedVault, executor
from policy.execution.vaults.simulated.chain import SimChain, SimSigner, SimTx
from tests.transfers.two_chains import CHAINS, KEEPER, TwoChains


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Faults:
    """Faults by name and how often each still strikes: ``lost A``, ``no receipt B``, ``lag A``, ``down B``, ..."""

    left: dict[str, int] = field(default_factory=dict)

    def strike(self, name: str) -> bool:
        n = self.left.get(name, 0)
        self.left[name] = max(0, n - 1)
        return n > 0


class Front:
    """A node that shows a chain and fails as it is told to."""

    def __init__(self, chain: SimChain, name: str, faults: Faults) -> None:
        self._chain, self._name, self._faults = chain, name, faults

    def __getattr__(self, what):
        return getattr(self._chain, what)

    def _alive(self) -> None:
        if self._faults.strike(f"down {self._name}"):
            raise RpcError("502 Bad Gateway")
        if self._faults.strike(f"limit {self._name}"):
            raise RpcError("429 Too Many Requests", 429)

    def head(self):
        self._alive()
        if self._faults.strike(f"lag {self._name}") and len(self._chain.blocks) > 9:
            return self._chain.blocks[-3].head
        return self._chain.head()

    def block(self, number):
        self._alive()
        return self._chain.block(number)

    def receipt(self, tx_hash):
        self._alive()
        return None if self._faults.strike(f"no receipt {self._name}") else self._chain.receipt(tx_hash)

    def send(self, raw: bytes, tx_hash: str, next_block: int, max_block: int) -> Reply:
        """Take signed bytes as a channel does; a lost reply is one whose transaction may be in all the same."""
        del next_block, max_block
        if self._faults.strike(f"unsent {self._name}"):
            return Reply(None, "connection reset before it was taken")
        try:
            self._chain.send_raw(raw)
        except RpcError as error:
            return Reply(False, str(error))
        if self._faults.strike(f"lost {self._name}"):
            return Reply(None, "connection reset")
        return Reply(True, tx_hash)

    def cancel(self, tx_hash: str) -> Reply:
        return Reply(None, tx_hash)


def estimator(world: TwoChains, i: int, faults: Faults):
    """Gas a call uses at the head of chain ``i``, Refused with the chain's words where it would revert."""
    run = executor(world.specs[i])

    def estimate(tx: UnsignedTx) -> int:
        head = world.chains[i].head()
        call = SimTx(KEEPER, tx.to, tx.data, 0, 30_000_000, 0, 0, tx.chain_id, "0x")
        _, gas, why = run(world.chains[i].world, call, head.number + 1, head.time + 12)
        if why is not None:
            raise Refused(why)
        return 40_000 if faults.strike("low gas") else gas

    return estimate


@dataclass
class Lab:
    """A world, its faults, and the machine over it; ``fresh`` is a new process that knows only the journal."""

    world: TwoChains
    folder: Path
    faults: Faults = field(default_factory=Faults)
    rules: TransferRules = field(default_factory=lambda: ROOMY)
    kill: str | None = None
    alarms: list = field(default_factory=list)
    busy: str = ""
    stopped: str | None = None

    def fresh(self, live: bool = True, log: TransferLog | None = None) -> TransferContext:
        ends, bridges = {}, {}
        fronts = tuple(Front(c, n, self.faults) for c, n in zip(self.world.chains, "ABC", strict=False))
        for i in self.world.all:
            ends[CHAINS[i]] = End(
                chain=self.world.rows[i],
                node=fronts[i],
                vault=SimulatedVault(self.world.specs[i], fronts[i]),
                address=self.world.specs[i].address,
                cash=self.world.specs[i].tokens[0],
                sender=KEEPER,
                channel=fronts[i],
                estimate=estimator(self.world, i, self.faults),
                signer=SimSigner(KEEPER),
                busy=lambda: self.busy,
            )
            for order in ((i, to) for to in self.world.all if to != i):
                sides = SimEnds(tuple(fronts[k] for k in order), tuple(self.world.rows[k] for k in order))
                bridges[self.world.kind, CHAINS[i], CHAINS[order[1]]] = SimulatedBridge(
                    self.world.kind, sides, self.world.attesters[i]
                )
        log = log or TransferLog(self.folder / "transfers.jsonl")
        return TransferContext(
            ends, bridges, log, self.rules, live, told=self.tell, checkpoint=self.at, halted=lambda: self.stopped
        )

    def tell(self, name: str, saga_id: str, words: str) -> None:
        self.alarms.append((name, words))

    def at(self, stage: str) -> None:
        if self.kill == stage:
            self.kill = None
            raise Killed(stage)

    def wish(self, dollars: int = 1_000, origin: int = 0, **more) -> Wish:
        amount = more.pop("amount", dollars * 10 ** self.world.decimals[origin])
        route = more.pop("route", 1)
        to = self.world.to(origin, route)
        return Wish(self.world.kind, CHAINS[origin], CHAINS[to], route, amount, "cash is wanted there", **more)

    def plan(self, dollars: int = 1_000, origin: int = 0, **more) -> PlannedTransfer:
        ctx = self.fresh()
        with ctx.log.lease():
            return plan_transfer(ctx, self.wish(dollars, origin, **more))

    def look(self) -> tuple:
        """One run of the scheduler: a fresh process looks at everything once."""
        ctx = self.fresh()
        with ctx.log.lease():
            return look_at_all(ctx)

    def until(self, done, most: int = 60, mine: bool = True):
        """Look again and again, a block of each chain between, until ``done(saga)`` of the newest."""
        for _ in range(most):
            saga = self.look()[-1]
            if done(saga):
                return saga
            if mine:
                self.world.mine()
        raise AssertionError(f"after {most} looks it is {saga.state}: {saga.note} {self.alarms[-3:]}")


ROOMY = TransferRules(max_share=0.5, max_in_transit_share=0.9, max_bridge_day_share=0.9, quote_age_s=10**9)
"""Caps that stop no test but those about them."""


def made(tmp_path: Path, kind: str = "simulated-mint", decimals=(6, 6), fee_pips: int = 0, **rules) -> Lab:
    return Lab(TwoChains(kind, decimals, fee_pips), tmp_path, rules=replace(ROOMY, **rules))
