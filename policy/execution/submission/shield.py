"""Running code that handles a secret so that no exception carries the secret away.

Error reporters upload the local variables of every frame of a traceback, of its cause and of its context. What a
library raises while it holds a key is therefore dropped whole, and an error of our own is raised in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lake.errors import ForedriftError

Result = TypeVar("Result")


def shielded(work: Callable[[], Result], error: type[ForedriftError], message: str) -> Result:
    """Return ``work()``; where it fails raise ``error(message)`` with the kind of failure, and nothing else of it.

    Our own errors (a passphrase that is not set) pass as they are: they never hold a secret. An interruption stays an
    interruption, without the frames it struck in.
    """
    failure, ours, stop = "", None, None
    try:
        return work()
    except ForedriftError as raised:
        ours = raised
    except Exception as raised:  # noqa: BLE001 - whatever a library raises here may hold the secret
        failure = type(raised).__name__
    except BaseException as raised:  # noqa: BLE001 - Ctrl-C and the like; re-raised below, bare
        stop = raised
    del work
    # outside the handlers: an exception raised inside one would keep the other as its context
    if ours is not None:
        raise _bare(ours)
    if stop is not None:
        raise _bare(stop)
    raise error(f"{message} ({failure})")


def _bare(raised: BaseException) -> BaseException:
    """Return ``raised`` without traceback, cause and context."""
    raised.__cause__ = raised.__context__ = None
    return raised.with_traceback(None)
