"""``foredrift rehearse``: the user's own configuration on a local chain, days in minutes, gone without a trace.

His vault with his assets, targets, policy and mandate at today's prices of his lake; then the market's last days once
more. What decides, plans, checks, signs and records is what runs live. Journal, audit record, lake, tracking store and
keystore are those of a folder that is removed; nobody is notified.
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from pydantic import SecretStr

from lake.store import Lake
from lake.units import BPS, HOUR_S
from lake.universe import STABLE
from pipelines.demo.localnet import depths_at, tick_at
from pipelines.demo.rehearsal_kinds import OWNER_FILE, kind_of, section_of
from pipelines.demo.rehearsal_lake import lived_again
from pipelines.demo.rehearsal_yields import Yielding, made_of, plain, yields_of
from pipelines.deployments import Deployment
from pipelines.sections import FeedRow, LakeSection, MlflowSection, PoolRow
from pipelines.servers.phrase import using
from pipelines.settlements.mandate.evidence import Evidence
from pipelines.stages.mandate import evidence_of
from pipelines.vault_setup.paper import in_bps
from pipelines.wiring import cron_at, lake_of
from policy.execution.checks.rules import PPB, Mandate
from policy.execution.routing.yields import VENUE
from policy.execution.submission.signer import create_keystore
from policy.localnet.history import Tick, ticks
from policy.localnet.market import Localnet, start
from policy.localnet.world import NUMERAIRE, Extra, prepared, spec_for

PASSPHRASE = "local"  # noqa: S105 # nosec B105 - of a well-known development key on a chain that dies with the process
ELSEWHERE = ("FOREDRIFT_NOTIFY", "MLFLOW_TRACKING_URI")
"""Variables by which a run would reach beyond its own folder."""


def note_of(own: Deployment) -> str:
    """Return what is rehearsed in words, and where that differs from what is configured."""
    words = f"{own.name}: {', '.join(own.portfolio.assets)}, policy {own.policy.kind}, in {kind_of(own).words}"
    if own.vault.kind in {"simulated", "reference"}:
        words += " with the limits of [mandate]"
    if own.vault.kind != "simulated":
        words += "; what your vault on its chain allows may differ, see `foredrift doctor`"
    return words


Told = Callable[[int, int, str], None]
"""(decisions made, decisions in all, the last one's outcome)."""


@dataclass(frozen=True, slots=True)
class Lived:
    """A rehearsal that has run, while its chain and its folder are still there; ``notes``: what people did in it."""

    net: Localnet
    local: Deployment
    begin: datetime
    end: datetime
    notes: tuple[str, ...] = ()

    def evidence(self) -> Evidence:
        """Return the evidence of its days."""
        return evidence_of(self.local, self.begin, self.end)


def rehearse(own: Deployment, days: int, told: Told) -> tuple[Evidence, tuple[str, ...]]:
    """Run ``own`` on a local chain; return the evidence of its days and what people did. Nothing is left behind.

    Raises NoNode without Node.js, NotEnoughData where the lake has less than the days, ConfigError where the portfolio
    holds what the local market has not.
    """
    with lived(own, days, told) as done:
        return done.evidence(), done.notes


@contextmanager
def lived(
    own: Deployment, days: int, told: Told, before: Callable[[Localnet, Deployment, datetime], None] | None = None
) -> Iterator[Lived]:
    """Run ``own`` on a local chain, all its days, and yield what there is then.

    ``before`` is called ahead of every decision with the market, the deployment and the time.
    """
    kind, shares = kind_of(own), made_of(own)
    with tempfile.TemporaryDirectory(prefix="foredrift-rehearsal-") as folder, _alone():
        root = Path(folder)
        lake = Lake(str(root / "lake"))
        used = sorted({*own.portfolio.assets, own.chain.native} - STABLE)
        begin, end = lived_again(lake_of(own), lake, used, days)
        yields = yields_of(own, lake, begin) if shares else []
        with _market(own, lake, begin, yields) as net:
            local, at_time = on_local_chain(own, net, root), _ticks(lake, own, begin, end)
            moments, notes = list(_moments(at_time, own, begin, end)), [y.words() for y in yields]
            kind.begin(net, local)
            for done, at in enumerate(moments, 1):
                _advance(net, own, at, at_time, yields)
                if before is not None:
                    before(net, local, at)
                outcome = str(local.step(None, live=True)["outcome"])
                people, later = kind.follow(net, local), at + timedelta(hours=1)
                notes += [f"{at:%Y-%m-%d %H:%M}: {people.words}"] if people.words else []
                if people.again and later < (moments[done] if done < len(moments) else end):
                    _advance(net, own, later, at_time, yields)
                    outcome = str(local.step(None, live=True)["outcome"])
                told(done, len(moments), outcome)
            net.mine(1, int(end.timestamp()) - net.node.head().time + 1)
            yield Lived(net, local, begin, end, tuple(notes))


def _advance(
    net: Localnet, own: Deployment, at: datetime, at_time: Callable[[datetime], Tick | None], yields: Sequence[Yielding]
) -> None:
    """Move the market to the prices and gas of ``at``, and the yield-bearing tokens to their rates."""
    tick = at_time(at)
    assert tick is not None  # the moments have one, and so has what is later
    for one in yields:
        one.accrue(net, at)
    net.advance_prices(plain(_pegged(own) | dict(tick.prices), yields), gas_gwei=tick.gas_gwei, at=at)


@contextmanager
def _market(own: Deployment, lake: Lake, begin: datetime, yields: Sequence[Yielding]) -> Iterator[Localnet]:
    """Run the local market at the prices of ``begin`` with the configured vault in it."""
    targets, first = own.portfolio.weights, own.start_weights
    opening = tick_at(lake, begin, sorted({*own.portfolio.assets, own.chain.native} - STABLE), own.chain.history)
    prices = plain(_pegged(own) | dict(opening.prices), yields)
    depth = plain(depths_at(lake, begin, own.portfolio.assets), yields)
    extras = [y.deployed(own.portfolio.nav_usd) for y in yields]
    vault = kind_of(own).deployed(
        own,
        dict(zip(targets, in_bps(list(targets.values())), strict=True)),
        dict(zip(first, in_bps(list(first.values())), strict=True)),
        mandate_on_chain(own),
    )
    gas = opening.gas_gwei or 1.0
    with (
        _forgotten(prices, depth, [*extras, vault]),
        start(prices, depths=depth, extras=[*extras, vault], at=begin, gas_gwei=gas) as net,
        using(PASSPHRASE),
    ):
        yield net


def _pegged(own: Deployment) -> dict[str, float]:
    """Return the prices of dollar coins other than the market's own."""
    return {a: 1.0 for a in own.portfolio.assets if a in STABLE and a != NUMERAIRE}


def mandate_on_chain(own: Deployment) -> Mandate:
    """Return the mandate of a new vault with the limits of ``[mandate]``; what that does not say is the default."""
    given, usual = own.mandate, Mandate()
    budget = given.loss_budget_bps * PPB // BPS
    return replace(
        usual, leg_loss_bps=given.max_slippage_bps, turnover_bps=given.max_turnover_bps, loss_budget_ppb=budget,
        long_budget_ppb=max(usual.long_budget_ppb, budget), life_budget_ppb=max(usual.life_budget_ppb, budget),
    )  # fmt: skip


def on_local_chain(own: Deployment, net: Localnet, root: Path) -> Deployment:
    """Return ``own`` pointed at the local market's vault, with every file in ``root``."""
    for role, name in (("keeper", "keeper.json"), ("owner", OWNER_FILE)):
        if not (root / name).exists():
            create_keystore(root / name, PASSPHRASE, net.accounts[role].key, iterations=2)
    assets, kind = own.portfolio.assets, kind_of(own)
    pools = tuple(
        PoolRow(address=p.address, venue=p.venue, asset=p.asset, router=p.router)
        for p in net.world.pools.values() if {p.asset, p.quote} <= set(assets) and kind.venues(p.venue)
    )  # fmt: skip
    pools += tuple(PoolRow(address=net.world.token(a).address, venue=VENUE, asset=a) for a in made_of(own))
    feeds = tuple(FeedRow(asset=a, address=str(net.world.token(a).feed), heartbeat="25h") for a in assets)
    vault = section_of(own, net, kind)
    here = own.chain.model_copy(update={
        "id": net.chain_id, "rpc_urls": (SecretStr(net.url),), "history_id": own.chain.history, "sequencer_feed": None,
    })  # fmt: skip
    return replace(
        own, root=root, lake=LakeSection(path="lake"), chain=here, vault=vault, label=str(vault.address),
        sources=own.sources.model_copy(update={"pools": pools, "feeds": feeds}),
        mlflow=MlflowSection(tracking_uri="", artifacts=""),
    )  # fmt: skip


def _ticks(lake: Lake, own: Deployment, begin: datetime, end: datetime) -> Callable[[datetime], Tick | None]:
    """Return what tells what the market says at a time; None before its first hour."""
    inside = (pl.col("available_at") >= begin) & (pl.col("available_at") < end)
    used = sorted({*own.portfolio.assets, own.chain.native} - STABLE)
    rows = lake.scan("prices").filter(inside & pl.col("asset").is_in(used) & (pl.col("step") == HOUR_S)).collect()
    gas = lake.scan("gas").filter(inside & (pl.col("chain_id") == own.chain.history)).collect()
    market = list(ticks(rows.filter(pl.col("source") == pl.col("source").sort().first().over("asset")), gas))
    times = [tick.at for tick in market if tick.at is not None]

    def at_time(at: datetime) -> Tick | None:
        known = bisect_right(times, at)
        return market[known - 1] if known else None

    return at_time


def _moments(
    at_time: Callable[[datetime], Tick | None], own: Deployment, begin: datetime, end: datetime
) -> Iterator[datetime]:
    """Yield each time the schedule decides at (its cron, UTC) of which the market says something."""
    from cronsim import CronSim  # only loaded where schedules are

    for at in CronSim(cron_at(own, begin), begin):
        if at >= end:
            return
        if at_time(at) is not None:
            yield at


@contextmanager
def _alone() -> Iterator[None]:
    """Take away the variables by which a run would notify people or write to a shared store, while it lasts."""
    held = {name: os.environ.pop(name) for name in ELSEWHERE if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(held)


@contextmanager
def _forgotten(prices: Mapping[str, float], depth: Mapping[str, float], extras: Sequence[Extra]) -> Iterator[Path]:
    """Build the world of a rehearsal and remove its saved state afterwards, unless it was there before."""
    from policy.localnet.packages import cache_dir

    folder = cache_dir() / "worlds"
    before = set(folder.glob("*")) if folder.exists() else set()
    _, state = prepared(spec_for(prices, depth), extras)
    try:
        yield state
    finally:
        for path in {state, state.with_name(state.name.replace(".state.json", ".world.json"))} - before:
            path.unlink(missing_ok=True)
