"""Further vaults beside that of [vault]: what each takes over from the sections at the top, and what it never does."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from lake.universe import STABLE
from pipelines.sections.base import Section
from pipelines.sections.holdings import MandateSection, PolicySection, PortfolioSection
from pipelines.sections.stores import FeedRow, PoolRow
from pipelines.sections.vaults import ChainSection, VaultSection
from pipelines.setting_types import Cron, Distinct, FolderName


class DeploymentSection(Section):
    """One more vault of the project, with its own files; what a section leaves out is as the project's own says.

    What names a vault, its keys, its pools and its files is never shared, and what belongs to a chain is not where this
    one has a chain of its own.
    """

    name: FolderName = Field(description="Name of the deployment and of the folder of its files.")
    portfolio: PortfolioSection = Field(description="What it holds; what is left out is as in [portfolio].")
    chain: ChainSection = Field(description="Its chain; what is left out is as in [chain].")
    vault: VaultSection = Field(description="Its vault; keys, addresses and files are its own.")
    policy: PolicySection = Field(description="What decides; what is left out is as in [policy].")
    mandate: MandateSection = Field(description="Its limits; what is left out is as in [mandate].")
    pools: Annotated[tuple[PoolRow, ...], Distinct] | None = Field(
        default=None, description="Its pools; unset: those of [[sources.pools]], on their chain."
    )
    feeds: Annotated[tuple[FeedRow, ...], Distinct] | None = Field(
        default=None, description="Its feeds; unset: those of [[sources.feeds]], on their chain."
    )
    live: bool | None = Field(
        default=None, description="Whether scheduled runs execute; unset: on paper only, whatever [schedule] says."
    )
    rebalance: Cron | None = Field(default=None, description="When it decides, cron; unset: as in [schedule].")

    @model_validator(mode="before")
    @classmethod
    def _own_files(cls, values: Any) -> Any:
        """Keep journal, audit record and paper vault in a folder of the deployment's name, where not given."""
        if not isinstance(values, dict) or not isinstance(values.get("name"), str):
            return values
        name, vault, portfolio = values["name"], values.get("vault", {}), values.get("portfolio", {})
        if not isinstance(vault, dict) or not isinstance(portfolio, dict):
            return values
        if portfolio.get("name", name) != name:
            raise ValueError(
                f"the deployment {name} cannot call its portfolio {portfolio['name']}; leave that name out"
            )
        files = {"state": "vault.json", "journal": "journal", "audit": "audit.jsonl"}
        own = {key: f".foredrift/{name}/{file}" for key, file in files.items()}
        return values | {"vault": own | vault, "portfolio": portfolio | {"name": name}}


OWN = frozenset(
    {"address", "roles", "keeper", "keystore", "signer_url", "tokens", "state", "start", "journal", "audit"}
)
"""Keys of [vault] that another deployment never takes over: they name the vault, its keys and its files."""
OF_A_CHAIN = frozenset(
    {"swapper", "multisend", "unwrapper", "safe_service", "relay", "relay_url", "relay_identity", "refund_to"}
)
OF_THE_ASSETS = frozenset({"targets", "tolerance"})


def with_fallbacks(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings' plain ``values`` with each of ``deployments`` completed from the sections at the top."""
    rows = values.get("deployments")
    if not isinstance(rows, list | tuple) or not all(isinstance(r, dict) for r in rows):
        return values
    return values | {"deployments": [_completed(row, values) for row in rows]}


def _completed(row: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Return a row with what it leaves out; what is no table is left for the checks of the sections to name."""
    chain, home = (_table(values, "chain").get("id") for values in (row, top))
    elsewhere = chain is not None and str(chain) != str(home or ChainSection().id)
    dropped = {
        "portfolio": {"name"} | (OF_THE_ASSETS if "assets" in _table(row, "portfolio") else set()),
        "vault": OWN | (OF_A_CHAIN if elsewhere else set()),
        "chain": frozenset(ChainSection.model_fields) if elsewhere else frozenset(),
    }
    done = dict(row)
    for name in ("portfolio", "chain", "vault", "policy", "mandate"):
        if isinstance(row.get(name, {}), dict):
            out = dropped.get(name, frozenset())
            done[name] = {k: v for k, v in _table(top, name).items() if k not in out} | row.get(name, {})
    for name in ("pools", "feeds"):
        done.setdefault(name, () if elsewhere else _table(top, "sources").get(name, ()))
    return done


def _table(values: dict[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def start_weights(portfolio: PortfolioSection, vault: VaultSection) -> dict[str, float]:
    """Return what a paper vault begins with, as weights by asset: as set, else all cash where a dollar coin is held.

    ``targets`` (and a portfolio without a dollar coin) begins on target, so its first decision is to wait.
    """
    assets, given = portfolio.assets, vault.start
    cash = next((a for a in assets if a in STABLE), None)
    if isinstance(given, tuple):
        return dict(zip(assets, given, strict=True))
    if given == "targets" or cash is None:
        return portfolio.weights
    return {a: float(a == cash) for a in assets}


def start_fault(portfolio: PortfolioSection, vault: VaultSection) -> str:
    """Return why a paper vault cannot begin as set, empty where it can."""
    assets, given = portfolio.assets, vault.start
    if isinstance(given, tuple):
        if len(given) != len(assets) or min(given) < 0 or abs(sum(given) - 1) > 1e-6:
            return (
                f"one weight each of {', '.join(assets)} is wanted, none negative, that sum to 1; given: {list(given)}"
            )
    elif given == "cash" and not STABLE & set(assets):
        coins = ", ".join(sorted(STABLE))
        return f'"cash" needs a dollar coin ({coins}) among portfolio.assets, which are {", ".join(assets)}'
    return ""
