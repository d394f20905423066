"""Chains, tokens and venues as rows: what varies by chain is data here, never a branch elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from lake.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Chain:
    """Fee constants of one chain.

    ``elasticity`` and ``denominator`` are EIP-1559's ELASTICITY_MULTIPLIER and BASE_FEE_MAX_CHANGE_DENOMINATOR
    (L1: EIP-1559; OP-stack: Canyon upgrade, chain-configurable since Holocene). ``l1_*`` describe the data
    fee of a roll-up; None on L1. ``l2_gas_gwei`` is a typical execution price of a roll-up, used where its own
    history is not in the lake.
    """

    chain_id: int
    name: str
    native: str
    block_time_s: float
    elasticity: int
    denominator: int
    min_base_fee_wei: int = 0
    l1_chain_id: int | None = None
    l2_gas_gwei: float | None = None
    l1_scalar: float = 0.0
    l1_bytes_base: int = 0
    l1_bytes_per_leg: int = 0


CHAINS: dict[int, Chain] = {
    c.chain_id: c
    for c in (
        Chain(1, "ethereum", "ETH", 12.0, 2, 8),
        Chain(10, "optimism", "ETH", 2.0, 6, 250, 0, 1, 0.01, 0.684, 600, 320),
        Chain(8453, "base", "ETH", 2.0, 6, 250, 0, 1, 0.01, 0.684, 600, 320),
        Chain(42161, "arbitrum", "ETH", 0.25, 2, 8, 10_000_000, 1, 0.1, 0.684, 600, 320),
        Chain(31337, "local", "ETH", 12.0, 2, 8),
    )
}

STABLE = frozenset({"USD", "USDC", "USDT", "DAI"})
"""Assets whose price is 1 where no price history is given."""


def chain(chain_id: int) -> Chain:
    """Return the row of ``chain_id``; raises ConfigError with the known ids otherwise."""
    try:
        return CHAINS[chain_id]
    except KeyError:
        known = ", ".join(f"{c.chain_id} ({c.name})" for c in CHAINS.values())
        raise ConfigError(f"chain id {chain_id} is not known; known are {known}") from None
