"""How long-running functions report progress: a plain callable, so that no stage knows the terminal."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many steps are done and how many there are in all."""


def silent(what: str, done: int, total: int) -> None:
    """Report nothing."""
    del what, done, total
