"""The execution context for a vault on a chain: node, adapter, pools, signer and channels from the deployment."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from lake.errors import ConfigError
from lake.evm import Call, read
from lake.rpc import Rpc, mask
from lake.sources.oracles import ROUND
from lake.units import duration
from lake.universe import chain
from pipelines.auctions_section import AuctionsSection
from pipelines.servers.phrase import passphrase
from pipelines.settlements.halting import halt_of
from pipelines.settlements.reconcile import journal_of
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.context_parts import keystore, limits_of, portfolio_of, rule_of, view_of
from pipelines.vault_setup.decider import Choice
from pipelines.vault_setup.proxies import look
from pipelines.wiring import operators, rpc_of
from policy.auction_cost import Fillers
from policy.execution.auctions.order_books import OrderBooks, books_at
from policy.execution.auctions.orders import VenueKind
from policy.execution.auctions.terms import AuctionTerms
from policy.execution.base import Snapshot, Vault
from policy.execution.checks.feed_rounds import recent_rounds
from policy.execution.checks.guards import OracleEvidence
from policy.execution.context import EngineContext
from policy.execution.probes.twap import averages
from policy.execution.records.audit import Audit
from policy.execution.routing.pool_reader import TradedPool, describe_pools, read_pools
from policy.execution.submission.channels import (
    BundleChannel,
    Channel,
    PrivateChannel,
    PublicChannel,
    ShareChannel,
    SignedRelay,
)
from policy.execution.submission.node import BlockHeader, JsonNode
from policy.execution.submission.quorum import Testimony, Witness
from policy.execution.submission.signer import ExternalSigner, KeystoreSigner, keystore_address, plain_http
from policy.execution.vaults.reference.adapter import ReferenceVault

LOCAL_CHAINS = frozenset({31_337, 31_338})  # their blocks carry replayed time, so the chain's clock is the clock
POLL_S = 1.0
HEARTBEAT_S = 90_000  # of a feed that is not listed: the daily one of most feeds, with an hour's slack


def open_onchain(deployment: VaultSettings, choice: Choice, *, live: bool) -> EngineContext:
    """Return the engine's context for the configured vault. Raises ConfigError naming what is missing."""
    rpc = rpc_of(deployment.chain)
    rpc.expect_chain(deployment.chain.id)
    node = JsonNode(rpc)
    signer = signer_of(deployment) if live else None
    vault = vault_of(deployment, rpc, signer)
    rows = [(p.address, p.venue, p.router or "") for p in deployment.sources.pools]
    if not rows:
        raise ConfigError("no pool to trade in: add [[sources.pools]] rows with address, venue, router and asset")
    infos = describe_pools(rpc, rows)
    snapshot = vault.snapshot()
    _same_assets(deployment, snapshot)
    heartbeats = {f.asset: int(duration(f.heartbeat).total_seconds()) for f in deployment.sources.feeds}
    held = zip(deployment.portfolio.assets, snapshot.tokens, strict=True)
    feeds = {token.address: rule_of(deployment, heartbeats.get(asset, HEARTBEAT_S), asset) for asset, token in held}
    limits = limits_of(deployment, feeds)
    sender = signer.address if signer is not None else keeper_of(deployment)

    def wait(head: BlockHeader) -> None:
        deadline = time.monotonic() + 10 * POLL_S
        while node.head().number <= head.number and time.monotonic() < deadline:
            if deployment.chain.id in LOCAL_CHAINS:
                rpc.call("evm_mine")
            else:
                time.sleep(POLL_S)

    return EngineContext(
        vault=vault, vault_address=str(deployment.vault.address), chain_id=deployment.chain.id, node=node,
        policy=choice.policy, portfolio=portfolio_of(deployment),
        view=lambda s: view_of(choice, s, evidence_of(deployment, rpc, infos, s), look(deployment, rpc, s)),
        pools=lambda s: read_pools(rpc, infos, s.block_hash), sender=sender,
        journal=journal_of(deployment), audit=Audit(deployment.path(deployment.vault.audit)),
        channels=channels_of(deployment, rpc), wait=wait, signer=signer, live=live, channel=deployment.vault.relay,
        limits=limits, clock=lambda: now_of(deployment, node), witnesses=witnesses_of(deployment, sender),
        auctions=auctions_of(deployment.vault.auctions),
        order_book=order_book_of(deployment.vault.auctions, deployment.chain.id), halted=halt_of(deployment).told,
        data_fee=data_fee_of(deployment.chain.id, rpc),
    )  # fmt: skip


def data_fee_of(chain_id: int, rpc: Rpc) -> Callable[[bytes], int] | None:
    """Return what asks an OP-stack chain's own contract what a transaction's bytes cost; None where it has none."""
    oracle = chain(chain_id).l1_fee_oracle
    if oracle is None:
        return None
    return lambda data: cast("int", read(rpc, [Call(oracle, "getL1Fee(bytes)", "uint256", (data,))], "latest")[0][0])


def auctions_of(given: AuctionsSection | None) -> AuctionTerms | None:
    """Return on what terms trades may be offered, None where [vault.auctions] is not set."""
    if given is None:
        return None
    return AuctionTerms(
        venues=tuple(VenueKind(v) for v in given.venues), start_bp=given.start_bp, decay_bp=given.decay_bp,
        floor_bp=given.floor_bp, slack_bp=given.slack_bp, lag_bp=given.oracle_lag_bp,
        min_saving_bp=given.min_saving_bp, fillers=Fillers(given.fillers, given.hedge_bp, given.margin_bp),
    )  # fmt: skip


def order_book_of(given: AuctionsSection | None, chain_id: int) -> OrderBooks | None:
    """Return the hosted order books that are configured; None: nothing is sent anywhere but to the chain."""
    return None if given is None else books_at(given.cow_api, given.uniswapx_api, chain_id)


def witnesses_of(deployment: VaultSettings, sender: str) -> tuple[Witness, ...]:
    """Return a witness for each operator of [chain] rpc_urls, which reads everything a decision rests on by itself."""
    return tuple(_witness(deployment, urls, sender) for urls in operators(deployment.chain).values())


def _witness(deployment: VaultSettings, urls: Sequence[str], sender: str) -> Witness:
    rpc = Rpc(urls, tries=6)  # enough for a block that the first node has and this one is about to get

    def testify(snapshot: Snapshot) -> Testimony:
        rpc.expect_chain(deployment.chain.id)
        node, rows = JsonNode(rpc), [(p.address, p.venue, p.router or "") for p in deployment.sources.pools]
        found = node.block_hash(snapshot.block_number)
        told = vault_of(deployment, rpc, None).snapshot(snapshot.block_hash)
        pools = read_pools(rpc, describe_pools(rpc, rows), snapshot.block_hash)
        return Testimony(found, told, tuple(pools), node.account_nonce(sender))

    return Witness(mask(urls[0]), testify)


def now_of(deployment: VaultSettings, node: JsonNode) -> datetime:
    """Return the present: the wall clock, or the local chain's own replayed time."""
    local = deployment.chain.id in LOCAL_CHAINS
    return datetime.fromtimestamp(node.head().time, UTC) if local else datetime.now(UTC)


def dry_vault(deployment: VaultSettings) -> Vault:
    """Return the adapter of the configured vault without a key."""
    return vault_of(deployment, rpc_of(deployment.chain), None)


def vault_of(deployment: VaultSettings, rpc: Rpc, signer: KeystoreSigner | ExternalSigner | None) -> Vault:
    """Return the adapter of the configured vault; a Safe's batches are signed by ``signer`` too."""
    if not deployment.vault.address:
        raise ConfigError("set [vault] address")
    if deployment.vault.kind == "enzyme":
        from pipelines.vault_setup.safe import enzyme_of

        return enzyme_of(deployment, rpc, keeper_of(deployment) if signer is None else signer.address)
    if deployment.vault.kind == "lagoon":
        from pipelines.vault_setup.lagoon import lagoon_of

        return lagoon_of(deployment, rpc, keeper_of(deployment) if signer is None else signer.address)
    if deployment.vault.kind == "safe":
        from pipelines.vault_setup.safe import safe_of

        return safe_of(deployment, rpc, keeper_of(deployment) if signer is None else signer.address, signer)
    return ReferenceVault(rpc, deployment.vault.address)


def evidence_of(deployment: VaultSettings, rpc: Rpc, pools: Sequence[TradedPool], snapshot: Snapshot) -> OracleEvidence:
    """Return what the chain tells of its oracle at the snapshot's block: pool averages, feed rounds, sequencer."""
    window_s = int(duration(deployment.mandate.average_window).total_seconds())
    found: dict[str, dict[str, int | None]] = {}
    for pool in averages(rpc, pools, snapshot, window_s, chain(deployment.chain.id).block_time_s):
        found.setdefault(pool.token, {})[f"{pool.window_s} s average of {pool.pool}"] = pool.price_e8
    rounds = recent_rounds(rpc, snapshot)
    return OracleEvidence(average_e8=found, rounds=rounds, sequencer=sequencer_of(deployment, rpc, snapshot))


def sequencer_of(deployment: VaultSettings, rpc: Rpc, snapshot: Snapshot) -> tuple[bool, int] | None:
    """Return (is up, since when) from the L2's uptime feed, None where none is configured.

    Answer 0 is up; a round starts when the answer changes, and is updated without a change too.
    """
    if deployment.chain.sequencer_feed is None:
        return None
    _, answer, started_at, *_ = read(
        rpc, [Call(deployment.chain.sequencer_feed, "latestRoundData()", ROUND)], snapshot.block_hash
    )[0]
    return answer == 0, cast("int", started_at)


def signer_of(deployment: VaultSettings) -> KeystoreSigner | ExternalSigner:
    """Return the keeper's signer: an encrypted keystore, or an external one."""
    if deployment.vault.signer_url is not None:
        return ExternalSigner(Rpc([deployment.vault.signer_url.get_secret_value()]), keeper_of(deployment))
    return keystore_signer(keystore(deployment))


def keeper_of(deployment: VaultSettings) -> str:
    """Return the keeper's address as configured, else as its keystore says; a dry run is simulated from it."""
    given = deployment.vault
    if given.keeper is not None:
        return given.keeper
    if given.keystore is not None and deployment.path(given.keystore).exists():
        return keystore_address(deployment.path(given.keystore))
    raise ConfigError("set [vault] keeper to the keeper's address (dry runs are simulated from it), or its keystore")


def channels_of(deployment: VaultSettings, rpc: Rpc) -> dict[str, Channel]:
    """Return the ways to hand a transaction over: the public pool, and the relay where one is configured."""
    found: dict[str, Channel] = {"public": PublicChannel(rpc)}
    given = deployment.vault
    if given.relay_url is not None:
        url = given.relay_url.get_secret_value()
        if plain_http(url):
            raise ConfigError(
                f"[vault] relay_url {mask(url)} is not encrypted: anyone on the way would see the trade before it "
                "lands; use the relay's https:// address"
            )
        identity = given.relay_identity
        relay = Rpc([url]) if identity is None else SignedRelay(url, keystore_signer(deployment.path(identity)))
        share = ShareChannel(relay, refund_percent=given.refund_percent, refund_to=given.refund_to)
        found |= {"private": PrivateChannel(relay), "bundle": BundleChannel(relay), "share": share}
    return found


def keystore_signer(path: Path) -> KeystoreSigner:
    """Return the signer of a keystore file; its passphrase is the environment's. ConfigError where there is none."""

    def secret() -> str:
        found = passphrase()
        if found is None:
            raise ConfigError(f"{path.name} needs its passphrase in FOREDRIFT_PASSPHRASE or FOREDRIFT_PASSPHRASE_FILE")
        return found

    return KeystoreSigner(path, secret)


def _same_assets(deployment: VaultSettings, snapshot: Snapshot) -> None:
    held = tuple(t.symbol for t in snapshot.tokens)
    if len(held) != len(deployment.portfolio.assets):
        raise ConfigError(
            f"the vault holds {', '.join(held)}; [portfolio] assets must list one asset per token, in that order, "
            f"got {', '.join(deployment.portfolio.assets)}"
        )
