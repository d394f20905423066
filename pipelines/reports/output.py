"""Standard output that never undoes work: what a terminal or pipe cannot take is replaced or dropped, not raised.

Tables are printed after the work is done. A code page without a character, a reader that went away (``| head``) or a
full disk behind a redirection must then not turn what was committed into a traceback.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable
from typing import TextIO


class Tolerant(io.TextIOBase):
    """A text stream over ``below``: characters it cannot encode become ``?``, after a failed write it is silent.

    ``failure`` is the error that ended the output, None while all is well.
    """

    def __init__(self, below: TextIO | None) -> None:
        self.below: TextIO = below or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - lives as long as we; None: closed
        self.failure: OSError | None = None
        if isinstance(self.below, io.TextIOWrapper):
            self.below.reconfigure(errors="replace")

    def write(self, text: str) -> int:
        """Write ``text`` where that is still possible; return its length either way."""
        if self.failure is None:
            try:
                self.below.write(text)
            except OSError as error:
                self._end(error)
        return len(text)

    def flush(self) -> None:
        """Flush, forgiving what :meth:`write` forgives."""
        if self.failure is None:
            try:
                self.below.flush()
            except OSError as error:
                self._end(error)

    def _end(self, error: OSError) -> None:
        """Remember why the output ended and send the rest nowhere, so that the interpreter's own last flush holds."""
        self.failure = error
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.below.fileno())
            os.close(nowhere)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the stream below."""
        return self.below.encoding or "utf-8"

    @property
    def buffer(self) -> object:
        """The bytes below, for the few that write them."""
        return getattr(self.below, "buffer", None)

    def isatty(self) -> bool:
        """Whether the stream below is a terminal."""
        return self.below.isatty()

    def fileno(self) -> int:
        """Descriptor of the stream below."""
        return self.below.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True


def install() -> None:
    """Put a tolerant stream in front of standard output and standard error; twice is once."""
    if not isinstance(sys.stdout, Tolerant):
        sys.stdout = Tolerant(sys.stdout)
    if not isinstance(sys.stderr, Tolerant):
        sys.stderr = Tolerant(sys.stderr)


_hushed: TextIO | None = None  # the standard output that was taken away from tables


def hush() -> Callable[[], None]:
    """Send what is printed on standard output nowhere, JSON apart; return what undoes it. Errors are printed on."""
    global _hushed
    _hushed, sys.stdout = sys.stdout, open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - closed below

    def back() -> None:
        global _hushed
        if _hushed is not None:
            sys.stdout.close()
            sys.stdout, _hushed = _hushed, None

    return back


def hushed() -> TextIO | None:
    """Return the standard output that JSON still goes to while nothing else does, None where all does."""
    return _hushed


def last_words() -> str | None:
    """Flush both streams; return what to tell where the output was cut although the work is done, else None.

    A reader that went away on purpose (a closed pipe) is no fault.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    failure = sys.stdout.failure if isinstance(sys.stdout, Tolerant) else None
    if failure is None or failure.errno == errno.EPIPE:
        return None
    return f"the work is done, but its output could not be written: {failure.strerror}"
