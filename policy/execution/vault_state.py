"""Reading the reference vault: everything a decision and a check need, at ONE block hash, in one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_checksum_address

from lake.answers import quantity
from lake.errors import RpcError
from lake.evm import Head, View, read, symbols, try_read
from lake.rpc import Rpc
from policy.execution.base import Token
from policy.execution.pricing import FEED, TWAP_0, Answer, Evidence, Observed, Source, codes
from policy.execution.rules import Book, Clock, Mandate

ZERO = "0x" + "0" * 40
SOURCES = "(address,uint256,address,uint256,uint256,address,uint256,uint256,uint256,uint256)[]"
ROUND = "uint80,int256,uint256,uint256"

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """What does not change while the vault keeps its oracle."""

    chain_id: int
    oracle: str
    tokens: tuple[Token, ...]
    sources: tuple[Source, ...]
    sequencer: str | None
    sequencer_grace_s: int

    @property
    def grace_s(self) -> int | None:
        """Seconds a sequencer must be up; None where there is no sequencer to ask."""
        return self.sequencer_grace_s if self.sequencer else None


@dataclass(frozen=True, slots=True)
class VaultState:
    """The whole vault at one block. ``prices_e8`` of ``book`` are the feeds' own answers, good or not."""

    head: Head
    layout: Layout
    book: Book
    codes: tuple[int, ...]
    evidence: Evidence
    clock: Clock
    mandate: Mandate
    flow_block: int
    paused: bool
    keeper: str
    supply: int


def read_layout(rpc: Rpc, vault: str, block_hash: str) -> Layout:
    """Return tokens and sources of ``vault``; a token without a symbol is called by its address."""
    chain_id = quantity(rpc.call("eth_chainId"))
    views = [View(vault, "oracle()", "address"), View(vault, "tokens()", "address[],uint256[],uint256[]")]
    rows: list[Row] = list(read(rpc, views, block_hash))
    oracle = to_checksum_address(rows[0][0])
    addresses = [to_checksum_address(a) for a in rows[1][0]]
    asks = [View(oracle, "sources()", SOURCES), View(oracle, "sequencer()", "address,uint256")]
    found: list[Row] = list(read(rpc, asks, block_hash))
    names = symbols(rpc, addresses, block_hash)
    sources = tuple(_source(row) for row in found[0][0])
    tokens = zip(names, addresses, rows[1][1], sources, strict=True)
    sequencer = to_checksum_address(found[1][0])
    return Layout(
        chain_id,
        oracle,
        tuple(Token(symbol, address, digits, source.feed) for symbol, address, digits, source in tokens),
        sources,
        None if sequencer == ZERO else sequencer,
        found[1][1],
    )


def read_state(rpc: Rpc, vault: str, layout: Layout, head: Head) -> VaultState | None:
    """Return the vault at ``head``; None when its oracle is no longer the layout's."""
    views = [
        View(vault, "oracle()", "address"),
        View(vault, "tokens()", "address[],uint256[],uint256[]"),
        View(vault, "clock()", ",".join(["uint256"] * 7)),
        View(vault, "mandate()", ",".join(["uint256"] * 6)),
        View(vault, "paused()", "bool"),
        View(vault, "keeper()", "address"),
        View(vault, "totalSupply()", "uint256"),
        *(View(t.address, "balanceOf(address)", "uint256", (vault,)) for t in layout.tokens),
    ]
    asks = feed_views(layout)
    answers = try_read(rpc, [*views, *asks.values()], head.hash)
    rows: list[Row] = []
    for row in answers[: len(views)]:
        if isinstance(row, RpcError):
            raise row
        rows.append(row)
    if to_checksum_address(rows[0][0]) != layout.oracle:
        return None
    evidence = evidence_of(layout, dict(zip(asks, answers[len(views) :], strict=True)))
    prices, found = codes(layout.sources, evidence, head.time, layout.grace_s)
    clock = rows[2]
    return VaultState(
        head=head,
        layout=layout,
        book=Book(layout.tokens, tuple(rows[1][2]), prices, tuple(row[0] for row in rows[7:])),
        codes=found,
        evidence=evidence,
        clock=Clock(clock[0], clock[1], clock[2], clock[4], clock[5], clock[6]),
        mandate=Mandate(*rows[3]),
        flow_block=clock[3],
        paused=rows[4][0],
        keeper=to_checksum_address(rows[5][0]),
        supply=rows[6][0],
    )


def _source(row: Row) -> Source:
    token, decimals, feed, heartbeat_s, feed_decimals, second, *rest = row
    feeds = to_checksum_address(feed), heartbeat_s, feed_decimals, to_checksum_address(second)
    return Source(to_checksum_address(token), decimals, *feeds, *rest)


def feed_views(layout: Layout) -> dict[tuple[str, int], View]:
    """Return the reads of every first and second source and the sequencer, by (which, position)."""
    asks = {}
    for i, s in enumerate(layout.sources):
        asks["first", i] = View(s.feed, "latestRoundData()", ROUND)
        if s.second_kind >= TWAP_0:
            asks["second", i] = View(s.second, "observe(uint32[])", "int56[]", ((s.second_s, 0),))
        elif s.second_kind == FEED:
            asks["second", i] = View(s.second, "latestRoundData()", ROUND)
    if layout.sequencer:
        asks["sequencer", 0] = View(layout.sequencer, "latestRoundData()", ROUND)
    return asks


def evidence_of(layout: Layout, answers: Mapping[tuple[str, int], Any]) -> Evidence:
    """Return what the oracle would read; a source that failed is None."""

    def feed(key: tuple[str, int]) -> Answer | None:
        row = answers.get(key)
        return None if row is None or isinstance(row, RpcError) else Answer(*row)

    def second(i: int) -> Answer | Observed:
        row = answers.get(("second", i))
        if layout.sources[i].second_kind < TWAP_0:
            return feed(("second", i))
        return None if row is None or isinstance(row, RpcError) else (row[0][0], row[0][1])

    count = len(layout.sources)
    return Evidence(
        [feed(("first", i)) for i in range(count)], [second(i) for i in range(count)], feed(("sequencer", 0))
    )
