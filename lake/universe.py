"""Chains, tokens and venues as rows: what varies by chain is data here, never a branch elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lake.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Chain:
    """Fee constants of one chain.

    ``elasticity`` and ``denominator`` are EIP-1559's ELASTICITY_MULTIPLIER and BASE_FEE_MAX_CHANGE_DENOMINATOR
    (L1: EIP-1559; OP-stack: Canyon upgrade, chain-configurable since Holocene). ``l1_*`` describe the data
    fee of a roll-up; None on L1. ``l2_gas_gwei`` is a typical execution price of a roll-up, used where its own
    history is not in the lake.

    ``finality``: what makes a block final for a transfer that left in it, the ``finalized`` tag or a depth of
    ``final_blocks``. ``safe_blocks``: depth at which an arrival is believed. ``usual_final_s``: seconds until one is
    final, as documented. ``sequencer_feed``: Chainlink's uptime feed of a roll-up; ``l1_fee_oracle``: contract that
    prices a transaction's data. ``cctp_domain`` and ``lz_eid``: the chain's number at Circle's and LayerZero's
    protocols.
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
    finality: Literal["depth", "tag"] = "tag"
    final_blocks: int = 64
    safe_blocks: int = 3
    usual_final_s: float = 960.0
    sequencer_feed: str | None = None
    l1_fee_oracle: str | None = None
    cctp_domain: int | None = None
    lz_eid: int | None = None


OP_GAS_ORACLE = "0x420000000000000000000000000000000000000F"
"""GasPriceOracle, a predeploy of every OP-stack chain."""

CCTP_MESSENGER = "0x28b5a0e9C621a5BadaA536219b3a228C8168cf5d"
"""Circle's TokenMessengerV2, the same on every chain of this list that has a domain."""

CHAINS: dict[int, Chain] = {
    c.chain_id: c
    for c in (
        Chain(1, "ethereum", "ETH", 12.0, 2, 8, cctp_domain=0, lz_eid=30101),
        Chain(
            10,
            "optimism",
            "ETH",
            2.0,
            6,
            250,
            0,
            1,
            0.01,
            0.684,
            600,
            320,
            safe_blocks=15,
            usual_final_s=1_140.0,
            sequencer_feed="0x371EAD81c9102C9BF4874A9075FFFf170F2Ee389",
            l1_fee_oracle=OP_GAS_ORACLE,
            cctp_domain=2,
            lz_eid=30111,
        ),
        Chain(
            8453,
            "base",
            "ETH",
            2.0,
            6,
            250,
            0,
            1,
            0.01,
            0.684,
            600,
            320,
            safe_blocks=15,
            usual_final_s=1_140.0,
            sequencer_feed="0xBCF85224fc0756B9Fa45aA7892530B47e10b6433",
            l1_fee_oracle=OP_GAS_ORACLE,
            cctp_domain=6,
            lz_eid=30184,
        ),
        Chain(
            42161,
            "arbitrum",
            "ETH",
            0.25,
            2,
            8,
            10_000_000,
            1,
            0.1,
            0.684,
            600,
            320,
            safe_blocks=80,
            usual_final_s=1_140.0,
            sequencer_feed="0xFdB631F5EE196F0ed6FAa767959853A9F217697D",
            cctp_domain=3,
            lz_eid=30110,
        ),
        Chain(11155111, "sepolia", "ETH", 12.0, 2, 8),
        Chain(
            84532,
            "base-sepolia",
            "ETH",
            2.0,
            6,
            250,
            0,
            11155111,
            0.01,
            0.684,
            600,
            320,
            safe_blocks=15,
            l1_fee_oracle=OP_GAS_ORACLE,
        ),
        Chain(
            31337,
            "local",
            "ETH",
            12.0,
            2,
            8,
            finality="depth",
            final_blocks=3,
            safe_blocks=1,
            usual_final_s=36.0,
            cctp_domain=100,
            lz_eid=40337,
        ),
        Chain(
            31338,
            "local-2",
            "ETH",
            12.0,
            2,
            8,
            finality="depth",
            final_blocks=3,
            safe_blocks=1,
            usual_final_s=36.0,
            cctp_domain=101,
            lz_eid=40338,
        ),
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


@dataclass(frozen=True, slots=True)
class Representation:
    """One token of an asset on one chain: an issuer's claim with its own address and decimals.

    Two rows of one asset and issuer are one asset for weights, exchangeable after a transfer with its delay and cost; a
    token of another issuer (USDC.e, USDT0) is an asset of its own and never a row of this one.
    """

    asset: str
    chain_id: int
    address: str
    decimals: int
    issuer: str


REPRESENTATIONS: tuple[Representation, ...] = (
    Representation("USDC", 1, "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", 6, "circle"),
    Representation("USDC", 10, "0x0b2C639c533813f4Aa9D7837CAf62653d097Ff85", 6, "circle"),
    Representation("USDC", 8453, "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", 6, "circle"),
    Representation("USDC", 42161, "0xaf88d065e77c8cC2239327C5EDb3A432268e5831", 6, "circle"),
    Representation("USDC.e", 10, "0x7F5c764cBc14f9669B88837ca1490cCa17c31607", 6, "bridged"),
    Representation("USDC.e", 42161, "0xFF970A61A04b1cA14834A43f5dE4533eBDDB5CC8", 6, "bridged"),
)
"""Known tokens by address; what no row names is known by what the owner's settings say of it."""


def representation(chain_id: int, address: str) -> Representation | None:
    """Return the row of the token at ``address`` (any case of letters), None where none is known."""
    wanted = address.lower()
    return next((r for r in REPRESENTATIONS if r.chain_id == chain_id and r.address.lower() == wanted), None)


@dataclass(frozen=True, slots=True)
class BridgeRow:
    """A kind of bridge: what it does with money that cannot be delivered, and how long it takes as documented.

    ``refund``: ``origin`` where an expired transfer comes home; ``none`` where a message stays deliverable for ever.
    ``usual_s`` is counted from the departure's finality (CCTP, OFT) or from the departure (Across).
    """

    kind: str
    name: str
    refund: Literal["none", "origin"]
    receive: Literal["anyone", "relayer"]
    usual_s: float
    overdue_s: float
    wait_final: bool = True


BRIDGES: dict[str, BridgeRow] = {
    b.kind: b
    for b in (
        BridgeRow("cctp", "Circle CCTP v2", "none", "anyone", 60.0, 2_400.0),
        BridgeRow("across", "Across v3", "origin", "relayer", 10.0, 21_600.0, wait_final=False),
        BridgeRow("oft", "LayerZero OFT", "none", "anyone", 180.0, 7_200.0),
        BridgeRow("simulated-mint", "simulated burn and mint", "none", "anyone", 60.0, 2_400.0),
        BridgeRow("simulated-fill", "simulated relayer's fill", "origin", "relayer", 10.0, 21_600.0, wait_final=False),
        BridgeRow("simulated-message", "simulated message", "none", "anyone", 180.0, 7_200.0),
    )
}


def bridge(kind: str) -> BridgeRow:
    """Return the row of ``kind``; raises ConfigError with the known kinds otherwise."""
    try:
        return BRIDGES[kind]
    except KeyError:
        raise ConfigError(f"bridge kind {kind!r} is not known; known are {', '.join(BRIDGES)}") from None
