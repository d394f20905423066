"""The round trip of every token before a vault is created: what cannot be traded there and back is never held."""

from __future__ import annotations

from collections.abc import Sequence

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.errors import RpcError
from lake.evm import BlockHeader, Call, head_of, symbols, try_read
from lake.rpc import Rpc
from lake.units import bps
from policy.execution.base import Quote, Snapshot, Token
from policy.execution.probes.preflight import ROUND, pools_and_routers
from policy.execution.probes.roundtrip import prove
from policy.execution.routing.pool_reader import describe_pools, read_pools

HOLDER = to_checksum_address(keccak(text="foredrift vault to be")[:20])
"""An account nobody has, in the place of the vault that does not exist yet."""

Priced = Sequence[tuple[str, int, str, int]]
"""Token, its decimals, its feed and the feed's decimals, the accounting asset first."""


def unfit(rpc: Rpc, priced: Priced, pools: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return why a vault of these tokens must not be created, in words, token by token; empty: nothing is against it.

    ``pools`` are (address, venue, router). A token that cannot be proven counts as one that must not be held.
    """
    infos = describe_pools(rpc, pools)
    wrong = pools_and_routers(rpc, infos)
    if wrong:
        return wrong
    head = head_of(rpc)
    snapshot = _snapshot(rpc, priced, head)
    proven = prove(rpc, HOLDER, snapshot, read_pools(rpc, infos, head.hash))
    return [*(v.reason for v in proven.sick.values()), *proven.unproven.values()]


def _snapshot(rpc: Rpc, priced: Priced, head: BlockHeader) -> Snapshot:
    """Return what the proof needs of the vault to be: tokens, prices by their feeds, the block."""
    addresses = [to_checksum_address(token) for token, *_ in priced]
    names = symbols(rpc, addresses, head.hash)
    tokens = tuple(Token(n, a, row[1], row[2]) for n, a, row in zip(names, addresses, priced, strict=True))
    answers = try_read(rpc, [Call(feed, "latestRoundData()", ROUND) for _, _, feed, _ in priced], head.hash)
    quotes = []
    for token, answer, (*_, digits) in zip(tokens, answers, priced, strict=True):
        price = 0 if isinstance(answer, RpcError) else int(str(answer[1])) * 10**8 // 10**digits
        quotes.append(Quote(token.address, max(0, price), 0, head.time))
    return Snapshot(
        chain_id=0,
        block_number=head.number,
        block_hash=head.hash,
        block_time=head.time,
        base_fee_wei=head.base_fee_wei,
        tokens=tokens,
        holdings=(0,) * len(tokens),
        quotes=tuple(quotes),
        targets_bps=(0,) * len(tokens),
        nav=0,
        supply=0,
        plan_nonce=0,
        paused=False,
        max_turnover_bps=bps(0),
        loss_budget_left=0,
    )
