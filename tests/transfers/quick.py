"""A transport for a great many short runs: one kept connection a node, and reads of one moment asked for once."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from lake.transport import Unreachable

MOVING = ("eth_send", "evm_", "anvil_")


@dataclass
class Quick:
    """``keeps``: answers to reads are kept until :meth:`forget`; for who looks at chains on which nothing moves."""

    keeps: bool = False
    kept: dict[str, Any] = field(default_factory=dict)
    links: threading.local = field(default_factory=threading.local)

    def forget(self) -> None:
        """Ask anew from now on."""
        self.kept.clear()

    def post(self, url: str, body: Any, timeout: float) -> object:
        """Return the parsed answer, out of memory where it is there."""
        del timeout
        rows = body if isinstance(body, list) else [body]
        names = [url + json.dumps([r["method"], r["params"]]) for r in rows]
        missing = [(n, r) for n, r in zip(names, rows, strict=True) if n not in self.kept]
        if missing:
            told = self._asked(url, [r for _, r in missing])
            answers = dict(zip([n for n, _ in missing], told, strict=True))
            fixed = {n: a for (n, r), a in zip(missing, told, strict=True) if self._fixed(r, a)}
        else:
            answers, fixed = {}, {}
        out = [{**(answers.get(n) or self.kept[n]), "id": r["id"]} for n, r in zip(names, rows, strict=True)]
        self.kept |= fixed
        return out if isinstance(body, list) else out[0]

    def _fixed(self, row: dict[str, Any], answer: dict[str, Any]) -> bool:
        return self.keeps and "error" not in answer and not row["method"].startswith(MOVING)

    def _asked(self, url: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        place = urlsplit(url)
        mine: dict[str, http.client.HTTPConnection] = self.links.__dict__
        link = mine.setdefault(url, http.client.HTTPConnection(place.hostname or "", place.port))
        sent = json.dumps(rows if len(rows) > 1 else rows[0])
        try:
            link.request("POST", place.path or "/", sent, {"Content-Type": "application/json"})
            answer = link.getresponse()
            status, raw = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            link.close()
            raise Unreachable(type(error).__name__) from None
        try:
            parsed = json.loads(raw)
        except ValueError:
            raise Unreachable(f"HTTP {status} without JSON") from None
        if status != http.HTTPStatus.OK:
            raise Unreachable(f"HTTP {status}")
        found = parsed if isinstance(parsed, list) else [parsed]
        by_id = {row["id"]: row for row in found}
        if set(by_id) != {r["id"] for r in rows}:
            raise Unreachable("other answers than were asked for")
        return [by_id[r["id"]] for r in rows]
