"""Structured logs of scheduled runs: to stderr, without secrets."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Literal

import structlog

_SECRET_HINTS = ("key", "secret", "passphrase", "password", "token", "private")


def configure_logging(form: Literal["text", "json"]) -> Callable[[], None]:
    """Send structured logs to stderr, as text or one JSON object a line; values of secret-looking fields are masked.

    Returns what ends it.
    """
    render: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars, structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True), mask_secrets, render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )  # fmt: skip
    return structlog.reset_defaults


def log(event: str, **fields: Any) -> None:
    """Log ``event`` where logging is set up (scheduled runs); at the command line the printed tables say the same."""
    if structlog.is_configured():
        structlog.get_logger().info(event, **fields)


def mask_secrets(logger: Any, method: str, event: Any) -> Any:
    """Replace the value of every field whose name hints at a secret."""
    del logger, method
    for name in event:
        if name != "event" and any(hint in name.lower() for hint in _SECRET_HINTS) and name != "idempotency_key":
            event[name] = "***"
    return event
