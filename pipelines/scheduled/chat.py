"""Questions and answers over Telegram's Bot API: /status /next /portfolio /stop, from people on the list alone.

It only reads, but for /stop, which halts and never sends. Resuming is a thing of the terminal. The token is in
FOREDRIFT_TELEGRAM_TOKEN, or in a file named by FOREDRIFT_TELEGRAM_TOKEN_FILE; it is in no log and no error.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import structlog

from lake.errors import ForedriftError
from lake.json_text import parsed
from pipelines.secret_files import read

VARIABLE = "FOREDRIFT_TELEGRAM_TOKEN"
POLL_S = 25  # how long the API holds a question for updates open
PAUSE_S = 5.0  # after an answer that was none
LONGEST = 4_000  # characters of a message; the API takes 4,096
Answer = Callable[[str], str]


def take_token() -> str | None:
    """Take the token out of the environment (no child process inherits it), or read its file; None without one."""
    return os.environ.pop(VARIABLE, "").strip() or read(f"{VARIABLE}_FILE")


class Chat:
    """Asks the API for messages and answers those of ``allowed`` users; ``commands`` take the rest of the message."""

    def __init__(self, url: str, token: str, allowed: Sequence[int], commands: Mapping[str, Answer]) -> None:
        self.allowed, self.commands = frozenset(allowed), commands
        self._base, self._next = f"{url.rstrip('/')}/bot{token}", 0
        self._http = httpx.Client(timeout=POLL_S + 10)

    def poll(self, wait_s: int = POLL_S) -> int:
        """Answer what has come and return how many messages were answered. ForedriftError without the token's address.

        A message is confirmed before it is answered: one that fails is not answered again and again.
        """
        updates = self._call("getUpdates", {"offset": self._next, "timeout": wait_s, "allowed_updates": ["message"]})
        answered = 0
        for update in updates if isinstance(updates, list) else []:
            self._next = max(self._next, int(update["update_id"]) + 1)
            message = update.get("message") or {}
            who, text = (message.get("from") or {}).get("id"), str(message.get("text") or "")
            if who not in self.allowed or (message.get("chat") or {}).get("id") != who:
                continue  # strangers and groups get no answer: nobody learns that somebody listens
            self._call("sendMessage", {"chat_id": who, "text": self.answer(text)[:LONGEST]})
            answered += 1
        return answered

    def answer(self, text: str) -> str:
        """Return the answer to a message."""
        name, _, rest = text.strip().partition(" ")
        known = self.commands.get(name.partition("@")[0].lower())
        if known is None:
            return f"I know {', '.join(self.commands)}"
        try:
            return known(rest.strip())
        except (ForedriftError, OSError) as error:
            structlog.get_logger().warning("chat", command=name, error=str(error))
            return "that could not be answered just now; the log says why"

    def _call(self, method: str, body: Mapping[str, Any]) -> Any:
        try:
            answer = self._http.post(f"{self._base}/{method}", json=body)
            said = parsed(answer.content)
        except (httpx.HTTPError, ValueError) as error:
            raise ForedriftError(f"Telegram did not answer {method}: {type(error).__name__}") from None
        if not isinstance(said, dict) or not said.get("ok"):
            raise ForedriftError(f"Telegram refused {method} with status {answer.status_code}")
        return said.get("result")


@contextmanager
def chatting(chat: Chat | None) -> Iterator[None]:
    """Answer messages in a thread while the block lasts; None does nothing. A failing API is logged and asked again."""
    if chat is None:
        yield
        return
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            try:
                chat.poll()
            except (ForedriftError, KeyError, TypeError, ValueError, AttributeError) as error:
                structlog.get_logger().warning("chat", error=f"{type(error).__name__}: {error}")
                done.wait(PAUSE_S)

    threading.Thread(target=run, name="chat", daemon=True).start()
    try:
        yield
    finally:
        done.set()
