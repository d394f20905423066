"""What ``foredrift keep`` hears of a chain's blocks, into table ``heads``: beside the decisions, never in their way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lake.errors import ForedriftError
from lake.heads import HeadEvent
from lake.locks import exclusive
from lake.private import private_folder
from lake.rpc import Rpc
from lake.sources.head_log import HeadLog
from lake.store import Lake
from lake.universe import Chain
from pipelines.monitor.logs import log


@contextmanager
def recorder(lake: Lake, chain: Chain, folder: Path, rpc: Rpc) -> Iterator[HeadLog | None]:
    """Yield the log of ``chain`` with its cursor in ``folder``; None where it cannot be kept, which is logged.

    Another process may keep it already, or its cursor is damaged. At the end what is confirmed is written.
    """
    private_folder(folder)
    cursor = folder / f"heads-{chain.chain_id}.json"
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(cursor.with_suffix(".lock"), wait=False))
            found = HeadLog(lake, chain, cursor, rpc)
        except (BlockingIOError, ForedriftError) as error:
            taken = isinstance(error, BlockingIOError)
            log("heads", chain=chain.name, unrecorded="another process records them" if taken else str(error))
            yield None
            return
        try:
            yield found
        finally:
            try:
                found.close()
            except (ForedriftError, OSError) as error:
                log("heads", chain=chain.name, lost=str(error))


async def booked(events: AsyncIterator[HeadEvent], into: HeadLog | None) -> AsyncIterator[HeadEvent]:
    """Yield ``events``, each booked after it was taken; a lake that refuses is told and stops nothing."""
    async for event in events:
        yield event
        if into is None:
            continue
        try:
            await asyncio.to_thread(into.book, event)
        except (ForedriftError, OSError) as error:
            log("heads", refused=str(error))
