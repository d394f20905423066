"""The bridges of a portfolio's routes between vaults on their chains, each kind from its own contracts and service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lake.rpc import Rpc
from lake.universe import CCTP_MESSENGER, Chain
from pipelines.sections import BridgeSection
from pipelines.vault_setup.transfer_fleet import Fleet
from policy.execution.bridges.across import AcrossBridge, AcrossEnd
from policy.execution.bridges.across_api import AcrossApi
from policy.execution.bridges.attestations import CircleAttestations
from policy.execution.bridges.base import Bridge
from policy.execution.bridges.cctp import CctpBridge, CctpEnd, far_messenger, transmitter_of
from policy.execution.bridges.oft import OftBridge, OftEnd, endpoint_of, far_oft
from policy.execution.transfers.ends import RouteKey

LOCAL_CHAINS = frozenset({31_337, 31_338})


class Reached(Protocol):
    """One chain's nodes; ``second``: another operator's, where there are any."""

    @property
    def rpc(self) -> Rpc:
        """The nodes that are asked first."""
        ...

    @property
    def second(self) -> Rpc | None:
        """Another operator's nodes."""
        ...

    @property
    def chain(self) -> Chain:
        """The chain's row."""
        ...


def bridges_of(fleet: Fleet, places: Mapping[int, Reached], *, second: bool) -> dict[RouteKey, Bridge]:
    """Return the bridge of every route; ``second``: over other operators' nodes, of the routes that have any."""
    out: dict[RouteKey, Bridge] = {}
    for b in fleet.shared.bridges:
        near, far = places[b.origin], places[b.destination]
        if second and near.second is None and far.second is None:
            continue
        here, there = (p.second if second and p.second is not None else p.rpc for p in (near, far))
        out[fleet.key(b)] = _bridge(fleet, b, (here, near.chain), (there, far.chain))
    return out


def _bridge(fleet: Fleet, b: BridgeSection, near: tuple[Rpc, Chain], far: tuple[Rpc, Chain]) -> Bridge:
    """Return one route's bridge; what a setting does not name is asked of the contracts it does."""
    if b.kind == "across":
        ends = AcrossEnd(*near, str(b.contract)), AcrossEnd(*far, str(b.contract_there))
        return AcrossBridge(ends, quotes_of(fleet))
    if b.kind == "oft":
        oft = str(b.contract)
        peer = far_oft(near[0], oft, far[1])
        return OftBridge((OftEnd(*near, oft, endpoint_of(near[0], oft)), OftEnd(*far, peer, endpoint_of(far[0], peer))))
    messenger = b.messenger or CCTP_MESSENGER
    there = far_messenger(near[0], messenger, far[1])
    return CctpBridge(
        (
            CctpEnd(*near, messenger, transmitter_of(near[0], messenger)),
            CctpEnd(*far, there, transmitter_of(far[0], there)),
        ),
        attestations_of(fleet),
    )


def attestations_of(fleet: Fleet) -> CircleAttestations:
    """Return Circle's attestation service as set; between local chains it may be one of this machine."""
    return CircleAttestations(fleet.shared.transfers.attestations, local=set(fleet.members) <= LOCAL_CHAINS)


def quotes_of(fleet: Fleet) -> AcrossApi:
    """Return Across' quote service as set; between local chains it may be one of this machine."""
    return AcrossApi(fleet.shared.transfers.across, local=set(fleet.members) <= LOCAL_CHAINS)
