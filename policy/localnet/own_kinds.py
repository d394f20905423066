"""Safes, an Enzyme fund and a Lagoon vault of any portfolio on the local market: what a rehearsal of them rebalances.

Each holds ``nav_usd`` in the weights ``start_bps`` at the market's prices. What a keeper's role may do is not installed
here: it depends on settings, and the owner's verb does it. Each extra is made of published bytecode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from eth_abi.abi import encode

from lake.units import BPS
from policy.execution.base import Token
from policy.localnet import enzyme, lagoon, portfolio
from policy.localnet.accounts import dev_accounts
from policy.localnet.deploy import Deployer
from policy.localnet.packages import lock_digest
from policy.localnet.wheels import LAGOON
from policy.localnet.world import FEED_DECIMALS, Extra, World
from policy.localnet.zodiac import roles_modifier, singleton_factory, unwrapper

INTEGRATION, TRACK = "callOnExtension(address,uint256,bytes)", 1
"""How a fund's owner lets it know a token it holds already: IntegrationManager, AddTrackedAssetsToVault."""
LEAST = Fraction(1, BPS)
"""Share of NAV that investors of a fund pay in at least, in the asset that its shares are counted in."""
WHOLE = 10**18
"""Shares that a rate is asked of, raw units."""
Build = Callable[[Deployer, World], Mapping[str, str]]


def own_safe(start_bps: Mapping[str, int], *, nav_usd: float, access: str) -> Extra:
    """Return the extra that deploys and funds a Safe, for ``[vault] access``.

    Roles: the owner's, with a modifier. Proposal: of three, two of whom sign. Else: the keeper's own. Adds ``vault``,
    ``multisend``, and with roles ``roles`` and ``unwrapper`` to the world's extras.
    """
    owners = {"roles": ("owner",), "proposal": portfolio.SIGNERS}.get(access, ("keeper",))

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        singleton_factory(on)
        safe, multisend = portfolio.safe_of(on, world, owners, 1 + (access == "proposal"), 0, "1.5.0")
        for asset, amount in amounts(on, world, start_bps, nav_usd).items():
            give(on, world.token(asset), amount, safe)
        found = {"vault": safe, "multisend": multisend}
        return found | _role(on, safe) if access == "roles" else found

    return _extra("own_safe", build, start_bps, nav_usd, access)


def own_fund(start_bps: Mapping[str, int], *, nav_usd: float, tolerance: float) -> Extra:
    """Return the extra that deploys a release of Enzyme v4 and a fund counted in the first asset, its policies on.

    ``tolerance``: slippage its managers may cause in a week, a fraction. Adds ``vault`` and ``swapper``.
    """

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        held = amounts(on, world, start_bps, nav_usd, paid_in=True)
        cash, *others = held
        fund = enzyme.new_fund(on, world, dict(start_bps), world.token(cash), tolerance)
        investor = "investor"
        on.call(investor, world.token(cash).address, "approve(address,uint256)", fund["enzyme_comptroller"], held[cash])
        on.call(investor, fund["enzyme_comptroller"], "buyShares(uint256,uint256)", held[cash], 1)
        for asset in others:
            give(on, world.token(asset), held[asset], fund["enzyme_vault"])
        tokens = encode(["address[]"], [[world.token(a).address for a in others]])
        manager = fund["enzyme_integrations"]
        on.call("owner", fund["enzyme_comptroller"], INTEGRATION, manager, TRACK, tokens)
        return {"vault": fund["enzyme_vault"], "swapper": fund["enzyme_swapper"]}

    return _extra("own_fund", build, start_bps, nav_usd, tolerance, Path(enzyme.__file__).read_bytes())


def own_lagoon(start_bps: Mapping[str, int], *, nav_usd: float, valuer: str) -> Extra:
    """Return the extra that deploys a Lagoon vault over a Safe of ``owner`` with Roles, counted in the first asset.

    The investor pays all of it in the first asset and then changes what is of other assets at the market's prices, so
    that its shares have a value from the first day. ``valuer``: whose account pushes valuations. Adds ``vault`` (the
    Safe), ``investors``, ``multisend``, ``roles`` and ``unwrapper``.
    """

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        singleton_factory(on)
        safe, multisend = portfolio.safe_of(on, world, ("owner",), 1, 0, "1.5.0")
        first = next(iter(start_bps))
        cash, held = world.token(first), amounts(on, world, start_bps, nav_usd)
        whole = amounts(on, world, {first: BPS}, nav_usd)[first]
        vault = lagoon.new_vault(on, world, cash, safe, valuer)
        lagoon.paid_in(on, vault, cash, safe, whole, valuer)
        for asset, amount in held.items():
            if asset != first:
                give(on, world.token(asset), amount, safe)
        out = whole - held.get(first, 0)
        lagoon.by_safe(on, safe, cash.address, "transfer(address,uint256)", dev_accounts()["investor"].address, out)
        return {"vault": safe, "investors": vault, "multisend": multisend, **_role(on, safe)}

    return _extra("own_lagoon", build, start_bps, nav_usd, valuer, Path(lagoon.__file__).read_bytes(), LAGOON)


def amounts(
    on: Deployer, world: World, start_bps: Mapping[str, int], nav_usd: float, *, paid_in: bool = False
) -> dict[str, int]:
    """Return what of each asset is worth its share of ``nav_usd``, in token units, rounded down; the first one first.

    ``paid_in``: the first asset is never without an amount, for shares are bought with it.
    """
    found = {}
    for place, (asset, share) in enumerate(start_bps.items()):
        part = Fraction(share, BPS) * Fraction(nav_usd)
        part = max(part, LEAST * Fraction(nav_usd)) if paid_in and place == 0 else part
        found[asset] = int(part / _usd(on, world, asset) * 10 ** world.token(asset).decimals)
    return found


def give(on: Deployer, token: Token, amount: int, to: str) -> None:
    """Let the investor send ``amount`` of a token to a vault; nothing where it is 0."""
    if amount:
        on.call("investor", token.address, "transfer(address,uint256)", to, amount)


def _usd(on: Deployer, world: World, asset: str) -> Fraction:
    """Return the price of ``asset``: its feed's, times the rate where it is a yield-bearing token."""
    token = world.token(asset)
    ((_, answer),) = [on.view(str(token.feed), "latestRoundData()", "uint80,int256")]
    price = Fraction(int(str(answer)), 10**FEED_DECIMALS)
    if asset in world.tokens:
        return price
    (assets,) = on.view(token.address, "convertToAssets(uint256)", "uint256", WHOLE)
    return price * Fraction(int(str(assets)), WHOLE)


def _role(on: Deployer, safe: str) -> dict[str, str]:
    """Deploy the Roles modifier of ``safe`` and what takes its batches apart; no role is given yet."""
    return {"roles": roles_modifier(on, safe), "unwrapper": unwrapper(on)}


def _extra(name: str, build: Build, *shape: object) -> Extra:
    def plain(one: object) -> object:
        return list(one.items()) if isinstance(one, Mapping) else one

    own = (lock_digest(), Path(__file__).read_bytes(), Path(portfolio.__file__).read_bytes())
    parts: Sequence[object] = [*own, *map(plain, shape)]
    return Extra(name, hashlib.sha256(repr(parts).encode()).hexdigest(), build)
