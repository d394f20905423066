r"""Which folders the stores can live in: what their libraries cannot address is refused before the first write.

Delta and the object store beneath it turn a folder into a URL. Control characters, ``[ ] ^ | \`` cannot be written
there at all, a percent sign before two hex digits is decoded to another folder, ``=`` is read as a partition of the
table, and SQLite's URL (MLflow's store) ends at ``?``. Everything else works: spaces, ``# % + & ' " * { } ~``, any
letter of any script.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from lake.errors import ConfigError

_REFUSED = frozenset("?=[]^|\\")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")


def usable(path: str | Path, what: str) -> str:
    """Return ``path`` as text; raises ConfigError naming the character that ``what`` (e.g. "the lake") cannot bear."""
    text = str(path)
    bad = [c for c in text if c in _REFUSED or unicodedata.category(c) in {"Cc", "Cs"}]
    bad += _ESCAPE.findall(text)
    if bad:
        name = "" if len(bad[0]) > 1 else f" ({unicodedata.name(bad[0], f'U+{ord(bad[0]):04X}').lower()})"
        raise ConfigError(
            f"{what} cannot live in {text!r}: its path contains {bad[0]!r}{name}, which the storage libraries cannot "
            "address; rename the folder or set another path. Nothing was written"
        )
    return text


def is_url(root: str) -> bool:
    """Return whether ``root`` is an object-store URL such as ``s3://bucket/lake`` rather than a folder."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", root) is not None
