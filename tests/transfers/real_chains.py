"""The laws' world of an adapter over two local chains with the contracts in place."""

from __future__ import annotations

from dataclasses import replace

from lake.errors import RpcError
from lake.evm import Call, calldata, read
from policy.execution.bridges.base import Departure, Side, Transfer
from policy.execution.bridges.cctp import CctpEnd
from policy.localnet.bridges import CCTP_ROUTE, CONNECT, MESSENGER, TRANSMITTER, USD
from policy.localnet.chain_pair import ChainPair

DECIMALS = 6


class CctpCase:
    """CCTP's double between our two vaults."""

    kind, route = "cctp", CCTP_ROUTE
    decimals = (DECIMALS, DECIMALS)
    relayed = False

    def __init__(self, pair: ChainPair) -> None:
        self.pair = pair
        self.bridge = pair.cctp()
        self.vaults = (pair.vault(0), pair.vault(1))
        self._sagas = 0

    @property
    def cash(self) -> str:
        """The token's address, the same on both chains."""
        return self.pair.nets[0].world.token("USDC").address

    def transfer(self, dollars: int = 1_000, **changes) -> Transfer:
        self._sagas += 1
        heads = [net.node.head() for net in self.pair.nets]
        sides = [
            Side(net.chain_id, vault.address, net.world.token("USDC").address, DECIMALS)
            for net, vault in zip(self.pair.nets, self.vaults, strict=True)
        ]
        amount = changes.pop("amount", dollars * USD)
        nonce = self.vaults[0].snapshot().plan_nonce
        made = Transfer(
            f"0x{self._sagas:064x}", self.kind, "USDC", *sides, self.route, amount, 0, amount, nonce,
            heads[0].time + 1_800, (heads[0].number, heads[1].number),
        )  # fmt: skip
        return replace(made, **changes)

    def departure(self, t: Transfer) -> Departure:
        return Departure(t.route, t.amount, t.max_fee, t.nonce, t.deadline, t.saga_id, t.speed, t.fill_deadline)

    def departed(self, **changes) -> Transfer:
        """A transfer whose departure is final."""
        transfer = self.transfer(**changes)
        self.depart(transfer)
        self.finalize()
        return transfer

    def depart(self, transfer: Transfer) -> str:
        tx = self.vaults[0].build_departure(self.departure(transfer))
        sent = self.pair.nets[0].send("keeper", tx.to, tx.data, value=tx.value)
        self.pair.mine()
        return sent

    def finalize(self) -> None:
        self.pair.mine(4)

    def pass_deadline(self) -> None:
        self.pair.mine(1, seconds=4_000)
        self.pair.mine(2)

    def arrive(self, transfer: Transfer) -> None:
        tx = self.bridge.deliver(transfer, self.bridge.find(transfer))
        assert tx is not None
        self.send(1, tx)

    def send(self, side: int, tx, gas: int = 500_000) -> int:
        """Send as a stranger and mine; return the receipt's status."""
        sent = self.pair.nets[side].send("trader", tx.to, tx.data, gas=gas)
        self.pair.mine()
        receipt = self.pair.nets[side].receipt(sent)
        assert receipt is not None
        return int(str(receipt["status"]), 16)

    def deliver_again(self, transfer: Transfer, tx) -> None:
        assert self.send(1, tx) == 0

    def come_home(self, transfer: Transfer) -> str:
        raise AssertionError("nothing comes home over CCTP")

    def reorg_origin(self, depth: int, *, keep: bool) -> None:
        net = self.pair.nets[0]
        block = net.rpc.call("eth_getBlockByNumber", ["latest", False])
        net.reorg(depth, [] if keep else [str(h) for h in block["transactions"]])  # type: ignore[index]
        self.pair.mine()

    def blind(self, side: int) -> None:
        ends = list(self.bridge.ends)
        ends[side] = replace(ends[side], rpc=Silent())
        self.bridge.ends = (ends[0], ends[1])

    def balances(self) -> tuple[int, int]:
        found = []
        for net, vault in zip(self.pair.nets, self.vaults, strict=True):
            found.append(
                int(str(read(net.rpc, [Call(self.cash, "balanceOf(address)", "uint256", (vault.address,))])[0][0]))
            )
        return found[0], found[1]

    def admin(self, side: int, to: str, signature: str, *args: object) -> None:
        """Send as the deployer, who owns the doubles."""
        net = self.pair.nets[side]
        sent = net.send("deployer", to, calldata(signature, *args))
        net.mine()
        receipt = net.receipt(sent)
        assert receipt is not None
        assert receipt["status"] == "0x1"

    def end(self, side: int) -> CctpEnd:
        return self.bridge.ends[side]

    def pause(self, side: int, *, on: bool = True) -> None:
        self.admin(side, self.pair.nets[side].world.extras[TRANSMITTER], "set_paused(bool)", on)

    def limit(self, amount: int) -> None:
        self._connect(0, amount)

    def unmap(self) -> None:
        self._connect(0, 10**6 * USD)
        self._connect(1, 10**6 * USD, remote="0x" + "99" * 20)
        cash = bytes(12) + bytes.fromhex(self.cash[2:])
        net = self.pair.nets[1]
        there = self.end(0).domain
        peer = bytes(12) + bytes.fromhex(self.end(0).messenger[2:])
        self.admin(1, net.world.extras[MESSENGER], CONNECT, there, peer, cash, "0x" + "0" * 40, 1)

    def _connect(self, side: int, most: int, remote: str | None = None) -> None:
        there = self.end(1 - side)
        words = [bytes(12) + bytes.fromhex(a[2:]) for a in (there.messenger, remote or self.cash)]
        self.admin(side, self.end(side).messenger, CONNECT, there.domain, *words, self.cash, most)


class Silent:
    """A node nobody reaches."""

    def call(self, *_: object, **__: object) -> object:
        raise RpcError("connection refused")

    batch = call
