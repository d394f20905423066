"""Who delivers on local chains: anybody may, so somebody does, as soon as a departure is attested."""

from __future__ import annotations

from dataclasses import dataclass, field

from lake.evm import calldata
from policy.execution.bridges.attestations import Attested, ServiceDown
from policy.execution.bridges.cctp import RECEIVE
from policy.localnet.bridges import CHAIN_IDS, TRANSMITTER
from policy.localnet.chain_pair import ChainPair

ROLE = "trader"
"""The development account that pays for deliveries."""


@dataclass
class Relayer:
    """Looks at what left both vaults and delivers what is attested; ``since``: heights from which on it looks."""

    pair: ChainPair
    since: list[int] = field(default_factory=list)
    done: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.since = self.since or [net.node.head().number for net in self.pair.nets]

    def step(self) -> list[str]:
        """Deliver whatever is ready, one block on the other chain each; return what was done in words."""
        said = []
        for side in (0, 1):
            net = self.pair.nets[side]
            left = self.pair.vault(side).departures(self.since[side], net.node.head().number)
            for made in left:
                if made.tx_hash not in self.done and self._deliver(side, made.tx_hash):
                    self.done.add(made.tx_hash)
                    words = f"{made.amount} raw units of {CHAIN_IDS[side]} arrived on {CHAIN_IDS[1 - side]}"
                    said.append(f"{words} (transfer {made.saga_id[:12]})")
        return said

    def _deliver(self, side: int, tx_hash: str) -> bool:
        domain = self.pair.cctp(side).ends[0].domain
        try:
            ready = [a for a in self.pair.attester.of(domain, tx_hash) if a.signatures]
        except ServiceDown:
            return False
        return bool(ready) and all(self._send(1 - side, a) for a in ready)

    def _send(self, side: int, attested: Attested) -> bool:
        net = self.pair.nets[side]
        to = net.world.extras[TRANSMITTER]
        data = calldata(RECEIVE, attested.message, attested.signatures)
        sent = net.send(ROLE, to, data)
        net.mine()
        receipt = net.receipt(sent)
        return receipt is not None and receipt["status"] == "0x1"
