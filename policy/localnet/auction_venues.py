"""The venues that fill a vault's orders, on a local chain: CoW's settlement, Permit2 and two UniswapX reactors.

All are the published bytecode (``@cowprotocol/contracts``, ``@uniswap/uniswapx-sdk``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from lake.evm import Call, read
from lake.rpc import Rpc
from policy.execution.auctions.orders import ZERO, Domains, Venues
from policy.localnet.accounts import dev_accounts
from policy.localnet.deploy import Deployer

BIDDERS = ("searcher", "trader", "provider")
"""Accounts that fill orders out of their own money on a local chain."""


def deploy_venues(on: Deployer, solvers: Sequence[str]) -> Venues:
    """Deploy every venue; ``solvers`` are the accounts CoW's settlement takes batches from."""
    me = dev_accounts()["deployer"].address
    listed = on.package("GPv2AllowListAuthentication")
    on.call("deployer", listed, "initializeManager(address)", me)
    settlement = on.package("GPv2Settlement", ["address", "address"], [listed, ZERO])
    for solver in solvers:
        on.call("deployer", listed, "addSolver(address)", solver)
    permit2 = on.package("Permit2")
    dutch, priority = (
        on.package(name, ["address", "address"], [permit2, me])
        for name in ("ExclusiveDutchOrderReactor", "PriorityOrderReactor")
    )
    return Venues(settlement, permit2, dutch, priority)


def domains_of(rpc: Rpc, venues: Venues, block: str = "latest") -> Domains:
    """Return the EIP-712 domain separators of ``venues``."""
    asks = [
        Call(venues.settlement, "domainSeparator()", "bytes32"),
        Call(venues.permit2, "DOMAIN_SEPARATOR()", "bytes32"),
    ]
    (cow,), (permit2,) = cast("list[tuple[bytes]]", read(rpc, asks, block))
    return Domains(cow, permit2)
