"""Two local chains with a vault of ours on each and bridges between them, ready in under a second from saved states."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from lake.universe import chain
from policy.execution.bridges.across import AcrossBridge, AcrossEnd
from policy.execution.bridges.cctp import CctpBridge, CctpEnd
from policy.execution.bridges.oft import OftBridge, OftEnd
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.localnet.across import POOL, across
from policy.localnet.across_quotes import LocalQuotes, asked_in_process
from policy.localnet.attester import LocalAttester
from policy.localnet.bridges import CHAIN_IDS, MESSENGER, TRANSMITTER, PortLimits, bridged, later
from policy.localnet.layerzero import ENDPOINT, LZ_OFT, Verifiers, layerzero
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import reference_vault
from policy.localnet.world import NUMERAIRE, prepared, spec_for

PRICES = {"ETH": 1_500.0}
TARGETS = {NUMERAIRE: 5_000, "ETH": 5_000}
DEPOSIT_USD = 1_000_000


@dataclass(frozen=True, slots=True)
class ChainPair:
    """The two markets, origin side first; who vouches for what left by CCTP and LayerZero, and quotes for Across."""

    nets: tuple[Localnet, Localnet]
    attester: LocalAttester = field(repr=False)
    verifiers: Verifiers = field(repr=False)
    quotes: LocalQuotes = field(repr=False)

    def vault(self, side: int) -> ReferenceVault:
        """Return the adapter of our vault on a side, over that chain's front."""
        return ReferenceVault(self.nets[side].rpc, self.nets[side].world.extras["vault"])

    def cctp(self, origin: int = 0) -> CctpBridge:
        """Return the CCTP route that begins on ``origin``."""
        near, far = (self._end(s) for s in (origin, 1 - origin))
        return CctpBridge((near, far), self.attester)

    def across(self, origin: int = 0) -> AcrossBridge:
        """Return the Across route that begins on ``origin``."""
        near, far = (
            AcrossEnd(self.nets[s].rpc, chain(CHAIN_IDS[s]), self.nets[s].world.extras[POOL])
            for s in (origin, 1 - origin)
        )
        return AcrossBridge((near, far), asked_in_process(self.quotes))

    def oft(self, origin: int = 0) -> OftBridge:
        """Return the OFT route that begins on ``origin``."""
        near, far = (
            OftEnd(net.rpc, chain(net.chain_id), net.world.extras[LZ_OFT], net.world.extras[ENDPOINT])
            for net in (self.nets[origin], self.nets[1 - origin])
        )
        return OftBridge((near, far))

    def mine(self, blocks: int = 1, seconds: int | None = None) -> None:
        """Make blocks on both chains, so that their clocks stay together."""
        for net in self.nets:
            net.mine(blocks, seconds)

    def level(self) -> None:
        """Make one block on the chain whose clock is behind, so that both tell the same time."""
        times = [net.node.head().time for net in self.nets]
        for net, time in zip(self.nets, times, strict=True):
            if time < max(times):
                net.mine(seconds=max(times) - time)

    def _end(self, side: int) -> CctpEnd:
        net = self.nets[side]
        found = net.world.extras
        return CctpEnd(net.rpc, chain(CHAIN_IDS[side]), found[MESSENGER], found[TRANSMITTER])


@contextmanager
def pair(
    at: datetime | None = None,
    *,
    limits: PortLimits | None = None,
    ports: tuple[int, int] = (0, 0),
    cache: Path | None = None,
) -> Iterator[ChainPair]:
    """Run both chains for the length of a ``with`` block; ``ports``: where the fronts listen (0: any free port)."""
    with ExitStack() as held:
        starts = []
        for side, chain_id in enumerate(CHAIN_IDS):
            extras = [later(side), reference_vault(TARGETS, deposit_usd=DEPOSIT_USD), bridged(side, limits)]
            extras += [across(side, limits), layerzero(side, limits)]
            prepared(spec_for(PRICES, chain_id=chain_id), extras, cache)  # built one after the other where it is not
            starts.append(start(PRICES, chain_id, extras=extras, at=at, port=ports[side], cache=cache))
        with ThreadPoolExecutor(len(starts)) as both:
            nets = first, second = tuple(both.map(held.enter_context, starts))
        served = {
            int(str(row.cctp_domain)): (net.deployer.rpc, net.world.extras[TRANSMITTER], row.final_blocks)
            for net, row in zip(nets, map(chain, CHAIN_IDS), strict=True)
        }
        quotes = {net.chain_id: (net.world.extras[POOL], net.world.token(NUMERAIRE).address) for net in nets}
        yield ChainPair((first, second), LocalAttester(served), Verifiers((first, second)), LocalQuotes(quotes))
