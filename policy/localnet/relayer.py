"""Who acts on local chains besides us: whoever delivers, fills, verifies and pays back, each as soon as it is due."""

from __future__ import annotations

from dataclasses import dataclass, field

from lake.evm import calldata
from policy.execution.bridges.attestations import Attested
from policy.execution.bridges.base import Departed
from policy.execution.bridges.cctp import RECEIVE
from policy.execution.bridges.oft import LZ_RECEIVE
from policy.execution.bridges.services import ServiceDown
from policy.localnet import across as ax
from policy.localnet.bridges import CCTP_ROUTE, CHAIN_IDS, TRANSMITTER
from policy.localnet.chain_pair import ChainPair
from policy.localnet.layerzero import ENDPOINT, LZ_OFT, OFT_ROUTE, executable

ROLE = "trader"
"""The development account that pays for deliveries."""


@dataclass
class Relayer:
    """Looks at what left both vaults and brings what is ready; ``since``: heights from which on it looks."""

    pair: ChainPair
    since: list[int] = field(default_factory=list)
    done: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.since = self.since or [net.node.head().number for net in self.pair.nets]

    def step(self) -> list[str]:
        """Do whatever is due, one block on the other chain each; return what was done in words."""
        said = []
        self.pair.verifiers.step()
        for side in (0, 1):
            net = self.pair.nets[side]
            left = self.pair.vault(side).departures(self.since[side], net.node.head().number)
            for made in left:
                if made.tx_hash in self.done:
                    continue
                bring = {CCTP_ROUTE: self._deliver, ax.ACROSS_ROUTE: self._fill, OFT_ROUTE: self._execute}[made.route]
                words = bring(side, made)
                if words:
                    self.done.add(made.tx_hash)
                    said.append(f"{made.amount} raw units of {CHAIN_IDS[side]} {words} (transfer {made.saga_id[:12]})")
        return said

    def _deliver(self, side: int, made: Departed) -> str:
        """Bring a burn's message once it is attested."""
        domain = self.pair.cctp(side).ends[0].domain
        try:
            ready = [a for a in self.pair.attester.of(domain, made.tx_hash) if a.signatures]
        except ServiceDown:
            return ""
        return self._there(side) if ready and all(self._send(1 - side, a) for a in ready) else ""

    def _fill(self, side: int, made: Departed) -> str:
        """Fill a deposit; pay one back whose deadline has passed on the other chain."""
        near, far = self.pair.nets[side], self.pair.nets[1 - side]
        found = [d for d in ax.deposits(near, self.pair.vault(side).address, made.block) if d.tx_hash == made.tx_hash]
        if not found:
            return ""
        if far.node.head().time <= found[0].relay.fill_deadline:
            return self._there(side) if ax.fill(far, found[0]) else ""
        return "came home" if ax.refund(near, found) else ""

    def _execute(self, side: int, made: Departed) -> str:
        """Execute a packet once it is verified, as the paid executor does."""
        near, far = self.pair.nets[side], self.pair.nets[1 - side]
        packet = executable(near, far, made)
        if packet is None:
            return ""
        data = calldata(LZ_RECEIVE, packet.origin, far.world.extras[LZ_OFT], packet.guid, packet.message, b"")
        return self._there(side) if self._sent(1 - side, far.world.extras[ENDPOINT], data) else ""

    def _there(self, side: int) -> str:
        return f"arrived on {CHAIN_IDS[1 - side]}"

    def _send(self, side: int, attested: Attested) -> bool:
        to = self.pair.nets[side].world.extras[TRANSMITTER]
        return self._sent(side, to, calldata(RECEIVE, attested.message, attested.signatures))

    def _sent(self, side: int, to: str, data: bytes) -> bool:
        net = self.pair.nets[side]
        sent = net.send(ROLE, to, data)
        net.mine()
        receipt = net.receipt(sent)
        return receipt is not None and receipt["status"] == "0x1"
