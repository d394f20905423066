"""One portfolio on several chains: [[chains]], [[bridges]] and [transfers], and how they become deployments.

The first chain is the project's own [chain] and [vault], each further one a deployment beside it; so every verb that
knows deployments knows them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator

from lake.errors import ConfigError
from lake.universe import BRIDGES, CHAINS
from pipelines.sections.base import Section
from pipelines.sections.stores import FeedRow, PoolRow
from pipelines.sections.vaults import ChainSection, VaultSection
from pipelines.setting_types import Address, ChainId, Distinct, Name, PositiveDuration, Url, nearest

OF_CHAIN = ("id", "rpc_urls", "native", "sequencer_feed", "history_id")
OF_FURTHER = {"pools": "[[sources.pools]]", "feeds": "[[sources.feeds]]", "live": "[schedule] live"}
"""What a further chain's row has beside, and where the first chain's is."""
KINDS = ("cctp", "across", "oft")
ROWS = {"cctp": "simulated-mint", "across": "simulated-fill", "oft": "simulated-message"}
"""The simulated bridge that stands for a kind where the vaults are on paper."""


class BridgeSection(Section):
    """One route of cash between two of the chains, one way; the same row of the port of the vault it leaves."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    kind: Literal["cctp", "across", "oft"] = Field(description="Kind of bridge.")
    token: Name = Field(default="USDC", description="The cash asset that it carries.")
    origin: ChainId = Field(alias="from", description="Number of the chain it leaves.")
    destination: ChainId = Field(alias="to", description="Number of the chain it goes to.")
    route: int = Field(default=1, ge=1, le=16, description="Number of the route in the port of the vault it leaves.")
    speed: Literal["final", "fast"] = Field(
        default="final", description="fast: delivered before the departure is final; it needs allow_unfinal."
    )
    allow_unfinal: bool = Field(
        default=False, description="Accept that a reorganisation may count a fast transfer twice."
    )
    max_transfer_usd: float = Field(default=50_000.0, gt=0, description="Most of one transfer, USD.")
    max_transit_usd: float = Field(default=100_000.0, gt=0, description="Most on its way by this route, USD.")
    messenger: Address | None = Field(
        default=None, description="cctp: its messenger on the chain it leaves; unset: Circle's own."
    )
    contract: Address | None = Field(
        default=None,
        description="across: its pool on the chain it leaves; oft: the token's OFT adapter there.",
    )
    contract_there: Address | None = Field(
        default=None, description="across: its pool on the chain it goes to; an OFT knows its own there."
    )
    fee_bps: float = Field(default=0.0, ge=0, le=100, description="On paper: what the bridge keeps, basis points.")
    paper: Literal["fills", "expires"] = Field(
        default="fills", description="On paper, across: whether a relayer fills in time, or the money comes home."
    )


class TransfersSection(Section):
    """[transfers] How much of the portfolio may be between the chains, and when a transfer is late."""

    max_transfer_share: float = Field(
        default=0.05, gt=0, le=1, description="Most of one transfer, fraction of the portfolio."
    )
    max_in_transit_share: float = Field(
        default=0.10, gt=0, le=1, description="Most on its way in all, fraction of the portfolio."
    )
    max_bridge_day_share: float = Field(
        default=0.10, gt=0, le=1, description="Most by one kind of bridge in 24 hours, fraction of the portfolio."
    )
    max_open: int = Field(default=3, ge=1, le=16, description="Number of transfers open at a time in all.")
    overdue: dict[str, PositiveDuration] = Field(
        default_factory=dict, description="When a transfer is overdue, by kind of bridge; unset: 40m, 6h, 2h."
    )
    haircut: float = Field(
        default=0.5, ge=0, le=1, description="Taken off a stuck, unattested transfer in the reported NAV, fraction."
    )
    weights: Literal["portfolio", "chain"] = Field(
        default="portfolio",
        description="What targets are of. portfolio: one decision on all chains, each trade where it costs least; "
        "chain: each vault alone.",
    )
    decide: bool = Field(
        default=True, description="Whether scheduled runs refill a chain whose cash is below its floor."
    )
    attestations: Url = Field(
        default="https://iris-api.circle.com",
        description="Circle's attestation service; between local chains one of this machine.",
    )
    across: Url = Field(
        default="https://app.across.to/api",
        description="Across' quote service; between local chains one of this machine.",
    )
    journal: str = Field(default=".foredrift/transfers.jsonl", description="File of the transfers; it never expires.")

    @field_validator("overdue")
    @classmethod
    def _kinds(cls, given: dict[str, str]) -> dict[str, str]:
        for kind in given:
            if kind not in KINDS:
                raise ValueError(f"{kind!r} is no kind of bridge{nearest(kind, KINDS)} (known: {', '.join(KINDS)})")
        return given


class FleetChain(ChainSection):
    """One chain of the portfolio with its vault: the first is the project's own, each further one a deployment."""

    id: ChainId = Field(description="Number of the chain.")
    min_cash_usd: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        default="auto", description="Cash it keeps at least, USD; auto: by the flows its vault has recorded."
    )
    corridor: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="On paper: how far a weight of this vault may lie from its target, fraction; on its chain the "
        "vault's own corridor holds.",
    )
    vault: VaultSection | None = Field(default=None, description="Its vault, as in [vault]; unset: on paper.")
    pools: Annotated[tuple[PoolRow, ...], Distinct] = Field(
        default=(), description="Pools to trade in on a further chain; those of the first are [[sources.pools]]."
    )
    feeds: Annotated[tuple[FeedRow, ...], Distinct] = Field(
        default=(), description="Feeds of a further chain; those of the first are [[sources.feeds]]."
    )
    live: bool | None = Field(
        default=None, description="Whether scheduled runs execute on a further chain; the first's is [schedule] live."
    )


def with_chains(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings' plain ``values`` with [[chains]] written out as [chain], [vault] and deployments.

    ConfigError where the rows cannot stand beside what else is given.
    """
    rows = values.get("chains")
    if rows is None:
        for section in ("bridges", "transfers"):
            if values.get(section):
                raise ConfigError(
                    f"[{section}] needs two or more [[chains]]; the one-chain form is [chain] and [vault]"
                )
        return values
    if not isinstance(rows, list | tuple) or not all(isinstance(r, dict) for r in rows):
        raise ConfigError("chains is a list of tables: write [[chains]] once for each chain")
    both = [s for s in ("chain", "vault") if values.get(s)]
    if both:
        raise ConfigError(f"[[chains]] and [{both[0]}] exclude each other: move it into the first row of [[chains]]")
    if len(rows) < 2:
        raise ConfigError("[[chains]] has one row; two or more make a portfolio of several chains, one is [chain]")
    known = {*OF_CHAIN, "vault", "min_cash_usd", "corridor", *OF_FURTHER}
    for n, row in enumerate(rows):
        wrong = next((k for k in row if k not in known), None)
        if wrong is not None:
            raise ConfigError(f"chains.{n}.{wrong}: there is no such setting{nearest(wrong, known)}")
    first, further = rows[0], rows[1:]
    stray = next((k for k in OF_FURTHER if k in first), None)
    if stray is not None:
        raise ConfigError(f"chains.0.{stray}: the first chain's is {OF_FURTHER[stray]}; move it there")
    out = dict(values)
    out["chains"] = [{k: r[k] for k in ("id", "min_cash_usd", "corridor") if k in r} for r in rows]
    out["chain"], out["vault"] = _chain(first), dict(first.get("vault", {}))
    name = str((values.get("portfolio") or {}).get("name", "portfolio"))
    taken = [dict(r) for r in values.get("deployments", ())]
    made = [
        {"name": f"{name}-{_word(r)}", "chain": _chain(r), "vault": dict(r.get("vault", {}))}
        | {k: r[k] for k in OF_FURTHER if k in r}
        for r in further
    ]
    out["deployments"] = made + taken
    return out


def _chain(row: dict[str, Any]) -> dict[str, Any]:
    return {k: row[k] for k in OF_CHAIN if k in row}


def _word(row: dict[str, Any]) -> str:
    given = row.get("id")
    known = CHAINS.get(given) if isinstance(given, int) else None
    return known.name if known else str(given)


def chains_fault(
    chains: tuple[FleetChain, ...], bridges: tuple[BridgeSection, ...], assets: tuple[str, ...], *, paper: bool
) -> str:
    """Return why the rows do not fit each other, empty where they do."""
    ids = [c.id for c in chains]
    twice = next((i for i in ids if ids.count(i) > 1), None)
    if twice is not None:
        return f"chains: {twice} is given twice; a portfolio has one vault on a chain"
    routes: dict[tuple[int, int], int] = {}
    for n, b in enumerate(bridges):
        where = f"bridges.{n}"
        for key, value in (("from", b.origin), ("to", b.destination)):
            if value not in ids:
                return f"{where}.{key}: {value} is none of [[chains]] ({', '.join(map(str, ids))})"
        if b.origin == b.destination:
            return f"{where}: from and to are the same chain {b.origin}; name two"
        if b.token not in assets:
            return f"{where}.token: {b.token!r} is none of portfolio.assets{nearest(b.token, assets)}"
        if b.speed == "fast" and not b.allow_unfinal:
            return f'{where}.speed: "fast" delivers what the origin may still drop; set allow_unfinal = true or "final"'
        if (b.origin, b.route) in routes:
            return (
                f"{where}.route: route {b.route} of chain {b.origin} is bridges.{routes[b.origin, b.route]}'s already"
            )
        wrong = "" if paper else contract_fault(b, bridges)
        if wrong:
            return f"{where}.{wrong}"
        if paper and b.paper == "expires" and BRIDGES[b.kind].refund == "none":
            return f'{where}.paper: a {b.kind} transfer never expires; "expires" is for across'
        routes[b.origin, b.route] = n
    return ""


def contract_fault(row: BridgeSection, bridges: tuple[BridgeSection, ...]) -> str:
    """Return what of a route between vaults on their chains is wrong, by its key; empty where nothing is.

    Contracts of the bridge must be named where no table knows them, and arrivals are told from gifts by the vault's own
    route back, so a kind goes both ways.
    """
    given = {k: getattr(row, k) for k in ("messenger", "contract", "contract_there")}
    needed = {"cctp": (), "across": ("contract", "contract_there"), "oft": ("contract",)}[row.kind]
    known = ("messenger",) if row.kind == "cctp" else needed
    missing = next((k for k in needed if given[k] is None), None)
    if missing is not None:
        what = "Across' pool" if row.kind == "across" else "the token's OFT adapter"
        chain = row.destination if missing == "contract_there" else row.origin
        return f"{missing}: name {what} on chain {chain}; look it up where the bridge's makers publish it"
    stray = next((k for k, v in given.items() if v is not None and k not in known), None)
    if stray is not None:
        return f"{stray}: a route of kind {row.kind} has none; leave it out"
    if row.speed == "fast" and row.kind != "cctp":
        return f'speed: only cctp has "fast"; a route of kind {row.kind} is "final"'
    if not any((b.kind, b.origin, b.destination) == (row.kind, row.destination, row.origin) for b in bridges):
        return f"to: no row of kind {row.kind} leads back from {row.destination} to {row.origin}; add it"
    return ""
