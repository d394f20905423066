"""The signs of life of ``foredrift serve``: to systemd, and in the file that ``foredrift health`` reads.

They come from the loop that starts the runs, so a loop that hangs gives none: systemd's watchdog ends it then. Without
an answer of the scheduler there is no sign either, and where it is gone for good the process ends with an error, for
its manager to start both again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from lake.errors import ForedriftError
from pipelines.monitor.health import own_sign
from pipelines.monitor.logs import log
from pipelines.scheduled.sd_notify import notify

BEAT_S = 5.0
ASK_S = 10.0
GONE_S = 300.0  # a scheduler that starts on a crowded machine takes four minutes


@dataclass(frozen=True, slots=True)
class Pulse:
    """``url``: the scheduler's API; ``file``: where the sign of life goes; ``clock``: seconds that only rise.

    ``own``: the scheduler was started here, so that one that is silent for ``gone_s`` ends this process, too.
    """

    url: str
    file: Path
    own: bool = True
    beat_s: float = BEAT_S
    gone_s: float = GONE_S
    clock: Callable[[], float] = time.monotonic

    async def beat(self) -> None:
        """Give signs of life until cancelled. ForedriftError where the own scheduler is gone.

        READY at its first answer, WATCHDOG at each turn of the loop.
        """
        ready, heard = False, self.clock()
        async with httpx.AsyncClient(timeout=ASK_S, trust_env=False) as http:
            while True:
                notify("WATCHDOG=1")
                if await _answers(http, self.url):
                    heard = self.clock()
                    await asyncio.to_thread(_sign, self.file)
                    if not ready:
                        ready = notify("READY=1", "STATUS=the scheduled runs are served") or True
                elif self.own and self.clock() - heard > self.gone_s:
                    raise ForedriftError(
                        f"the scheduler at {self.url} has not answered for {self.gone_s:.0f} s; start foredrift serve "
                        "again (a service manager does)"
                    )
                await asyncio.sleep(self.beat_s)


@contextlib.asynccontextmanager
async def living(pulse: Pulse | None) -> AsyncIterator[asyncio.Task[None] | None]:
    """Give signs of life while the block lasts; systemd hears STOPPING at its end. None gives none."""
    if pulse is None:
        yield None
        return
    task = asyncio.create_task(pulse.beat())
    try:
        yield task
    finally:
        notify("STOPPING=1")
        pulse.file.unlink(missing_ok=True)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ForedriftError):
            await task


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/health")).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _sign(file: Path) -> None:
    """Leave the sign; a full disk is told once a beat and ends nothing."""
    try:
        own_sign(file)
    except OSError as error:
        log("no sign of life", error=type(error).__name__)
