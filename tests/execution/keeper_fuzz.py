"""The same damage to what a keeper is told: while it looks at blocks, decides, sends and finds out what became of it.

A keeper reads by the block: the first look reads the vault in full, the following ones what each block changed. One
answer (or a few in a row) of one of its blocks is damaged; then the node is sound again, and the same process goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lake.errors import ForedriftError
from lake.head_ring import Head
from lake.rpc import Rpc
from policy.execution.records.journal import FINAL
from policy.execution.submission.gas import FeeRules
from policy.execution.submission.node import JsonNode
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.keeping.chain_market import ChainMarket, Kept
from policy.keeping.desk import Desk, Occasion
from policy.keeping.keeper import Keeper
from policy.localnet.market import Localnet
from tests.chain_fixtures import into_the_hour

BLOCKS, SOUND_BLOCKS = 4, 6


def kept(ctx: Any, folder: Path, rpc: Rpc) -> Keeper:
    """A keeper of the vault of ``ctx``, which reads the market by ``rpc``."""
    one = Kept(ReferenceVault(rpc, ctx.vault_address), ctx.vault_address, ctx.portfolio, ctx.view, ctx.pools)

    @contextmanager
    def cycle(occasion: Occasion) -> Iterator[Any]:
        yield replace(ctx, not_before=occasion.head.number)

    desk = Desk("fuzzed", ctx.journal, cycle, folder / "looks")
    market = ChainMarket(rpc, JsonNode(rpc), [one], FeeRules(), pools_every=2)
    return Keeper([desk], market, width=len(ctx.portfolio.assets), workers=1)


def head_of(net: Localnet) -> Head:
    """The newest block as the follower of heads would hand it on."""
    h = net.node.head()
    return Head(h.number, h.hash, h.parent, h.time, h.base_fee_wei, h.gas_used, h.gas_limit)


def driven(net: Localnet, keeper: Keeper, blocks: int, note: Any) -> list[str]:
    """Make ``blocks`` blocks and let the keeper look at each; return what its cycles ended as, 'blind' for no look."""
    found: list[str] = []
    for _ in range(blocks):
        net.mine()
        note("look")
        blind = keeper.tally.blind
        acts = keeper.on_block(head_of(net))
        found += [a.report.outcome for a in acts]
        found += ["blind"] if keeper.tally.blind > blind else []
    return found


def damaged_run(net: Localnet, ctx: Any, folder: Path, rpc: Rpc, transport: Any) -> tuple[str, list[str]]:
    """Return how the damaged blocks ended, and what is wrong after the sound ones that followed."""
    keeper, wrong = kept(ctx, folder, rpc), list[str]()

    def note(stage: str) -> None:
        transport.stage = stage

    try:
        outcomes = driven(net, keeper, BLOCKS, note)
    except ForedriftError as error:
        outcomes = [type(error).__name__]
    except Exception as error:  # noqa: BLE001 - a traceback is what is looked for
        return "TRACEBACK", [f"{type(error).__name__}: {error}"]
    transport.left = 0
    for _ in range(2):
        driven(net, keeper, SOUND_BLOCKS, note)
        if ctx.journal.flights() and not any(f.state not in FINAL for f in ctx.journal.flights()):
            break
        into_the_hour(net, 60)  # a decision that was refused is taken again with the next hour
    still = [f.state for f in ctx.journal.flights() if f.state not in FINAL]
    if still:
        wrong.append(f"not recovered: {still}")
    return (outcomes[0] if outcomes else "no cycle"), wrong
