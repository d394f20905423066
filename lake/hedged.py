"""Reads that do not wait for one slow node: where it has not answered in its usual time, another is asked beside it.

A node that hangs would cost a look at a block its whole timeout, and with it the block ("The Tail at Scale", Dean and
Barroso 2013: hedged requests). The first answer counts. Only reads are asked twice, and of the chain id each node is
asked itself.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from lake.rpc import READS
from lake.transport import HttpTransport, Transport, Unreachable

LEAST_S, FIRST_S = 0.02, 0.25  # waited for a node at least; before anything is known of it
USUAL_TIMES = 4.0  # of a node's usual time, after which another is asked
MEMORY = 0.1  # weight of the newest answer in what is usual
HUNG = 2  # requests without an answer, from which on a node is asked second


class HedgedTransport:
    """Transport to ``urls`` that asks a second one where the one asked is slower than usual for it."""

    def __init__(self, urls: Iterable[str], inner: Transport | None = None) -> None:
        self._urls = tuple(dict.fromkeys(urls))
        self._inner = inner or HttpTransport()
        self._usual_s: dict[str, float] = {}
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(4 * HUNG * max(len(self._urls), 1), thread_name_prefix="rpc")

    def post(self, url: str, body: object, timeout: float) -> object:
        """Return the first answer; raises Unreachable when no node that was asked has one within ``timeout`` s."""
        other = next((u for u in self._urls if u != url), None)
        if other is None or not _repeatable(body):
            return self._inner.post(url, body, timeout)
        first, second = (other, url) if self._open[url] >= HUNG > self._open[other] else (url, other)
        one = self._asked(first, body, timeout)
        patience = max(LEAST_S, USUAL_TIMES * self._usual_s[first] if first in self._usual_s else FIRST_S)
        try:
            return one.result(min(patience, timeout))
        except TimeoutError:
            two = self._asked(second, body, timeout)
        failure: Unreachable | None = None
        for answer in as_completed((one, two)):
            try:
                return answer.result()
            except Unreachable as error:
                failure = failure or error
        assert failure is not None
        raise failure

    def _asked(self, url: str, body: object, timeout: float) -> Future[object]:
        with self._lock:
            self._open[url] += 1
        return self._pool.submit(self._timed, url, body, timeout)

    def _timed(self, url: str, body: object, timeout: float) -> object:
        began = time.monotonic()
        try:
            answer = self._inner.post(url, body, timeout)
        finally:
            with self._lock:
                self._open[url] -= 1
        took = time.monotonic() - began
        with self._lock:
            self._usual_s[url] = took + (1 - MEMORY) * (self._usual_s.get(url, took) - took)
        return answer


def _repeatable(body: object) -> bool:
    calls = body if isinstance(body, list) else [body]
    methods = {c.get("method") for c in calls if isinstance(c, dict)}
    return methods <= READS - {"eth_chainId"}
