"""Reading the reference vault: everything a decision and a check need, at ONE block hash, in one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_checksum_address

from lake.answers import quantity
from lake.errors import RpcError
from lake.evm import BlockHeader, Call, read, symbols, try_read
from lake.rpc import Rpc
from policy.execution.base import Token
from policy.execution.checks.oracle_rules import (
    FEED,
    TWAP_0,
    TWAP_1,
    WORTHLESS,
    Answer,
    FeedAnswers,
    Observed,
    PriceSource,
    codes,
)
from policy.execution.checks.rules import Clock, Flow, Mandate, VaultBook

ZERO = "0x" + "0" * 40
SOURCES = "(address,uint256,address,uint256,uint256,address,uint256,uint256,uint256,uint256)[]"
ROUND = "uint80,int256,uint256,uint256"
PORT = "address,uint256,uint256,uint256,uint256,uint256,uint256,uint256[]"
PAUSES = ("", "the guardian", "the owner", "a loss budget that is used up")
"""Who paused the vault, by the contract's code."""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """What does not change while the vault keeps its oracle."""

    chain_id: int
    oracle: str
    tokens: tuple[Token, ...]
    sources: tuple[PriceSource, ...]
    sequencer: str | None
    sequencer_grace_s: int

    @property
    def grace_s(self) -> int | None:
        """Seconds a sequencer must be up; None where there is no sequencer to ask."""
        return self.sequencer_grace_s if self.sequencer else None


@dataclass(frozen=True, slots=True)
class ShareTerms:
    """What investors are bound to: the hold on bought shares, the fees that stay in the vault, the manager's fees."""

    hold_s: int = 0
    entry_bps: int = 0
    exit_bps: int = 0
    management_bps: int = 0  # a year
    performance_bps: int = 0  # of what NAV per share gains above its high-water mark


@dataclass(frozen=True, slots=True)
class VaultState:
    """The whole vault at one block. ``prices_e8`` of ``book`` are the feeds' own answers, good or not.

    ``last_good``: the last good prices, which stand in for the others; ``flows``: balances before the last flows;
    ``doubted_until``: oracle-priced deposits and exits are closed until then; ``pause``: who paused it, else empty.
    """

    head: BlockHeader
    layout: Layout
    book: VaultBook
    codes: tuple[int, ...]
    evidence: FeedAnswers
    clock: Clock
    mandate: Mandate
    last_good: tuple[int, ...]
    flows: tuple[Flow, ...]
    terms: ShareTerms
    doubted_until: int
    pause: str
    keeper: str
    supply: int

    @property
    def paused(self) -> bool:
        """Whether trading, deposits and oracle-priced exits are stopped."""
        return bool(self.pause)


def read_layout(rpc: Rpc, vault: str, block_hash: str) -> Layout:
    """Return tokens and sources of ``vault``; a token without a symbol is called by its address."""
    chain_id = quantity(rpc.call("eth_chainId"))
    views = [Call(vault, "oracle()", "address"), Call(vault, "tokens()", "address[],uint256[],uint256[]")]
    rows: list[Row] = list(read(rpc, views, block_hash))
    oracle = to_checksum_address(rows[0][0])
    addresses = [to_checksum_address(a) for a in rows[1][0]]
    asks = [Call(oracle, "sources()", SOURCES), Call(oracle, "sequencer()", "address,uint256")]
    found: list[Row] = list(read(rpc, asks, block_hash))
    names = symbols(rpc, addresses, block_hash)
    sources = tuple(source_of(row) for row in found[0][0])
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


def read_state(rpc: Rpc, vault: str, layout: Layout, head: BlockHeader) -> VaultState | None:
    """Return the vault at ``head``; None when its oracle is no longer the layout's."""
    views = [
        Call(vault, "oracle()", "address"),
        Call(vault, "tokens()", "address[],uint256[],uint256[]"),
        Call(vault, "clock()", ",".join(["uint256"] * 7)),
        Call(vault, "mandate()", ",".join(["uint256"] * 6)),
        Call(vault, "pause_reason()", "uint256"),
        Call(vault, "keeper()", "address"),
        Call(vault, "totalSupply()", "uint256"),
        Call(vault, "balances()", "uint256[]"),
        Call(vault, "budgets()", ",".join(["uint256"] * 5)),
        Call(vault, "losses()", ",".join(["uint256"] * 5)),
        Call(vault, "last_prices()", "uint256[8]"),
        Call(vault, "flows()", "uint256[4]"),
        Call(vault, "terms()", ",".join(["uint256"] * 5)),
        Call(vault, "doubted_until()", "uint256"),
        Call(vault, "port()", PORT),
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
    clock, count = rows[2], len(layout.tokens)
    return VaultState(
        head=head,
        layout=layout,
        book=VaultBook(layout.tokens, tuple(rows[1][2]), prices, tuple(rows[7][0]), tuple(rows[14][7])),
        codes=found,
        evidence=evidence,
        clock=Clock(clock[0], clock[1], clock[2], clock[4], clock[5], clock[6], *rows[9]),
        mandate=Mandate(*rows[3], *rows[8]),
        last_good=tuple(rows[10][0][:count]),
        flows=tuple(_flow(word, count) for word in rows[11][0] if word),
        terms=ShareTerms(*rows[12]),
        doubted_until=rows[13][0],
        pause=PAUSES[rows[4][0]],
        keeper=to_checksum_address(rows[5][0]),
        supply=rows[6][0],
    )


def _flow(word: int, count: int) -> Flow:
    """Return the balances the vault keeps from before a flow: 8 x (mantissa 21 | exponent 7 bits) | time << 224."""
    parts = [word >> 28 * i & (1 << 28) - 1 for i in range(count)]
    return Flow(word >> 224, tuple((part & (1 << 21) - 1) << (part >> 21) for part in parts))


def source_of(row: Row) -> PriceSource:
    """Return one row of an oracle's ``sources()``."""
    token, decimals, feed, heartbeat_s, feed_decimals, second, *rest = row
    feeds = to_checksum_address(feed), heartbeat_s, feed_decimals, to_checksum_address(second)
    return PriceSource(to_checksum_address(token), decimals, *feeds, *rest)


def feed_views(layout: Layout) -> dict[tuple[str, int], Call]:
    """Return the reads of every first and second source and the sequencer, by (which, position)."""
    asks = {}
    for i, s in enumerate(layout.sources):
        if s.second_kind == WORTHLESS:
            continue
        asks["first", i] = Call(s.feed, "latestRoundData()", ROUND)
        if s.second_kind in (TWAP_0, TWAP_1):
            asks["second", i] = Call(s.second, "observe(uint32[])", "int56[]", ((s.second_s, 0),))
        elif s.second_kind == FEED:
            asks["second", i] = Call(s.second, "latestRoundData()", ROUND)
    if layout.sequencer:
        asks["sequencer", 0] = Call(layout.sequencer, "latestRoundData()", ROUND)
    return asks


def evidence_of(layout: Layout, answers: Mapping[tuple[str, int], Any]) -> FeedAnswers:
    """Return what the oracle would read; a source that failed is None."""

    def feed(key: tuple[str, int]) -> Answer | None:
        row = answers.get(key)
        return None if row is None or isinstance(row, RpcError) else Answer(*row)

    def second(i: int) -> Answer | Observed:
        row = answers.get(("second", i))
        if layout.sources[i].second_kind not in (TWAP_0, TWAP_1):
            return feed(("second", i))
        return None if row is None or isinstance(row, RpcError) else (row[0][0], row[0][1])

    count = len(layout.sources)
    return FeedAnswers(
        [feed(("first", i)) for i in range(count)], [second(i) for i in range(count)], feed(("sequencer", 0))
    )
