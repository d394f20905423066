"""Secrets of services: in a variable, or better in a file that only its owner may read, named by ``<VARIABLE>_FILE``.

A variable is inherited by every child and shown in /proc; a file is neither. Docker and systemd hand secrets over as
files.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from lake.errors import ConfigError

SUFFIX = "_FILE"


def secret(variable: str) -> str | None:
    """Return the secret of ``variable`` or of the file that ``<variable>_FILE`` names, None where neither has one.

    ConfigError, which never holds the secret, where the file cannot be read or is open to others.
    """
    given = os.environ.get(variable, "").strip()
    return given or read(variable + SUFFIX)


def read(variable: str) -> str | None:
    """Return what the file named by ``variable`` holds, None where it names none or the file is empty."""
    file = os.environ.get(variable)
    if not file:
        return None
    try:
        with Path(file).open(encoding="utf-8") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            text = opened.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the file of {variable} cannot be read: {type(error).__name__}") from None
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"the file of {variable} is open to others: chmod 600 {file}")
    return text or None
