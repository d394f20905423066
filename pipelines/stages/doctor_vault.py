"""The part of ``foredrift doctor`` about a reference vault: what is to be created, and what was, against the chain."""

from __future__ import annotations

from collections.abc import Iterator

from lake.errors import ForedriftError
from lake.networks.rows import Network, names, network
from lake.units import duration
from pipelines.deploy_section import DeploySection
from pipelines.stages.preflight import Fault
from pipelines.stages.vault_status import differences
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.ownership import people
from pipelines.wiring import rpc_of
from policy.execution.probes.preflight import Listed, pools_and_routers, tokens_and_feeds
from policy.execution.routing.pool_reader import describe_pools
from policy.execution.vaults.reference.adapter import ReferenceVault


def planned(deployment: VaultSettings, given: DeploySection) -> Iterator[Fault]:
    """Yield what stands against creating the vault of the settings: tokens, feeds, pools, keys; (check, found, do)."""
    try:
        people(deployment, given)
    except ForedriftError as error:
        yield "keys", str(error), "foredrift keys new"
    rpc = rpc_of(deployment.chain)
    try:
        wrong = tokens_and_feeds(rpc, _rows(deployment))
        pools = describe_pools(rpc, [(p.address, p.venue, p.router or "") for p in deployment.sources.pools])
        wrong += pools_and_routers(rpc, pools)
    except ForedriftError as error:
        wrong = [str(error)]
    for words in wrong:
        yield "rows", words, "correct the row; foredrift networks says where its address was read"


def deployed(deployment: VaultSettings, given: DeploySection) -> Iterator[Fault]:
    """Yield everything in which the vault on the chain is not what the settings describe."""
    rpc = rpc_of(deployment.chain)
    try:
        vault = ReferenceVault(rpc, str(deployment.vault.address))
        found = list(differences(deployment, given, rpc, vault, vault.state()))
    except ForedriftError as error:
        found = [(str(error), "check [vault] address and [chain] rpc_urls")]
    for words, remedy in found:
        yield "vault on chain", words, remedy


def _rows(deployment: VaultSettings) -> list[Listed]:
    """Return the tokens with their feeds as the settings name them, with what the network's rows say of decimals."""
    feeds = {f.asset: f for f in deployment.sources.feeds}
    rows = next((network(n) for n in names() if network(n).chain_id == deployment.chain.id), None)
    found = []
    for asset in deployment.portfolio.assets:
        token, feed = deployment.vault.tokens.get(asset), feeds.get(asset)
        if token is not None and feed is not None:
            heartbeat_s = int(duration(feed.heartbeat).total_seconds())
            decimals = _decimals(rows, token, feed.address)
            found.append(Listed(asset, token, feed.address, *decimals, heartbeat_s, asset))
    return found


def _decimals(rows: Network | None, token: str, feed: str) -> tuple[int | None, int | None]:
    if rows is None:
        return None, None
    return (
        next((t.decimals for t in rows.tokens if t.address.lower() == token.lower()), None),
        next((f.decimals for f in rows.feeds if f.address.lower() == feed.lower()), None),
    )
