"""What systemd is told by a service of ``Type=notify``: one datagram a word, nothing where nobody listens."""

from __future__ import annotations

import os
import socket

VARIABLE = "NOTIFY_SOCKET"


def notify(*words: str) -> bool:
    """Send ``words`` (``READY=1``, ``WATCHDOG=1``, ``STOPPING=1``, ``STATUS=...``); return whether they were sent.

    A manager that does not listen any more, or does not read what it was told, is no reason to stop keeping vaults.
    """
    where = os.environ.get(VARIABLE, "")
    if not where.startswith(("/", "@")):
        return False
    name = "\0" + where[1:] if where.startswith("@") else where
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            out.connect(name)
            out.sendall("\n".join(words).encode())
    except OSError:
        return False
    return True
