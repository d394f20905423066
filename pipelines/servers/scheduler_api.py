"""The scheduler's HTTP API: where it is, who asks, and patience with one that is busy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import httpx

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses (s) before a busy scheduler is asked again: one on SQLite answers 503 while its file is locked, and one that
has just started answers late."""


def api_url() -> str | None:
    """Return the scheduler's API as set by PREFECT_API_URL, None without one."""
    return os.environ.get("PREFECT_API_URL") or None


def credentials() -> tuple[str, str] | None:
    """Return the scheduler's user and password as set by PREFECT_API_AUTH_STRING, None without one."""
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    return (user, password) if password else None


def patiently(ask: Callable[[], httpx.Response], waits_s: Sequence[float] = WAITS_S) -> httpx.Response:
    """Return what ``ask`` answers, asked again while it says 503 (after the next pause) or nothing in time (at once).

    What is asked must be safe to ask twice. Raises httpx.HTTPError as ``ask`` does; the last 503 is returned.
    """
    for wait_s in waits_s:
        try:
            answer = ask()
        except httpx.ReadTimeout:
            continue
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            return answer
        time.sleep(wait_s)
    return ask()
