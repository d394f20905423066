"""What the owner of a reference vault works with: the set-up his settings describe, his key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eth_utils.address import to_checksum_address

from lake.errors import ConfigError
from lake.evm import Call, read
from lake.rpc import Rpc
from lake.units import BPS, duration
from lake.universe import STABLE
from lake.venues import venue
from pipelines.deploy_section import DeploySection
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.onchain import keystore_signer
from pipelines.vault_setup.paper import in_bps
from policy.execution.checks.rules import PPB, Mandate
from policy.execution.routing.pool_reader import TradedPool, describe_pools
from policy.execution.submission.signer import KeystoreSigner, keystore_address
from policy.execution.vaults.reference.deployment import (
    SECOND_TWAP_0,
    SECOND_TWAP_1,
    ZERO,
    TokenSource,
    VaultSetup,
)

LONG, LIFE = 10, 20
"""Loss budgets of 90 days and for ever, as multiples of a day's; see ``policy.execution.checks.rules.Mandate``."""


def mandate_on_chain(deployment: VaultSettings) -> Mandate:
    """Return the limits that the vault's contract is to hold, from [mandate]."""
    given = deployment.mandate
    day = given.loss_budget_bps * PPB // BPS
    return Mandate(
        leg_loss_bps=given.max_slippage_bps,
        turnover_bps=given.max_turnover_bps,
        loss_budget_ppb=day,
        leg_gain_bps=max(Mandate().leg_gain_bps, given.max_slippage_bps),
        long_budget_ppb=min(PPB, LONG * day),
        life_budget_ppb=min(PPB, LIFE * day),
    )


def setup_of(deployment: VaultSettings, given: DeploySection, rpc: Rpc) -> VaultSetup:
    """Return what the settings ask a vault to be; decimals are read from the chain.

    Raises ConfigError naming every token, feed, pool and key that is missing.
    """
    assets = deployment.portfolio.assets
    feeds = {f.asset: f for f in deployment.sources.feeds}
    wrong = [f"[vault.tokens] has no {a}" for a in assets if a not in deployment.vault.tokens]
    wrong += [f"[[sources.feeds]] has no {a}" for a in assets if a not in feeds]
    wrong += [f"the pool {p.address} has no router" for p in deployment.sources.pools if not p.router]
    wrong += [] if deployment.sources.pools else ["[[sources.pools]] has no pool to trade in"]
    wrong += [] if assets[0] in STABLE else [f"{assets[0]} comes first; shares are counted in a dollar coin"]
    if deployment.vault.kind != "reference":
        wrong.append(f'[vault] kind is {deployment.vault.kind}; only a "reference" vault is created from here')
    if wrong:
        raise ConfigError(f"the vault is not created: {'; '.join(wrong)}")
    tokens = [to_checksum_address(deployment.vault.tokens[a]) for a in assets]
    addresses = [to_checksum_address(feeds[a].address) for a in assets]
    digits = [int(str(r[0])) for r in read(rpc, [Call(a, "decimals()", "uint8") for a in (*tokens, *addresses)])]
    pools = describe_pools(rpc, [(p.address, p.venue, p.router or "") for p in deployment.sources.pools])
    targets = in_bps(list(deployment.portfolio.weights.values()))
    window_s = int(duration(given.average).total_seconds())
    sources = []
    for i, asset in enumerate(assets):
        second, quoted, kind = _second(tokens, i, pools)
        sources.append(TokenSource(
            tokens[i], digits[i], targets[i], addresses[i], int(duration(feeds[asset].heartbeat).total_seconds()),
            digits[len(tokens) + i], second, window_s if kind else 0, quoted, given.deviation_bps if kind else 0, kind,
        ))  # fmt: skip
    routers = {(p.router or "", p.venue) for p in deployment.sources.pools}
    calls = sorted((to_checksum_address(r), call) for r, v in routers for call in venue(v).calls)
    return VaultSetup(
        sources, *people(deployment, given), calls, mandate_on_chain(deployment),
        delay_s=int(duration(given.delay).total_seconds()), name=given.name, symbol=given.symbol,
        sequencer=deployment.chain.sequencer_feed or ZERO,
        pools=[(p.address, p.venue, p.router or "") for p in deployment.sources.pools],
    )  # fmt: skip


def _second(tokens: Sequence[str], i: int, pools: Sequence[TradedPool]) -> tuple[str, int, int]:
    """Return the pool that token ``i`` is also priced by, the index of the token it is quoted in, and which side it is.

    The accounting asset has none: it is what the others are quoted in. A pool against it comes before the others.
    """
    order = [0, *(j for j in range(1, len(tokens)) if j != i)]
    for j in order if i else ():
        for pool in pools:
            ends = to_checksum_address(pool.token0), to_checksum_address(pool.token1)
            if venue(pool.venue).curve == "ticks" and set(ends) == {tokens[i], tokens[j]}:
                return to_checksum_address(pool.address), j, SECOND_TWAP_0 if ends[0] == tokens[i] else SECOND_TWAP_1
    return ZERO, 0, 0


def people(deployment: VaultSettings, given: DeploySection) -> tuple[str, str, str]:
    """Return the addresses of owner, keeper and guardian, as their keystores say; ConfigError names what is missing."""
    named = {"[deploy] owner": given.owner, "[vault] keystore": deployment.vault.keystore,
             "[deploy] guardian": given.guardian}  # fmt: skip
    absent = [f"{k} ({v or 'not set'})" for k, v in named.items() if v is None or not deployment.path(v).exists()]
    if absent:
        raise ConfigError(f"there is no keystore for {', '.join(absent)}: run `foredrift keys new`")
    owner, keeper, guardian = (keystore_address(deployment.path(str(v))) for v in named.values())
    if len({owner, keeper, guardian}) < 3:
        raise ConfigError("owner, keeper and guardian are three keys: who holds two of them holds what both may do")
    return owner, keeper, guardian


def owner_key(deployment: VaultSettings, given: DeploySection) -> KeystoreSigner:
    """Return the owner's signer; ConfigError where there is no keystore or passphrase."""
    if given.owner is None:
        raise ConfigError("set [deploy] owner to the owner's keystore")
    return keystore_signer(deployment.path(given.owner))


def verification_folder(deployment: VaultSettings) -> Path:
    """Return where the inputs for explorers are written."""
    return deployment.root / "verification"
