"""``foredrift localnet``: the local market left running, at the lake's prices where there is a lake.

It holds a reference vault and a Safe with the targets of ``weights``, all in dollars, and says what to put into the
settings to rebalance either.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import polars as pl
import typer

from lake.errors import ConfigError
from lake.sources.sample import pool_of
from lake.store import Lake
from lake.units import utc
from pipelines.deploy_section import DeploySection
from pipelines.deployments import deployment
from pipelines.servers.phrase import passphrase
from pipelines.settings import Settings
from pipelines.stages.keys import files_of
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.onchain import LOCAL_CHAINS
from pipelines.vault_setup.paper import in_bps
from pipelines.wiring import lake_of
from policy.execution.checks.rules import Mandate
from policy.execution.submission.signer import create_keystore, keystore_address
from policy.execution.vaults.hedge.deployment import SourceBounds
from policy.localnet.accounts import dev_accounts
from policy.localnet.hedging import DAY_S, LocalBook, hedged_book, refresh_vols
from policy.localnet.history import Tick, block_ticks, depths, ticks
from policy.localnet.market import Localnet
from policy.localnet.portfolio import TARGETS, owners_safe, reference_vault, roles_safe, safe_account
from policy.localnet.replay import RecordedBlock, recorded_blocks
from policy.localnet.serve import Running, run
from policy.localnet.world import NUMERAIRE, PRICES

HEDGE_KEEPER, HEDGE_KEYSTORE = "trader", "hedge-keeper.json"
"""Role of the development account that keeps the hedge account, and where its key is written."""
POCKET_WEI, OWNER_USD = 10 * 10**18, 1_000_000
"""What the project's own keys get on the local chain: gas money each, and dollars for the owner."""
MANDATE = Mandate(
    turnover_bps=10_000,
    leg_loss_bps=200,
    leg_gain_bps=200,
    loss_budget_ppb=20_000_000,
    long_budget_ppb=100_000_000,
    life_budget_ppb=1_000_000_000,
    strikes=255,
)
"""Wide enough to buy a whole portfolio out of dollars in one plan, again and again."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How the market is left running: a block every ``every_s`` seconds, on 127.0.0.1:``port``.

    ``start``: when it opens (the lake's newest price where not given); ``replay``: each block takes the lake's next
    bar, instead of twelve seconds; ``recording``: with it, each block is the next one of that file, ``speed`` times
    faster than recorded, at the lake's prices of its time; ``keystore`` and ``owner_keystore``: where to write the
    development keys of the keeper and of the owner of the Safe that is traded by role, encrypted. ``hedge``: with a
    short straddle, a pool position, a staking token and an account that hedges them, whose keeper's key goes beside.
    """

    port: int = 8545
    every_s: float = 2.0
    start: str | None = None
    replay: bool = False
    recording: Path | None = None
    speed: float = 1.0
    keystore: Path | None = None
    owner_keystore: Path | None = None
    hedge: bool = False

    def __post_init__(self) -> None:
        if self.recording is not None and not (self.replay and self.start is None):
            raise ConfigError("recorded blocks are played with --replay FILE, from their own start: leave --start out")
        if self.recording is None and self.speed != 1.0:
            raise ConfigError("--speed is that of recorded blocks: give --replay FILE too, or --every")


def serve(settings: Settings, how: Serving, stop: threading.Event | None = None) -> int:
    """Run the local market until interrupted or ``stop`` is set; return the blocks made.

    Raises NoNode without Node.js, ConfigError where what is asked for needs a lake that is not there.
    """
    hedger = how.keystore.with_name(HEDGE_KEYSTORE) if how.keystore is not None and how.hedge else None
    for role, path in (("keeper", how.keystore), ("owner", how.owner_keystore), (HEDGE_KEEPER, hedger)):
        if path is not None:
            write_key(path, role)
    lake, targets = lake_of(settings), targets_of(settings.portfolio.weights)
    blocks = recorded_blocks(how.recording) if how.recording is not None else []
    at = blocks[0].at if blocks else _opening(lake, how)
    assets = sorted({*PRICES, *settings.portfolio.assets} - {NUMERAIRE})
    history: Iterable[Tick] = ()
    depth: Mapping[str, float] | None = None
    if at is not None and blocks:
        history = _recorded(lake, settings.chain.history, blocks, assets, how.speed)
        depth = depths_at(lake, at, assets)
    elif at is not None:
        history = chain(
            [tick_at(lake, at, assets, settings.chain.history)],
            _later(lake, settings.chain.history, at, assets) if how.replay else (),
        )
        depth = depths_at(lake, at, assets)
    extras = [reference_vault(targets, mandate=MANDATE), safe_account(), roles_safe(targets), owners_safe()]
    if how.hedge:
        extras.append(hedged_book(_book(datetime.now(UTC) if at is None else at)))

    people = own_keys(deployment(settings), settings.deploy)

    def ready(net: Localnet) -> None:
        fund(net, people)
        typer.echo('settings to rebalance the vault (kind = "safe": the commented lines instead of its address):')
        typer.echo(toml_of(net, targets))
        if how.hedge:
            refresh_vols(net)
            typer.echo(hedge_toml(net))

    return run(
        history, Running(how.port, how.every_s), depths=depth, extras=extras, say=typer.echo, ready=ready, stop=stop
    )


def own_keys(one: VaultSettings, given: DeploySection) -> dict[str, str]:
    """Return the addresses of the project's own keystores on the local chain, by role; none on another chain."""
    if one.chain.id not in LOCAL_CHAINS:
        return {}
    return {role: keystore_address(path) for role, path in files_of(one, given).items() if path.exists()}


def fund(net: Localnet, people: Mapping[str, str]) -> None:
    """Give the project's own keys gas money, and the owner a million dollars to put into a vault."""
    for role, address in people.items():
        net.anvil.rpc.call("anvil_setBalance", [address, hex(POCKET_WEI)])
        if role == "owner":
            cash = net.world.token(NUMERAIRE)
            net.deployer.call("deployer", cash.address, "mint(address,uint256)", address, OWNER_USD * 10**cash.decimals)
    if people:
        typer.echo(f"funded: {', '.join(f'{role} {address}' for role, address in people.items())}")


def _book(at: datetime) -> LocalBook:
    """Return the book to hedge: its options expire 30 days after the market opens, on a full day."""
    expiry = (int(at.timestamp()) // DAY_S + 30) * DAY_S
    return LocalBook(expiry=expiry, bounds=SourceBounds(max_age_s=DAY_S), keeper=HEDGE_KEEPER)


def hedge_toml(net: Localnet) -> str:
    """Return the settings of the hedge account as TOML."""
    rows = ["", "[hedge]", f'account = "{net.world.extras["hedge_account"]}"']
    rows += [f'keeper = "{net.accounts[HEDGE_KEEPER].address}"', f'keystore = "{HEDGE_KEYSTORE}"', 'every = "12s"']
    return "\n".join(rows)


def targets_of(weights: Mapping[str, float]) -> dict[str, int]:
    """Return the targets of ``weights`` in basis points where its first asset is the numeraire, else an example's."""
    if next(iter(weights)) != NUMERAIRE:
        return TARGETS
    return dict(zip(weights, in_bps(list(weights.values())), strict=True))


def toml_of(net: Localnet, targets: Mapping[str, int]) -> str:
    """Return the settings of the market as TOML: chain, vault, tokens, feeds and pools among ``targets``."""
    rows = ["[chain]", f"id = {net.chain_id}", f'rpc_urls = ["{net.url}"]', "history_id = 1", "", "[vault]"]
    rows += ['kind = "reference"', f'address = "{net.world.extras["vault"]}"']
    extras = net.world.extras
    rows += [f'# address = "{extras["roles_safe"]}"  # the Safe, traded by role']
    rows += [f'# multisend = "{extras["roles_multisend"]}"', f'# roles = "{extras["roles"]}"']
    rows += [f'# unwrapper = "{extras["unwrapper"]}"', "# allowance_bps = 10_000"]
    rows += [f'keeper = "{net.accounts["keeper"].address}"', 'keystore = "keeper.json"', f'relay_url = "{net.url}"']
    rows += ["", "[vault.tokens]", *[f'{a} = "{net.world.token(a).address}"' for a in targets]]
    for asset in targets:
        rows += ["", "[[sources.feeds]]", f'asset = "{asset}"', f'address = "{net.world.token(asset).feed}"']
        rows += ['heartbeat = "25h"']
    for pool in net.world.pools.values():
        if {pool.asset, pool.quote} <= set(targets):
            rows += ["", "[[sources.pools]]", f'asset = "{pool.asset}"', f'address = "{pool.address}"']
            rows += [f'venue = "{pool.venue}"', f'router = "{pool.router}"']
    return "\n".join(rows)


def tick_at(lake: Lake, at: datetime, assets: Iterable[str], chain_id: int = 1) -> Tick:
    """Return the newest prices of ``assets`` known at ``at``, with the newest gas price of the chain."""
    rows = lake.scan("prices", as_of=at).filter(pl.col("asset").is_in(list(assets))).sort("available_at")
    prices = rows.group_by("asset").agg(pl.col("close").last()).collect()
    gas = (
        lake.scan("gas", as_of=at).filter(pl.col("chain_id") == chain_id).sort("ts").tail(1).collect()["base_fee_gwei"]
    )
    return Tick(dict(prices.iter_rows()), float(gas[0]) if gas.len() else None, at)


def depths_at(lake: Lake, at: datetime, assets: Iterable[str]) -> dict[str, float]:
    """Return the newest recorded depth of each asset's pool as of ``at``, USD."""
    named = {pool_of(asset): asset for asset in assets if asset != NUMERAIRE}
    return depths(lake.scan("pool_state", as_of=at).collect(), named)


def _opening(lake: Lake, how: Serving) -> datetime | None:
    """Return when the market opens, None for now at round prices; ConfigError without history to open at."""
    newest = lake.scan("prices").select(pl.col("available_at").max()).collect().item()
    if newest is None and (how.start is not None or how.replay):
        raise ConfigError("--start and --replay need prices in the lake; import or ingest some first")
    return utc(how.start) if how.start is not None else newest


def _recorded(
    lake: Lake, chain_id: int, blocks: Sequence[RecordedBlock], assets: list[str], speed: float
) -> Iterator[Tick]:
    """Yield recorded blocks as ticks, with the lake's prices as they became known; none where the lake has none."""
    opening = tick_at(lake, blocks[0].at, assets, chain_id)
    prices = chain([opening] if opening.prices else [], _later(lake, chain_id, blocks[0].at, assets))
    yield from block_ticks(blocks, prices, speed)


def _later(lake: Lake, chain_id: int, at: datetime, assets: list[str]) -> Iterator[Tick]:
    """Yield the lake's bars after ``at``, with the gas of the chain that history is recorded under."""
    ahead = pl.col("available_at") > at
    prices = lake.scan("prices").filter(ahead, pl.col("asset").is_in(assets)).collect()
    gas = lake.scan("gas").filter(ahead, pl.col("chain_id") == chain_id).collect()
    if prices.height:
        yield from ticks(prices, gas)


def write_key(path: Path, role: str) -> None:
    """Write the development key of ``role`` as a keystore, once; the passphrase is the environment's."""
    if path.exists():
        return
    phrase = passphrase()
    if phrase is None:
        raise ConfigError("--keystore needs a passphrase in FOREDRIFT_PASSPHRASE")
    create_keystore(path, phrase, dev_accounts()[role].key, iterations=2)
