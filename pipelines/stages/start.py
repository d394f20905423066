"""``foredrift init --network``: a whole settings file from the rows of a network; nobody types an address."""

from __future__ import annotations

from collections.abc import Sequence

from lake.errors import ConfigError
from lake.networks.looked_up import BY_HAND, LookedUp, completed
from lake.networks.rows import LOCAL, Network, NetworkFeed, NetworkPool, NetworkToken, network
from lake.universe import STABLE

PLACE = "# address                              # foredrift vault deploy writes it here"
"""The line of the file that a deployed vault's address takes."""
LOCAL_NODE = "http://127.0.0.1:8545"
KEYS = ("keeper.json", "owner.json", "guardian.json")
"""Keystores of a project, the keeper's first; ``foredrift keys new`` writes those that are missing."""


def heartbeat(published_s: int) -> str:
    """Return the age that a feed's answer may have: its published heartbeat with a tenth, 5 to 60 minutes, of slack.

    An update is late by what its transaction waits for; less slack would refuse prices that are as good as they get.
    """
    return f"{published_s + min(max(published_s // 10, 300), 3_600)}s"


def chosen(rows: Network, assets: Sequence[str]) -> tuple[NetworkToken, ...]:
    """Return the tokens called ``assets``, a dollar coin first: shares are counted in it.

    Raises ConfigError naming every asset that has no confirmed row, and those that have.
    """
    wrong, found = [], []
    for name in assets:
        token = rows.token(name)
        lack = "it has no row confirmed by two public sources" if token is None else rows.lacks(token)
        if token is None or lack:
            wrong.append(f"{name} on {rows.name}: {lack}")
        elif token in found:
            wrong.append(f"{name} on {rows.name}: {token.symbol} is named twice")
        else:
            found.append(token)
    cash = [t for t in found if t.asset in STABLE]
    if not wrong and not cash:
        wrong.append("no dollar coin among them: shares of a vault are counted in one")
    if not wrong and len(found) < 2:
        wrong.append("a portfolio has at least two assets")
    if wrong:
        known = ", ".join(rows.usable()) or "none by its rows alone"
        if rows.reachable():
            known += f"; with --heartbeat or --pool {', '.join(rows.reachable())}"
        raise ConfigError(f"{'; '.join(wrong)}. Known are {known}")
    ordered = (cash[0], *(t for t in found if t is not cash[0]))
    unreached = _unreached(rows, ordered)
    if unreached:
        raise ConfigError(
            f"no pools of {rows.name} lead from {ordered[0].symbol} to {', '.join(unreached)} among these assets; "
            "add WETH, through which most pools go, or name one that you looked up with --pool"
        )
    return ordered


def _unreached(rows: Network, tokens: Sequence[NetworkToken]) -> list[str]:
    """Return the symbols that no pools among ``tokens`` connect with the first one."""
    symbols = frozenset(t.symbol for t in tokens)
    reached = {tokens[0].symbol}
    for _ in tokens:
        for pool in rows.pools_among(symbols):
            if reached & set(pool.tokens):
                reached |= set(pool.tokens)
    return sorted(symbols - reached)


def settings_for(
    name: str, assets: Sequence[str], urls: Sequence[str] = (), given: LookedUp | None = None
) -> str:  # fmt: skip
    """Return a whole foredrift.toml for ``assets`` of the network called ``name``, with ``urls`` of its nodes.

    ``given``: heartbeats and pools that a person looked up; the file says of each that they are his. Raises ConfigError
    where the network or an asset has no confirmed row, or a heartbeat is of none of ``assets``; nothing is guessed.
    """
    given = given or LookedUp()
    rows = completed(network(name), given)
    tokens = chosen(rows, assets)
    held = {t.symbol for t in tokens}
    idle = [f"--heartbeat {n}" for n in given.heartbeats if (t := rows.token(n)) is not None and t.symbol not in held]
    idle += [f"--pool {'/'.join(p.tokens)}" for p in rows.pools if BY_HAND in p.sources and not set(p.tokens) <= held]
    if idle:
        raise ConfigError(f"{', '.join(idle)}: not among --assets; leave it out or hold it")
    head = [_portfolio(rows, tokens), _chain(rows, urls), _vault(rows, tokens), _sources(rows, tokens)]
    parts = [*head, _feeds(rows, tokens), _pools(rows, tokens)]
    return "\n".join(parts)


def _portfolio(rows: Network, tokens: Sequence[NetworkToken]) -> str:
    names = ", ".join(f'"{t.asset}"' for t in tokens)
    held = ", ".join(f"{t.asset} is {t.symbol} ({t.issuer}, {t.kind})" for t in tokens)
    return f"""# {rows.name}: {held}.
# Every address is a row of `foredrift networks {rows.name}`, confirmed by two public sources, or follows from such
# rows; `foredrift doctor` holds each against the chain. Environment variables win over this file:
# FOREDRIFT_PORTFOLIO__NAV_USD=250000.

[portfolio]
assets = [{names}]                # in the vault's order; shares are counted in the first
# targets = [0.34, 0.33, 0.33]         # sum to 1; equal weights when absent
# tolerance = 0.05                     # cap on abs(weight - target)

[policy]
kind = "gas_band"                      # decides without forecasts; "predictive" after `foredrift train`

[mandate]                              # the vault is created with it; `foredrift vault set-mandate` brings a change
# max_turnover_bps = 2500              # of NAV, sold by one plan
# max_slippage_bps = 100
# loss_budget_bps = 10                 # of NAV in any day
"""


def _chain(rows: Network, urls: Sequence[str]) -> str:
    given = list(urls) or ([LOCAL_NODE] if rows.name == LOCAL else [])
    nodes = ", ".join(f'"{u}"' for u in given)
    line = (
        f"rpc_urls = [{nodes}]" if given else '# rpc_urls = ["https://...", "https://..."]   # nodes of two operators'
    )
    out = ["[chain]", f"id = {rows.chain_id}", line]
    feed = rows.contract("sequencer_feed")
    if feed:
        out.append(f'sequencer_feed = "{feed}"')
    if rows.name == LOCAL:
        out.append("history_id = 1                         # gas and depth as recorded of this chain")
    return "\n".join(out) + "\n"


def _vault(rows: Network, tokens: Sequence[NetworkToken]) -> str:
    held = "\n".join(f'{t.asset} = "{t.address}"' for t in tokens)
    keeper, owner, guardian = KEYS
    relay = f'relay_url = "{LOCAL_NODE}"\n' if rows.name == LOCAL else ""
    delay = "1h" if rows.name == LOCAL else "24h"
    return f"""[vault]
kind = "reference"
{PLACE}
keystore = "{keeper}"                # the key that trades, encrypted; `foredrift keys new` writes it
{relay}
[vault.tokens]
{held}

[deploy]
owner = "{owner}"                   # creates the vault and changes it, after the delay
guardian = "{guardian}"             # can only pause
delay = "{delay}"
"""


def _sources(rows: Network, tokens: Sequence[NetworkToken]) -> str:
    if rows.name == LOCAL:
        return "[sources.sample]                       # the market's history\nhours = 1440\n"
    coins = {t.asset: t.asset.removeprefix("cb") for t in tokens if t.asset not in STABLE}
    markets = ", ".join(f'{asset} = "{coin}/USDT"' for asset, coin in coins.items())
    return f"""[sources.exchange]                     # price history: `foredrift ingest`
exchange = "binance"
symbols = {{ {markets} }}

[sources.blocks]                       # gas history from [chain] rpc_urls
"""


def _feeds(rows: Network, tokens: Sequence[NetworkToken]) -> str:
    out = []
    for token in tokens:
        feed = rows.feed(token.asset)
        assert feed is not None  # chosen() refused the others
        assert feed.heartbeat_s is not None
        out.append(
            f'[[sources.feeds]]                      # {feed.pair}, {_told(feed)} {feed.heartbeat_s} s\n'
            f'asset = "{token.asset}"\naddress = "{feed.address}"\nheartbeat = "{heartbeat(feed.heartbeat_s)}"\n'
        )  # fmt: skip
    return "\n".join(out)


def _told(row: NetworkFeed | NetworkPool) -> str:
    """Return where a heartbeat or a pool comes from, for the file."""
    if isinstance(row, NetworkPool):
        return f"; {BY_HAND}, no public source" if BY_HAND in row.sources else ""
    return f"heartbeat {BY_HAND}, no two public sources:" if BY_HAND in row.heartbeat_sources else "published heartbeat"


def _pools(rows: Network, tokens: Sequence[NetworkToken]) -> str:
    by_symbol = {t.symbol: t for t in tokens}
    router = rows.contract("v3_router")
    out = []
    for pool in rows.pools_among(frozenset(by_symbol)):
        priced = next(by_symbol[s] for s in pool.tokens if by_symbol[s] is not tokens[0])
        what = f"{' / '.join(pool.tokens)}, {pool.fee_pips / 10_000:g} %{_told(pool)}"
        out.append(
            f"[[sources.pools]]                      # {what}\n"
            f'asset = "{priced.asset}"\naddress = "{pool.address}"\nvenue = "{rows.router_venue}"\n'
            f'router = "{router}"\n'
        )
    return "\n".join(out)
