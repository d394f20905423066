"""Yield-bearing tokens of a rehearsal: what each is made of, its rate and how that grew, as settings and lake tell.

The local chain's token is an ERC-4626 of its own at the recorded rate of the first day; it earns what the real one did
on average, decision by decision, and never loses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

import polars as pl

from lake.errors import ConfigError, NotEnoughData
from lake.store import Lake
from lake.units import HOUR_S
from lake.universe import STABLE
from pipelines.deployments import Deployment
from policy.execution.checks.rates import MOST_APR_BPS, YEAR_S
from policy.execution.routing.yields import VENUE
from policy.localnet.market import Localnet
from policy.localnet.portfolio import share_token
from policy.localnet.world import Extra

HOLDS = ("safe", "lagoon")
"""Kinds of vault that hold such tokens."""
PAST_DAYS = 90
"""Days whose prices tell how a rate grew."""
DEPTH = 10
"""Times the vault's own NAV that others have in each token."""


@dataclass(frozen=True, slots=True)
class Yielding:
    """A token, what it is made of, assets of one share at ``since``, and how they grow a year, a fraction."""

    asset: str
    made_of: str
    rate: Fraction
    growth: Fraction
    since: datetime

    def at(self, time: datetime) -> Fraction:
        """Return assets of one share at ``time``."""
        passed = Fraction(int((time - self.since).total_seconds()), YEAR_S)
        return self.rate * (1 + self.growth * max(passed, Fraction(0)))

    def words(self) -> str:
        """Return the rate and its growth as people read them."""
        return (
            f"{self.asset} is worth {float(self.rate):.6f} {self.made_of} and earns {float(self.growth):.2%} a year, "
            "as recorded"
        )

    def deployed(self, nav_usd: float) -> Extra:
        """Return the extra that deploys it."""
        return share_token(self.asset, self.made_of, self.rate, assets_usd=int(DEPTH * nav_usd) + 1)

    def accrue(self, net: Localnet, time: datetime) -> None:
        """Let it earn what it has until ``time``."""
        token = net.world.token(self.asset).address
        held, shares = (
            int(str(net.deployer.view(token, f"{v}()", "uint256")[0])) for v in ("totalAssets", "totalSupply")
        )
        more = int(self.at(time) * shares) - held
        if more > 0:
            net.deployer.call("deployer", token, "earn(uint256)", more)


def made_of(own: Deployment) -> dict[str, str]:
    """Return what each yield-bearing token of ``own`` is made of: the asset whose feed it has.

    Raises ConfigError where the vault cannot hold one, or the settings do not tell what it is made of.
    """
    rows = [p for p in own.sources.pools if p.venue == VENUE]
    if not rows:
        return {}
    if own.vault.kind not in HOLDS:
        raise ConfigError(
            f"a vault of kind {own.vault.kind!r} holds no yield-bearing tokens: set [vault] kind to one of "
            f"{', '.join(HOLDS)}, or take {', '.join(p.address for p in rows)} out of [[sources.pools]]"
        )
    feeds = {f.asset: f.address.lower() for f in own.sources.feeds if f.address}
    found = {}
    for row in rows:
        asset = next((a for a, t in own.vault.tokens.items() if t.lower() == row.address.lower()), row.asset)
        alike = [a for a in own.portfolio.assets if a != asset and feeds.get(a) == feeds.get(str(asset), "none")]
        if asset not in own.portfolio.assets or not alike:
            raise ConfigError(
                f"what {asset or row.address} is made of cannot be told: it needs a place in [portfolio] and a "
                "[[sources.feeds]] row with the feed of an asset of the portfolio (docs/vaults.md)"
            )
        found[asset] = alike[0]
    return found


def yields_of(own: Deployment, lake: Lake, begin: datetime) -> list[Yielding]:
    """Return the yield-bearing tokens of ``own`` with rate and growth of the lake's prices before ``begin``."""
    return [Yielding(a, of, *_recorded(lake, a, of, begin), begin) for a, of in made_of(own).items()]


def _recorded(lake: Lake, asset: str, of: str, begin: datetime) -> tuple[Fraction, Fraction]:
    """Return the newest rate and its growth a year, both of daily medians: single prices are apart by their noise."""
    since = begin - timedelta(days=PAST_DAYS)
    rows = lake.scan("prices", as_of=begin).filter(
        pl.col("asset").is_in([asset, of]) & (pl.col("step") == HOUR_S) & (pl.col("available_at") > since)
    )
    closes = rows.group_by("asset", "ts").agg(pl.col("close").last()).collect()
    share = closes.filter(pl.col("asset") == asset).select("ts", share="close")
    under = closes.filter(pl.col("asset") == of).select("ts", under="close")
    if under.is_empty() and of in STABLE:
        under = share.select("ts", under=pl.lit(1.0))
    days = (
        share.join(under, on="ts").sort("ts").group_by_dynamic("ts", every="1d")
        .agg(rate=(pl.col("share") / pl.col("under")).median())
    )  # fmt: skip
    if days.is_empty():
        raise NotEnoughData(f"no hour in {PAST_DAYS} days before {begin:%Y-%m-%d %H:%M} has prices of {asset} and {of}")
    first, last = days.row(0), days.row(-1)
    years = (last[0] - first[0]).total_seconds() / YEAR_S
    growth = 0.0 if not years else (last[1] / first[1] - 1) / years
    return Fraction(last[1]), Fraction(min(max(growth, 0.0), MOST_APR_BPS / 10_000))


def plain(prices: Mapping[str, float], yields: Sequence[Yielding]) -> dict[str, float]:
    """Return the prices of what has a market of its own: a yield-bearing token has its rate."""
    return {a: p for a, p in prices.items() if a not in {y.asset for y in yields}}
