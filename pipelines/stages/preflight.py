"""The on-chain part of ``foredrift doctor``: tokens, feeds, pools and node, and a round trip of every token."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lake.errors import ForedriftError
from lake.rpc import Rpc
from lake.units import duration
from lake.universe import chain
from pipelines.deployments import Deployment
from pipelines.vault_setup.proxies import look
from pipelines.wiring import rpc_of
from policy.execution.base import Snapshot
from policy.execution.probes.preflight import Listed, node_methods, pools_and_routers, state_depth, tokens_and_feeds
from policy.execution.probes.proxies import CHANGED
from policy.execution.probes.roundtrip import prove
from policy.execution.routing.pool_reader import TradedPool, describe_pools, read_pools

HISTORY = "node history"
"""The check whose faults are warnings: a second opinion is lost, nothing is refused."""
Fault = tuple[str, str, str]
"""(check, what is wrong, remedy)."""


def faults(deployment: Deployment, snapshot: Snapshot) -> Iterator[Fault]:
    """Yield everything found wrong on the chain for the configured vault, as read in ``snapshot``."""
    rpc = rpc_of(deployment.chain)
    yield from _named("feeds", lambda: tokens_and_feeds(rpc, _listed(deployment, snapshot)), "correct the rows named")
    window_s = duration(deployment.mandate.average_window).total_seconds()
    blocks = int(window_s / chain(deployment.chain.id).block_time_s)
    changed = (v for v in look(deployment, rpc, snapshot) if not v.ok)
    yield from ((CHANGED, v.reason, "nothing of it is traded before") for v in changed)
    yield from _named("node", lambda: node_methods(rpc), "use a node that has it")
    yield from _named(HISTORY, lambda: state_depth(rpc, blocks), "use a node that keeps more")
    rows = [(p.address, p.venue, p.router or "") for p in deployment.sources.pools]
    absent = [a for a, venue, router in rows if not router and venue != "erc4626"]
    if absent or not rows:
        words = f"pools without a router: {', '.join(absent)}" if absent else "no pool to trade in"
        yield "pools", words, "give every [[sources.pools]] row the router a swap is sent to"
        return
    try:
        infos = describe_pools(rpc, rows)
    except ForedriftError as error:
        yield "pools", str(error), "check address and venue of the [[sources.pools]] rows"
        return
    yield from _named("pools", lambda: pools_and_routers(rpc, infos), "correct the [[sources.pools]] rows named")
    yield from _proof(deployment, rpc, infos, snapshot)


def _proof(deployment: Deployment, rpc: Rpc, infos: list[TradedPool], snapshot: Snapshot) -> Iterator[Fault]:
    """Yield the tokens that the vault cannot trade there and back, or that could not be proven."""
    try:
        pools = read_pools(rpc, infos, snapshot.block_hash)
        proven = prove(rpc, str(deployment.vault.address), snapshot, pools)
    except ForedriftError as error:
        yield "round trip", str(error), "check [chain] rpc_urls"
        return
    for verdict in proven.sick.values():
        yield "round trip", verdict.reason, "the token is left alone until it heals; hold another where it will not"
    for words in proven.unproven.values():
        yield "round trip", words, "add a [[sources.pools]] row that trades it, or use another node"


def _listed(deployment: Deployment, snapshot: Snapshot) -> list[Listed]:
    """Return the vault's tokens beside the configured feeds, in the portfolio's order."""
    feeds = {f.asset: f for f in deployment.sources.feeds}
    shares = {p.address.lower() for p in deployment.sources.pools if p.venue == "erc4626"}
    found = []
    for asset, token in zip(deployment.portfolio.assets, snapshot.tokens, strict=False):
        row = feeds.get(asset)
        heartbeat = None if row is None else int(duration(row.heartbeat).total_seconds())
        feed = token.feed or (row.address if row is not None else "")
        named = None if token.address.lower() in shares else asset  # its feed is that of the asset it is made of
        found.append(Listed(asset, token.address, feed, token.decimals, None, heartbeat, named))
    return [r for r in found if r.feed]


def _named(check: str, ask: Callable[[], list[str]], remedy: str) -> Iterator[Fault]:
    """Yield what ``ask`` finds, or why it could not ask."""
    try:
        found = ask()
    except ForedriftError as error:
        found = [str(error)]
    for words in found:
        yield check, words, remedy
