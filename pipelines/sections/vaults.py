"""The chain, and the vault on it that is rebalanced."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.auctions_section import AuctionsSection
from pipelines.sections.base import Section
from pipelines.setting_types import Address, ChainId, Distinct, Name, PositiveDuration, SecretUrl

SHARED_JOURNAL = ".foredrift/journal"


class ChainSection(Section):
    """The settlement chain."""

    id: ChainId = Field(
        default=1, description="Number of the chain: 1 ethereum, 10 optimism, 8453 base, 42161 arbitrum, 31337 local."
    )
    rpc_urls: Annotated[tuple[SecretUrl, ...], Distinct] = Field(
        default=(), description="Nodes; the next is asked when one fails. They may hold keys, so they are never shown."
    )
    native: Name = Field(default="ETH", description="The asset that pays gas.")
    sequencer_feed: Address | None = Field(
        default=None, description="An L2's uptime feed; unset on L1, where none is asked."
    )
    history_id: ChainId | None = Field(
        default=None,
        description="Number of the chain whose recorded gas and pools stand for this one (a fork, a local chain).",
    )

    @property
    def history(self) -> int:
        """Chain id under which gas and pool history is found in the lake."""
        return self.history_id or self.id


class VaultSection(Section):
    """The vault that is rebalanced. ``simulated`` keeps its state in a file; the others live on ``[chain]``."""

    kind: Literal["simulated", "reference", "safe", "enzyme", "lagoon"] = Field(
        default="simulated", description="Kind of vault; docs/vaults.md compares them."
    )
    address: Address | None = Field(
        default=None,
        description="The vault's contract; enzyme: the fund's vault proxy; lagoon: the Safe that holds its assets.",
    )
    investors: Address | None = Field(
        default=None, description="lagoon: the ERC-7540 vault, whose holders come and go by request."
    )
    sign_nav: bool = Field(
        default=False, description="lagoon: `vault settle --live` may push valuations with the keeper's key."
    )
    nav_change_bps: int = Field(
        default=1_000, gt=0, le=10_000, description="lagoon: most a share's price may change in a day, basis points."
    )
    nav_pushed_bps: int = Field(
        default=100,
        gt=0,
        le=10_000,
        description="lagoon: most a pushed valuation may differ from our own, basis points.",
    )
    swapper: Address | None = Field(default=None, description="enzyme: the release's UniswapV3Adapter.")
    keeper: Address | None = Field(default=None, description="Address of the keeper, whose key signs.")
    multisend: Address | None = Field(default=None, description="safe: its chain's MultiSendCallOnly.")
    access: Literal["roles", "proposal", "owner-key-can-take-all"] = Field(
        default="roles", description="safe: who signs; see docs/vaults.md."
    )
    roles: Address | None = Field(default=None, description="safe, by roles: its Zodiac Roles v2 modifier.")
    unwrapper: Address | None = Field(
        default=None, description="safe, by roles: MultiSendUnwrapper, where it is not at its usual address."
    )
    allowance_bps: int = Field(
        default=1_000,
        gt=0,
        le=10_000,
        description="safe, by roles: sold of each token a day at most, basis points of NAV.",
    )
    proposal_life: PositiveDuration = Field(
        default="24h", description="safe, by proposal: how long its owners have to sign."
    )
    safe_service: SecretUrl | None = Field(
        default=None, description="safe, by proposal: its transaction service (its key: FOREDRIFT_SAFE_API_KEY)."
    )
    tokens: dict[Name, Address] = Field(
        default_factory=dict, description="safe, enzyme, lagoon: token by asset; their feeds: [[sources.feeds]]."
    )
    state: str = Field(default=".foredrift/vault.json", description="simulated: file of its state.")
    start: Literal["cash", "targets"] | tuple[float, ...] | None = Field(
        default=None,
        description='simulated: what it begins with, "cash", "targets" or weights; unset: cash where a dollar coin is '
        "held, else targets.",
    )
    keystore: str | None = Field(
        default=None, description="Encrypted keystore file; its passphrase: FOREDRIFT_PASSPHRASE_FILE."
    )
    signer_url: SecretUrl | None = Field(default=None, description="An external signer, instead of a keystore.")
    relay: Literal["auto", "public", "private", "bundle", "share"] = Field(
        default="auto", description="Channel of transactions; auto takes the cheapest that fits."
    )
    relay_url: SecretUrl | None = Field(default=None, description="Address of the private channel.")
    relay_identity: str | None = Field(
        default=None, description="Keystore of the key that signs relay requests: one of its own, without funds."
    )
    refund_percent: int = Field(
        default=90,
        ge=0,
        le=100,
        description="share: per cent of what a back-run bids that comes back; more leaves fewer back-runs.",
    )
    refund_to: Address | None = Field(default=None, description="share: who gets the refund; unset: the keeper.")
    auctions: AuctionsSection | None = Field(
        default=None, description="Offering trades to others; without it nothing is offered."
    )
    journal: str = Field(
        default=SHARED_JOURNAL,
        description="File of the plans in flight; not given on a chain: with chain id and address in its name.",
    )
    audit: str = Field(default=".foredrift/audit.jsonl", description="File of the record of every decision.")
