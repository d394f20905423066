"""The rows of a network, read from ``<name>.toml`` beside this file and checked before anybody uses them.

A row of a public network names two sources of ``sources.toml``; an address carries its EIP-55 checksum. What two
sources do not give is no row: ``missing`` says so in words. The local network's rows are what its market deploys.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lake.errors import ConfigError, DataError
from lake.universe import Chain, chain

HERE = Path(__file__).parent
LOCAL = "local"
SOURCES_WANTED = 2


@dataclass(frozen=True, slots=True)
class NetworkToken:
    """A token: ``symbol`` as its issuer calls it, ``asset`` as price history does (WETH: ETH)."""

    symbol: str
    asset: str
    address: str
    decimals: int
    issuer: str
    kind: str  # native, bridged, or what it wraps
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NetworkFeed:
    """A price feed in USD. ``heartbeat_s``: None where two sources do not give it, and then nothing relies on it."""

    asset: str
    pair: str  # as its own description() says
    address: str
    decimals: int
    sources: tuple[str, ...]
    heartbeat_s: int | None = None
    heartbeat_sources: tuple[str, ...] = ()
    deviation_bps: int | None = None


@dataclass(frozen=True, slots=True)
class NetworkPool:
    """A Uniswap v3 pool of two of the network's tokens, by symbol."""

    tokens: tuple[str, str]
    fee_pips: int
    address: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NetworkContract:
    """A contract that the network has one of: factory, router, quoter, a Safe's parts, the sequencer's feed."""

    name: str
    address: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """Everything known of one network. ``router_venue``: the venue its router's calls are those of."""

    name: str
    chain_id: int
    router_venue: str
    missing: tuple[str, ...]
    contracts: tuple[NetworkContract, ...]
    tokens: tuple[NetworkToken, ...]
    feeds: tuple[NetworkFeed, ...]
    pools: tuple[NetworkPool, ...]

    @property
    def chain(self) -> Chain:
        """The chain's constants."""
        return chain(self.chain_id)

    def contract(self, name: str) -> str | None:
        """Return the address of the contract called ``name``, None where there is no row."""
        return next((c.address for c in self.contracts if c.name == name), None)

    def token(self, name: str) -> NetworkToken | None:
        """Return the token called ``name``, by symbol or asset, in whatever case."""
        wanted = name.casefold()
        by_symbol = (t for t in self.tokens if t.symbol.casefold() == wanted)
        by_asset = (t for t in self.tokens if t.asset.casefold() == wanted)
        return next(by_symbol, None) or next(by_asset, None)

    def feed(self, asset: str) -> NetworkFeed | None:
        """Return the feed of ``asset`` whose heartbeat is known."""
        return next((f for f in self.feeds if f.asset == asset and f.heartbeat_s), None)

    def pools_among(self, symbols: frozenset[str]) -> tuple[NetworkPool, ...]:
        """Return the pools between tokens of these symbols."""
        return tuple(p for p in self.pools if set(p.tokens) <= symbols)

    def lacks(self, token: NetworkToken) -> str:
        """Return what is missing to hold ``token`` beside a dollar coin, with its remedy, in words; empty: nothing."""
        lacks = []
        if self.feed(token.asset) is None:
            found = next((f for f in self.feeds if f.asset == token.asset), None)
            lacks.append(
                "no price feed confirmed by two public sources" if found is None else
                f"public sources do not agree on the heartbeat of {found.pair} ({found.address}): look it up at its "
                f"provider and give it, --heartbeat {token.symbol}=86400 (seconds)"
            )  # fmt: skip
        if not any(token.symbol in p.tokens for p in self.pools):
            lacks.append(
                "no pool confirmed by two public sources: name one by its fee in millionths, "
                f"--pool {token.symbol}/OTHER=500"
            )
        return "; ".join(lacks)

    def usable(self) -> tuple[str, ...]:
        """Return the symbols of the tokens that a portfolio can hold."""
        return tuple(t.symbol for t in self.tokens if not self.lacks(t))

    def reachable(self) -> tuple[str, ...]:
        """Return the symbols of the tokens that lack at most a heartbeat or a pool, which a person can look up."""
        priced = {f.asset for f in self.feeds}
        return tuple(t.symbol for t in self.tokens if t.asset in priced and self.lacks(t))


def names() -> tuple[str, ...]:
    """Return the names of the networks that have rows, the local one last."""
    found = sorted(p.stem for p in HERE.glob("*.toml") if p.stem not in {"sources", LOCAL})
    return (*found, LOCAL)


@cache
def sources() -> dict[str, str]:
    """Return where rows were read, by the short name that they use."""
    return {k: str(v) for k, v in tomllib.loads((HERE / "sources.toml").read_text(encoding="utf-8")).items()}


@cache
def network(name: str) -> Network:
    """Return the rows of the network called ``name``; ConfigError names those that there are.

    Raises DataError where a row is damaged: a wrong checksum, fewer than two sources, an unknown one.
    """
    if name not in names():
        raise ConfigError(f"there is no network {name!r}; known are {', '.join(names())}")
    return parsed(tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8")), f"{name}.toml")


def parsed(raw: dict[str, Any], file: str) -> Network:
    """Return the network of a file's values, each row checked; DataError names every row that is wrong."""
    found = Network(
        name=str(raw["name"]),
        chain_id=int(raw["chain_id"]),
        router_venue=str(raw["router_venue"]),
        missing=tuple(map(str, raw["missing"])),
        contracts=tuple(NetworkContract(**_tuples(r)) for r in raw["contracts"]),
        tokens=tuple(NetworkToken(**_tuples(r)) for r in raw["tokens"]),
        feeds=tuple(NetworkFeed(**_tuples(r)) for r in raw["feeds"]),
        pools=tuple(NetworkPool(**_tuples(r)) for r in raw["pools"]),
    )
    wrong = faults(found)
    if wrong:
        raise DataError(f"{file}: {'; '.join(wrong)}")
    return found


def faults(found: Network) -> list[str]:
    """Return what is wrong with the rows of a network, in words that name the row; empty: nothing."""
    wrong: list[str] = []
    wanted = 1 if found.name == LOCAL else SOURCES_WANTED
    groups = (found.contracts, found.tokens, found.feeds, found.pools)
    for row in (r for group in groups for r in group):
        what = f"{type(row).__name__.removeprefix('Network').lower()} {row.address}"
        wrong += _address_faults(row.address, what)
        wrong += _source_faults(row.sources, wanted, what)
        if isinstance(row, NetworkFeed) and row.heartbeat_s is not None:
            wrong += _source_faults(row.heartbeat_sources, wanted, f"heartbeat of {what}")
        if isinstance(row, NetworkPool):
            known = {t.symbol for t in found.tokens}
            wrong += [f"{what}: {s} is no token of the network" for s in row.tokens if s not in known]
    for group in groups:
        seen = [row.address for row in group]
        wrong += [f"{a} stands there twice" for a in sorted({a for a in seen if seen.count(a) > 1})]
    return wrong


def _address_faults(address: str, what: str) -> list[str]:
    from eth_utils.address import is_checksum_address  # late: only who uses rows checks them

    return [] if is_checksum_address(address) else [f"{what} has no valid EIP-55 checksum"]


def _source_faults(given: tuple[str, ...], wanted: int, what: str) -> list[str]:
    unknown = [s for s in given if s not in sources()]
    if unknown:
        return [f"{what} names {', '.join(unknown)}, which sources.toml does not know"]
    few = len(set(given)) < wanted
    return [f"{what} has {len(set(given))} sources, required are {wanted}"] if few else []


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the file with its lists as tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
