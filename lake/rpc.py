"""JSON-RPC to a node: one transport seam, retries of named reads only, fallback nodes, masked addresses.

A read may be repeated, so it is: on named failures, a bounded number of times, with jitter, moving on to the
next node. Anything else (``eth_sendRawTransaction`` above all) is sent once to the first node and never
again: no reply there means "unknown", and the caller looks the outcome up.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import httpx

from lake.errors import ConfigError, RpcError

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

RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP answers that say "later": too early, too many requests, gateway trouble."""

RETRY_CODES = frozenset({429, -32005, -32016, -32097})
"""JSON-RPC error codes providers use for a rate limit (EIP-1474: -32005 is "limit exceeded")."""

BATCH = 100
"""Calls in one HTTP request. Providers commonly cap a batch at 100 to 1,000; lower it if yours refuses."""

Call = tuple[str, Sequence[object]]


class Unreachable(Exception):
    """A transport got no usable answer. ``again`` says whether a read may be tried again."""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        super().__init__(reason)
        self.again = again


class Transport(Protocol):
    """Carries one JSON body to a URL and returns the JSON that came back."""

    def post(self, url: str, body: object, timeout: float) -> object:
        """Return the parsed answer; raises Unreachable when there is none within ``timeout`` seconds."""
        ...


class HttpTransport:
    """Transport over HTTP with kept connections."""

    def __init__(self) -> None:
        self._client = httpx.Client(follow_redirects=False)

    def post(self, url: str, body: object, timeout: float) -> object:
        """Return the parsed answer; raises Unreachable without the URL in its text."""
        try:
            answer = self._client.post(url, json=body, timeout=timeout)
        except httpx.HTTPError as error:
            raise Unreachable(type(error).__name__) from None  # the library's text holds the full URL
        try:
            parsed: object = answer.json()
        except ValueError:
            raise Unreachable(
                f"HTTP {answer.status_code} without JSON", again=answer.is_success or answer.status_code in RETRY_STATUS
            ) from None
        if not answer.is_success and not _has_error(parsed):
            raise Unreachable(f"HTTP {answer.status_code}", again=answer.status_code in RETRY_STATUS)
        if answer.status_code in RETRY_STATUS:
            raise Unreachable(f"HTTP {answer.status_code}")
        return parsed


@dataclass
class FakeTransport:
    """A node made of a table, for tests: method -> value, exception, or function of the parameters.

    A list is played one item a call, its last item for ever. ``seen`` logs (url, method, params).
    """

    answers: Mapping[str, object]
    seen: list[tuple[str, str, Sequence[object]]] = field(default_factory=list)
    _played: dict[str, int] = field(default_factory=dict)

    def post(self, url: str, body: object, timeout: float) -> object:
        """Answer from the table; an unknown method is JSON-RPC error -32601."""
        del timeout
        if isinstance(body, list):
            return [self._one(url, request) for request in body]
        return self._one(url, body)

    def _one(self, url: str, request: object) -> object:
        assert isinstance(request, dict)
        method, params = request["method"], request["params"]
        self.seen.append((url, method, params))
        head = {"jsonrpc": "2.0", "id": request["id"]}
        if method not in self.answers:
            return {**head, "error": {"code": -32601, "message": f"no method {method}"}}
        answer = self.answers[method]
        if isinstance(answer, list):
            position = self._played.get(method, 0)
            self._played[method] = position + 1
            answer = answer[min(position, len(answer) - 1)]
        if callable(answer):
            answer = answer(*params)
        if isinstance(answer, RpcError):
            return {**head, "error": {"code": answer.code, "message": str(answer), "data": answer.data}}
        if isinstance(answer, Exception):
            raise answer
        return {**head, "result": answer}


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
        self._id = 0

    def __repr__(self) -> str:
        return f"Rpc({', '.join(mask(u) for u in self.urls)})"

    def call(self, method: str, params: Sequence[object] = ()) -> object:
        """Return the result of one call; raises RpcError with the node's code and data.

        ``RpcError.code`` is None when no node gave a usable answer: for a write that means its outcome is unknown.
        """
        result = self._exchange([(method, params)], one=True)[0]
        if isinstance(result, RpcError):
            raise result
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
            results += self._exchange(calls[start : start + BATCH], one=False)
        for result in results:
            if isinstance(result, RpcError) and not errors:
                raise result
        return results

    def expect_chain(self, chain_id: int) -> None:
        """Bind to ``chain_id``: every node is asked before its first use; RpcError if one serves another chain.

        A node that is down is asked later, when it is first needed.
        """
        self._chain = chain_id
        self._checked.clear()
        reached = []
        for url in self.urls:
            try:
                self._check_chain(url)
                reached.append(url)
            except Unreachable as error:
                last = f"{mask(url)}: {error}"
        if not reached:
            raise RpcError(f"no node answered when asked for its chain id ({last}); check [chain] rpc_urls")

    def _exchange(self, calls: Sequence[Call], *, one: bool) -> list[object]:
        again = all(method in READS for method, _ in calls)
        deadline = time.monotonic() + self._patience
        names = ", ".join(sorted({m for m, _ in calls}))
        failures: list[str] = []
        for attempt in range(self._tries if again else 1):
            url = self.urls[attempt % len(self.urls)]
            try:
                self._check_chain(url)
                left = deadline - time.monotonic() if again else self.timeout
                results = self._once(url, calls, one=one, timeout=max(0.05, min(self.timeout, left)))
                limited = [r for r in results if isinstance(r, RpcError) and r.code in RETRY_CODES]
                if not limited or attempt == self._tries - 1 or not again:
                    return results
                failures.append(f"{mask(url)}: {limited[0]}")
            except Unreachable as error:
                failures.append(f"{mask(url)}: {error}")
                if not error.again and len(self.urls) == 1:
                    break
            pause = random.uniform(0.5, 1.5) * min(0.1 * 2**attempt, 3.0)
            if not again or attempt == self._tries - 1 or time.monotonic() + pause > deadline:
                break
            self._sleep(pause)
        unknown = "" if again else "; it may have taken effect all the same: look it up, do not send it again"
        raise RpcError(f"{names}: no usable answer after {len(failures)} tries ({'; '.join(failures)}){unknown}")

    def _once(self, url: str, calls: Sequence[Call], *, one: bool, timeout: float) -> list[object]:
        bodies = []
        for method, params in calls:
            self._id += 1
            bodies.append({"jsonrpc": "2.0", "id": self._id, "method": method, "params": list(params)})
        answer = self.transport.post(url, bodies[0] if one else bodies, timeout)
        if isinstance(answer, dict) and not one and isinstance(answer.get("error"), dict):
            return [_result(answer, method) for method, _ in calls]  # the batch was refused as a whole
        parts = [answer] if one else answer
        if not isinstance(parts, list):
            raise Unreachable("an answer that is not JSON-RPC")
        by_id = {part.get("id"): part for part in parts if isinstance(part, dict)}
        missing = [b for b in bodies if b["id"] not in by_id]
        if missing:
            raise Unreachable(f"{len(missing)} of {len(bodies)} answers missing")
        return [_result(by_id[b["id"]], method) for b, (method, _) in zip(bodies, calls, strict=True)]

    def _check_chain(self, url: str) -> None:
        if self._chain is None or url in self._checked:
            return
        found = self._once(url, [("eth_chainId", ())], one=True, timeout=self.timeout)[0]
        if isinstance(found, RpcError):
            raise found
        if quantity(found) != self._chain:
            raise RpcError(
                f"{mask(url)} serves chain id {quantity(found)}, required is {self._chain}; "
                "correct [chain] id or rpc_urls"
            )
        self._checked.add(url)


def quantity(value: object) -> int:
    """Decode a JSON-RPC quantity (``0x1f``); raises RpcError on anything else."""
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return int(value, 16)
        except ValueError:
            pass
    raise RpcError(f"a node sent {str(value)[:40]!r} where a hex quantity is due")


def mask(url: str) -> str:
    """Return scheme and host of ``url`` only: paths, queries and user names of providers carry keys."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    port = f":{parts.port}" if parts.port else ""
    hidden = "/***" if parts.path.strip("/") or parts.query or parts.username or parts.password else ""
    return f"{parts.scheme or '?'}://{host}{port}{hidden}"


def _has_error(parsed: object) -> bool:
    return isinstance(parsed, dict) and isinstance(parsed.get("error"), dict)


def _result(part: Mapping[str, object], method: str) -> object:
    error = part.get("error")
    if isinstance(error, dict):
        data = error.get("data")
        if isinstance(data, dict):  # some nodes wrap the revert data once more
            data = data.get("data")
        code = error.get("code")
        return RpcError(
            f"{method}: {error.get('message', 'error without a message')}",
            code if isinstance(code, int) else -32000,
            data if isinstance(data, str) else None,
        )
    if "result" not in part:
        raise Unreachable("an answer with neither result nor error")
    return part["result"]
