"""JSON-RPC to a node: one transport seam, retries of named reads only, fallback nodes, masked addresses.

A read may be repeated, so it is: on named failures (a rate limit, a gateway's fault, half an answer, a block that the
node does not have yet), a bounded number of times: of the next node at once, of one that was asked before with jitter
or after the wait it asked for.
Anything else (``eth_sendRawTransaction`` above all) is sent once to the first node and never again: no reply there
means "unknown", and the caller looks the outcome up.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from lake.answers import quantity
from lake.errors import ConfigError, RpcError
from lake.transport import FakeTransport, HttpTransport, Transport, Unreachable, mask

__all__ = ["BATCH", "READS", "FakeTransport", "HttpTransport", "Rpc", "Transport", "Unreachable", "mask", "quantity"]

READS = frozenset(
    {
        "eth_blockNumber",
        "eth_call",
        "eth_chainId",
        "eth_estimateGas",
        "eth_feeHistory",
        "eth_gasPrice",
        "eth_getBalance",
        "eth_getBlockByHash",
        "eth_getBlockByNumber",
        "eth_getBlockReceipts",
        "eth_getCode",
        "eth_getLogs",
        "eth_getStorageAt",
        "eth_getTransactionByHash",
        "eth_getTransactionCount",
        "eth_getTransactionReceipt",
        "eth_maxPriorityFeePerGas",
        "eth_simulateV1",
        "net_version",
        "web3_clientVersion",
    }
)
"""Methods without an effect on the node: the only ones that are ever repeated."""

RETRY_CODES = frozenset({429, -32005, -32016, -32097})
"""JSON-RPC error codes providers use for a rate limit (EIP-1474: -32005 is "limit exceeded")."""

BATCH = 100
"""Most calls in one HTTP request. A node that refuses so many gets half from then on, down to single calls."""

BEHIND = (
    "header not found",
    "unknown block",
    "block not found",
    "could not find block",
    "no state available for",
)
"""What nodes answer about a block they do not have yet, in any of their words."""

BLOCKS = frozenset({"eth_getBlockByHash", "eth_getBlockByNumber"})
"""Reads whose answer null says that this node does not have the block; another one may."""

Call = tuple[str, Sequence[object]]


class Rpc:
    """One chain behind one or several nodes.

    ``urls``: the first is preferred, the others serve reads when it fails. ``timeout`` is per request and
    ``patience`` the most a read may take with all its retries, in seconds; ``tries`` bounds the retries.
    """

    def __init__(
        self,
        urls: str | Iterable[str],
        timeout: float = 10.0,
        transport: Transport | None = None,
        *,
        tries: int = 4,
        patience: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.urls = (urls,) if isinstance(urls, str) else tuple(urls)
        for url in self.urls:
            if urlsplit(url).scheme not in {"http", "https"}:
                raise ConfigError(f"RPC URL {mask(url)} must start with http:// or https://")
        if not self.urls:
            raise ConfigError("an RPC needs at least one URL; set [chain] rpc_urls")
        self.timeout = timeout
        self.transport = transport or HttpTransport()
        self._tries, self._patience, self._sleep = max(1, tries), patience, sleep
        self._chain: int | None = None
        self._checked: set[str] = set()
        self._sizes: dict[str, int] = {}
        self._id = 0

    def __repr__(self) -> str:
        return f"Rpc({', '.join(mask(u) for u in self.urls)})"

    def call(self, method: str, params: Sequence[object] = ()) -> object:
        """Return the result of one call; raises RpcError with the node's code and data.

        ``RpcError.code`` is None when no node gave a usable answer: for a write that means its outcome is unknown.
        """
        result = self._exchange([(method, params)])[0]
        if isinstance(result, RpcError):
            raise result
        if method == "eth_chainId" and self._chain is not None:
            self._same_chain(self.urls[0], result)
        return result

    def batch(self, calls: Sequence[Call], *, errors: bool = False) -> list[object]:
        """Return the results of ``calls`` in order, sent together (reads only).

        The first error is raised; with ``errors=True`` each failed call's RpcError stands in its place instead.
        """
        unsafe = sorted({m for m, _ in calls if m not in READS})
        if unsafe:
            raise ConfigError(f"only reads go into a batch, got {', '.join(unsafe)}; send them one by one")
        results: list[object] = []
        for start in range(0, len(calls), BATCH):
            results += self._exchange(calls[start : start + BATCH])
        for result in results:
            if isinstance(result, RpcError) and not errors:
                raise result
        return results

    def nodes(self) -> tuple[Rpc, ...]:
        """Return each node behind a client of its own, in order, bound to the same chain."""
        return tuple(self._alone(url) for url in self.urls)

    def expect_chain(self, chain_id: int) -> None:
        """Bind to ``chain_id``: every node is asked before its first use; RpcError if one serves another chain.

        A node that is down is asked later, when it is first needed.
        """
        self._chain = chain_id
        self._checked.clear()
        failures: list[str] = []
        for url in self.urls:
            try:
                self._alone(url).call("eth_chainId")
                self._checked.add(url)
            except WrongChain:
                raise
            except RpcError as error:
                failures.append(str(error))
        if not self._checked:
            raise RpcError(f"no node answered when asked for its chain id ({'; '.join(failures)}); check rpc_urls")

    def _alone(self, url: str) -> Rpc:
        options = {"tries": self._tries, "patience": self._patience, "sleep": self._sleep}
        node = Rpc(url, self.timeout, self.transport, **options)  # type: ignore[arg-type]
        node._chain, node._checked, node._sizes = self._chain, self._checked & {url}, self._sizes
        return node

    def _exchange(self, calls: Sequence[Call]) -> list[object]:
        again = all(method in READS for method, _ in calls)
        turn = _Turn(self.urls, self._patience, self._tries if again else 1)
        results: list[object] | None = None
        while (url := turn.next(self._sleep)) is not None:
            left = turn.left() if again else self.timeout
            try:
                self._check_chain(url)
                results = self._sent(url, calls, timeout=max(0.05, min(self.timeout, left)))
                passing = next((why for (m, _), r in zip(calls, results, strict=True) if (why := _passing(m, r))), None)
                if passing is None or not again:
                    return results
                turn.failed(url, passing)
            except Unreachable as error:
                turn.failed(url, str(error), again=error.again, after_s=error.after_s)
        if results is not None:
            return results  # every node says so: no such block, or a limit that did not pass
        names = ", ".join(sorted({m for m, _ in calls}))
        unknown = "" if again else "; it may have taken effect all the same: look it up, do not send it again"
        told = "; ".join(turn.failures)
        raise RpcError(f"{names}: no usable answer after {len(turn.failures)} tries ({told}){unknown}")

    def _sent(self, url: str, calls: Sequence[Call], timeout: float) -> list[object]:
        """Return the answers of ``calls`` from ``url``, in requests of the size it takes."""
        results: list[object] = []
        while len(results) < len(calls):
            size = self._sizes.get(url, BATCH)
            part = calls[len(results) : len(results) + size]
            try:
                results += self._once(url, part, timeout=timeout)
            except Unreachable as error:
                if not error.too_much or len(part) == 1:
                    raise
                self._sizes[url] = len(part) // 2
        return results

    def _once(self, url: str, calls: Sequence[Call], timeout: float) -> list[object]:
        bodies = []
        for method, params in calls:
            self._id += 1
            bodies.append({"jsonrpc": "2.0", "id": self._id, "method": method, "params": list(params)})
        one = len(bodies) == 1
        answer = self.transport.post(url, bodies[0] if one else bodies, timeout)
        parts = [answer] if one else answer
        if not isinstance(parts, list):
            raise _refused(parts)
        by_id = {p["id"]: p for p in parts if isinstance(p, dict) and isinstance(p.get("id"), int)}
        missing = [b for b in bodies if b["id"] not in by_id]
        if missing:
            why = f": {str(parts[0]['error'])[:80]}" if parts and _is_error(parts[0]) else ""
            raise Unreachable(f"{len(missing)} of {len(bodies)} answers missing{why}", too_much=not one)
        results = [_result(by_id[b["id"]], method) for b, (method, _) in zip(bodies, calls, strict=True)]
        if not one and all(isinstance(r, RpcError) and "batch" in str(r).lower() for r in results):
            raise Unreachable(str(results[0]), too_much=True)
        return results

    def _check_chain(self, url: str) -> None:
        if self._chain is None or url in self._checked:
            return
        found = self._once(url, [("eth_chainId", ())], timeout=self.timeout)[0]
        if isinstance(found, RpcError):
            raise Unreachable(str(found))
        try:
            served = quantity(found)
        except RpcError as error:
            raise Unreachable(f"eth_chainId: {error}") from None
        self._same_chain(url, served)
        self._checked.add(url)

    def _same_chain(self, url: str, found: object) -> None:
        served = found if isinstance(found, int) else quantity(found)
        if served != self._chain:
            raise WrongChain(
                f"{mask(url)} serves chain id {served}, required is {self._chain}; correct [chain] id or rpc_urls"
            )


class WrongChain(RpcError):
    """A node serves another chain: asking again or elsewhere does not help."""


class _Turn:
    """Whose turn it is: the nodes in rotation, waits between tries, and what went wrong so far."""

    def __init__(self, urls: Sequence[str], patience: float, tries: int) -> None:
        self.failures: list[str] = []
        self._ready = dict.fromkeys(urls, 0.0)  # when each may be asked, monotonic seconds
        self._order = list(urls)
        self._asked: set[str] = set()
        self._tries = tries
        self._end = time.monotonic() + patience

    def left(self) -> float:
        """Return the seconds until patience ends."""
        return self._end - time.monotonic()

    def next(self, sleep: Callable[[float], None]) -> str | None:
        """Return the node to ask now, after the wait that is due; None when tries, time or nodes have run out."""
        tried = len(self.failures)
        if tried >= self._tries or not self._order:
            return None
        fresh = next((u for u in self._order if u not in self._asked), None)
        if fresh is not None:  # another node owes no wait for this one's fault
            self._asked.add(fresh)
            return fresh
        pause = random.uniform(0.5, 1.5) * min(0.1 * 2 ** (tried - len(self._asked)), 3.0)
        at = time.monotonic() + pause
        url = min(self._order, key=lambda u: max(at, self._ready[u]))  # the first in rotation of those that are ready
        pause = max(at, self._ready[url]) - time.monotonic()
        if pause > self.left():
            self.failures[-1] += f"; to be asked again in {pause:.0f} s at the earliest" if pause >= 1 else ""
            return None
        sleep(pause)
        return url

    def failed(self, url: str, why: str, *, again: bool = True, after_s: float = 0.0) -> None:
        """Book a failure of ``url``, which goes to the end of the rotation, or out of it."""
        self.failures.append(f"{mask(url)}: {why}")
        self._ready[url] = time.monotonic() + after_s
        self._order.remove(url)
        if again:
            self._order.append(url)


def _passing(method: str, result: object) -> str | None:
    """Return what is wrong with a read's ``result`` when it may pass: a limit, a block the node does not have yet."""
    if isinstance(result, RpcError):
        behind = any(words in str(result).lower() for words in BEHIND)
        return str(result) if result.code in RETRY_CODES or behind else None
    return f"{method}: the node does not have the block" if result is None and method in BLOCKS else None


def _refused(answer: object) -> Unreachable:
    """Return what one object in the place of a batch's list means: a limit that passes, or too large a batch."""
    if not isinstance(answer, dict) or not _is_error(answer):
        return Unreachable("an answer that is not JSON-RPC")
    told = _result(answer, "the batch")
    passes = isinstance(told, RpcError) and told.code in RETRY_CODES and "batch size" not in str(told).lower()
    return Unreachable(str(told), too_much=not passes)


def _is_error(part: object) -> bool:
    return isinstance(part, dict) and bool(part.get("error"))


def _result(part: Mapping[str, object], method: str) -> object:
    error = part.get("error")
    if isinstance(error, str):
        return RpcError(f"{method}: {error}", -32000)
    if isinstance(error, dict):
        data = error.get("data")
        if isinstance(data, dict):  # some nodes wrap the revert data once more
            data = data.get("data")
        code = error.get("code")
        return RpcError(
            f"{method}: {error.get('message', 'error without a message')}",
            code if isinstance(code, int) and not isinstance(code, bool) else -32000,
            data if isinstance(data, str) else None,
        )
    if "result" not in part:
        raise Unreachable("an answer with neither result nor error")
    return part["result"]
