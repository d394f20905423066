"""The laws' worlds of Across' published pools and of an OFT over LayerZero's published endpoint, on local chains."""

from __future__ import annotations

from dataclasses import replace

from lake.evm import calldata
from policy.execution.bridges.base import Departure, Transfer, TransferQuote
from policy.localnet import across as ax
from policy.localnet.chain_pair import ChainPair
from policy.localnet.layerzero import LZ_OFT, OFT_ROUTE, SHARED_DECIMALS
from tests.transfers.real_chains import DECIMALS, CctpCase

FEE_PIPS = 500
DUST = 10 ** (DECIMALS - SHARED_DECIMALS)


def typed(item: dict) -> str:
    """The type of a parameter of a published interface, tuples spelt out."""
    if item["type"].startswith("tuple"):
        return "(" + ",".join(typed(c) for c in item["components"]) + ")" + item["type"][5:]
    return item["type"]


def signature(item: dict) -> str:
    """The signature of a function or event of a published interface."""
    return f"{item['name']}({','.join(typed(i) for i in item['inputs'])})"


class AcrossCase(CctpCase):
    """Across between our two vaults: a relayer fills, or the pool refunds."""

    kind, route = "across", ax.ACROSS_ROUTE
    relayed = True

    def __init__(self, pair: ChainPair) -> None:
        super().__init__(pair)
        self.bridge = pair.across()
        self.reset()

    def reset(self) -> None:
        """Let the quote service say what it said at first."""
        quotes = self.pair.quotes
        quotes.fee_pips, quotes.least, quotes.most, quotes.served = FEE_PIPS, 10**6, 10**12, True
        quotes.faults.clear()

    def transfer(self, dollars: int = 1_000, **changes) -> Transfer:
        """A transfer at the service's fee, that may be filled for an hour."""
        made = super().transfer(dollars, **changes)
        fee = -(-made.amount * FEE_PIPS // 10**6)
        until = self.pair.nets[1].node.head().time + 3_600
        made = replace(made, max_fee=fee, least=made.amount - fee, fill_deadline=until)
        return replace(made, **{k: v for k, v in changes.items() if k != "amount"})

    def deposit(self, transfer: Transfer) -> ax.Deposit:
        """The pool's own record of a transfer."""
        vault = self.vaults[0]
        head = self.pair.nets[0].node.head().number
        [left] = [d for d in vault.departures(0, head) if d.saga_id == transfer.saga_id]
        [made] = [d for d in ax.deposits(self.pair.nets[0], vault.address) if d.tx_hash == left.tx_hash]
        return made

    def arrive(self, transfer: Transfer) -> None:
        assert ax.fill(self.pair.nets[1], self.deposit(transfer))
        self.pair.level()

    def deliver_again(self, transfer: Transfer, tx) -> None:
        assert tx is None
        assert not ax.fill(self.pair.nets[1], self.deposit(transfer))
        self.pair.level()

    def come_home(self, *transfers: Transfer) -> str:
        """Let the next bundle refund what expired, all of it in one."""
        done = ax.refund(self.pair.nets[0], [self.deposit(t) for t in transfers])
        self.pair.level()
        return "" if done else "the pool denied the refund"

    def pool(self, side: int) -> str:
        return self.pair.nets[side].world.extras[ax.POOL]

    def pause(self, side: int, *, on: bool = True) -> None:
        self.admin(side, self.pool(side), "pauseFills(bool)" if side else "pauseDeposits(bool)", on)

    def limit(self, amount: int) -> None:
        self.pair.quotes.least, self.pair.quotes.most = 1, amount

    def unmap(self) -> None:
        self.reset()
        self.pair.quotes.served = False


class OftCase(CctpCase):
    """An OFT between our two vaults: burnt here, verified, minted there by whoever executes the packet."""

    kind, route = "oft", OFT_ROUTE

    def __init__(self, pair: ChainPair) -> None:
        super().__init__(pair)
        self.bridge = pair.oft()
        self.pair.verifiers.since = [net.node.head().number for net in pair.nets]
        self.pair.verifiers.faults.clear()

    def transfer(self, dollars: int = 1_000, **changes) -> Transfer:
        """A transfer with what its messengers ask for."""
        made = super().transfer(dollars, **changes)
        quote = self.bridge.quote(made, made.since)
        native = quote.native_fee_wei if isinstance(quote, TransferQuote) else 0
        return replace(made, native_fee_wei=native, **{k: v for k, v in changes.items() if k == "native_fee_wei"})

    def departure(self, t: Transfer) -> Departure:
        return replace(super().departure(t), native_fee_wei=t.native_fee_wei)

    def finalize(self) -> None:
        """Blocks pass, and the verifiers vouch for what is final by then."""
        self.pair.mine(4)
        self.pair.verifiers.step()
        self.pair.level()
        self.pair.mine()

    def oft(self, side: int) -> str:
        return self.pair.nets[side].world.extras[LZ_OFT]

    def eid(self, side: int) -> int:
        return self.pair.oft(side).ends[0].eid

    def pause(self, side: int, *, on: bool = True) -> None:
        self.admin(side, self.oft(side), "set_paused(bool)", on)

    def limit(self, amount: int, inbound: int = 0) -> None:
        self.admin(0, self.oft(0), "set_limits(uint32,uint256,uint256)", self.eid(1), amount, 0)
        self.admin(1, self.oft(1), "set_limits(uint32,uint256,uint256)", self.eid(0), 0, inbound)

    def unmap(self) -> None:
        self.limit(0)
        self.admin(1, self.oft(1), "setPeer(uint32,bytes32)", self.eid(0), bytes(32))

    def approve(self, side: int, role: str) -> None:
        """Let ``role`` send by the OFT of a side."""
        data = calldata("approve(address,uint256)", self.oft(side), 2**255)
        self.pair.nets[side].send(role, self.cash, data)
        self.pair.mine()
