"""The newest rounds of every feed at the decision's block: whether they were finished, and whether they still move."""

from __future__ import annotations

from typing import cast

from lake.errors import RpcError
from lake.evm import Call, try_read
from lake.rpc import Rpc
from lake.sources.oracles import ROUND
from policy.execution.base import Snapshot
from policy.execution.checks.guards import FROZEN_ROUNDS, RoundAnswer


def recent_rounds(rpc: Rpc, snapshot: Snapshot, count: int = FROZEN_ROUNDS) -> dict[str, list[RoundAnswer]]:
    """Return up to ``count`` rounds of each token's feed, newest last, by token address.

    Rounds the feed does not know (before a new aggregator's first) are left out, and so is a feed that does not tell.
    """
    asks = [
        (token.address, Call(token.feed, "getRoundData(uint80)", ROUND, (quote.round_id - back,)))
        for token, quote in zip(snapshot.tokens, snapshot.quotes, strict=True)
        for back in reversed(range(min(count, quote.round_id + 1)))
        if token.feed is not None
    ]
    found: dict[str, list[RoundAnswer]] = {}
    for (token, _), row in zip(asks, try_read(rpc, [v for _, v in asks], snapshot.block_hash), strict=True):
        if not isinstance(row, RpcError):
            found.setdefault(token, []).append(RoundAnswer(*cast("tuple[int, int, int, int, int]", row)))
    return found
