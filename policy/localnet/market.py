"""The local market in one piece: node, front, world and bots, started in under a second and gone without a trace."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from eth_account import Account

from lake.errors import ExecutionError
from lake.evm import BlockHeader
from lake.rpc import Rpc, quantity
from lake.units import WEI_PER_GWEI
from policy.localnet.accounts import BUILDER_WEI, DevAccount, builder, dev_accounts
from policy.localnet.anvil import Anvil
from policy.localnet.arbitrageur import Arbitrageur
from policy.localnet.deploy import Deployer
from policy.localnet.faults import Faults
from policy.localnet.front import Front
from policy.localnet.node import LocalNode, node_for
from policy.localnet.replay import RecordedBlock, shown
from policy.localnet.world import GENESIS, Extra, World, prepared, spec_for

SHOWN_BLOCKS = 1_024  # of a replay: older ones have the local chain's own gas used and limit again


@dataclass(frozen=True, slots=True)
class Localnet:
    """A running local market. ``url`` is what a program under test is given; ``node_url`` goes round the front."""

    url: str
    node_url: str
    chain_id: int
    world: World = field(repr=False)
    accounts: Mapping[str, DevAccount] = field(repr=False)
    rpc: Rpc = field(repr=False)
    node: LocalNode = field(repr=False)
    front: Front = field(repr=False)
    arbitrageur: Arbitrageur = field(repr=False)
    deployer: Deployer = field(repr=False)
    anvil: Anvil = field(repr=False)

    @property
    def faults(self) -> Faults:
        """What goes wrong between a program and the node."""
        return self.front.faults

    def listen(self, port: int = 0) -> str:
        """Open the websocket face of the front; return its URL."""
        return self.front.listen(port)

    def mine(self, blocks: int = 1, seconds: int | None = None, base_fee_wei: int | None = None) -> BlockHeader:
        """Build ``blocks`` blocks ``seconds`` apart (12 where not said); return the newest."""
        return self.node.mine(blocks, seconds, base_fee_wei)

    def advance_prices(
        self,
        prices: Mapping[str, float],
        *,
        gas_gwei: float | None = None,
        at: datetime | None = None,
        pools: bool = True,
    ) -> BlockHeader:
        """Move the market to USD ``prices`` by asset: feeds are posted, and (``pools``) the arbitrageur trades.

        The block is mined at time ``at`` (later than the last; else 12 s on) with a base fee of ``gas_gwei`` if given.
        """
        return self.arbitrageur.advance(prices, gas_gwei=gas_gwei, at=at, pools=pools)

    def replay(self, block: RecordedBlock, prices: Mapping[str, float] | None = None) -> BlockHeader:
        """Build a block of a recorded one's time, base fee and fullness, at ``prices`` where given; return it.

        The front shows the recording's gas used and limit, so that the next base fee follows from the header as it did.
        Raises ExecutionError when the block is not later than the newest.
        """
        head = self.node.head()
        if block.time <= head.time:
            raise ExecutionError(f"block time {block.at} is not after the newest block's ({head.time})")
        self.front.shown[head.number + 1] = shown(block)
        self.front.shown.pop(head.number + 1 - SHOWN_BLOCKS, None)
        if prices:
            return self.advance_prices(prices, gas_gwei=block.base_fee_wei / WEI_PER_GWEI, at=block.at)
        return self.node.mine(1, block.time - head.time, block.base_fee_wei)

    def snapshot(self) -> str:
        """Save chain and pool; return the id for :meth:`revert`."""
        return self.node.snapshot()

    def revert(self, saved: str) -> None:
        """Go back to a snapshot, which is used up by it."""
        if not self.node.revert(saved):
            raise ExecutionError(f"there is no snapshot {saved}; one that was reverted to, or past, is gone")

    def reorg(self, depth: int, drop: Sequence[str] = ()) -> list[str]:
        """Replace the newest ``depth`` blocks by empty ones; return the freed transactions' hashes (see Node.reorg)."""
        return self.node.reorg(depth, drop)

    def send(self, role: str, to: str, data: bytes | str, *, value: int = 0, gas: int = 1_500_000, **bid: int) -> str:
        """Sign as ``role`` and send over the front; return the hash. ``bid``: tip_wei, cap_wei, nonce, private=1."""
        tip, cap = bid.get("tip_wei", WEI_PER_GWEI), bid.get("cap_wei", 0)
        account = self.accounts[role]
        count = self.rpc.call("eth_getTransactionCount", [account.address, "pending"])
        fields = {
            "type": 2,
            "chainId": self.chain_id,
            "nonce": bid.get("nonce", quantity(count)),
            "to": to,
            "value": value,
            "data": data,
            "gas": gas,
            "maxFeePerGas": cap or 2 * self.node.next_base_fee() + tip,
            "maxPriorityFeePerGas": tip,
        }
        raw = "0x" + bytes(Account.sign_transaction(fields, account.key).raw_transaction).hex()
        if bid.get("private"):
            return str(self.rpc.call("eth_sendPrivateTransaction", [{"tx": raw}]))
        return str(self.rpc.call("eth_sendRawTransaction", [raw]))

    def receipt(self, tx_hash: str) -> dict[str, object] | None:
        """Return the receipt of a mined transaction, None while there is none."""
        found = self.rpc.call("eth_getTransactionReceipt", [tx_hash])
        return found if isinstance(found, dict) else None


@contextmanager
def start(
    prices: Mapping[str, float] | None = None,
    chain_id: int = 31_337,
    *,
    depths: Mapping[str, float] | None = None,
    extras: Sequence[Extra] = (),
    at: datetime | None = None,
    gas_gwei: float = 1.0,
    port: int = 0,
    cache: Path | None = None,
) -> Iterator[Localnet]:
    """Run a local market for the length of a ``with`` block.

    ``prices`` are USD by asset, ``depths`` one-sided USD to a 1 % move by asset (from pool_state); ``extras`` are
    further contracts; ``at`` sets the clock (now where not given), ``gas_gwei`` the base fee, ``port`` where the
    front listens (0: any free port). The first start of a
    world builds it (2 s), later ones load it. Raises NoNode without Node.js.
    """
    world, state = prepared(spec_for(prices, depths, chain_id), extras, cache)
    with Anvil(chain_id, timestamp=GENESIS, state=state, cache=cache) as anvil:
        anvil.rpc.call("anvil_setCoinbase", [builder().address])
        anvil.rpc.call("anvil_setBalance", [builder().address, hex(BUILDER_WEI)])
        node = node_for(anvil.rpc, chain_id)
        front = Front(node, port=port)
        try:
            moment = int(time.time() if at is None else at.timestamp())
            head = node.head()
            if moment <= head.time:
                raise ExecutionError(f"the local chain starts after {head.time} (Unix), asked for {moment}")
            rpc = Rpc(front.url, timeout=30)
            arbitrageur = Arbitrageur(node, world)
            usd = {a: float(p) for a, p in spec_for(prices).prices.items()}
            arbitrageur.advance(usd, gas_gwei=gas_gwei, at=datetime.fromtimestamp(moment, UTC), pools=False)
            yield Localnet(
                url=front.url,
                node_url=anvil.url,
                chain_id=chain_id,
                world=world,
                accounts=dev_accounts(),
                rpc=rpc,
                node=node,
                front=front,
                arbitrageur=arbitrageur,
                deployer=Deployer(anvil.rpc, cache),
                anvil=anvil,
            )
        finally:
            front.close()
