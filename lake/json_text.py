"""Reading JSON that somebody else wrote, as deep as anything of use: brackets without end are refused, not followed.

``json.loads`` follows every bracket on the C stack as far as the interpreter's recursion limit lets it, and libraries
of this project raise that limit (``py_ecc`` to 100,000): two hundred kilobytes of ``[`` from a node would then end the
process by a segmentation fault instead of an error.
"""

from __future__ import annotations

import json
from typing import Any

MOST_DEPTH = 100
"""Brackets within brackets; a block with its transactions and their access lists has six."""
_SAME = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b'"[]{}'))


def parsed(body: bytes | str) -> Any:
    """Return the value of UTF-8 JSON; ValueError where it is none, or nested deeper than about MOST_DEPTH."""
    raw = body.encode() if isinstance(body, str) else body
    text = raw.decode("utf-8-sig")
    plain = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_SAME, _OTHERS)
    brackets = b"".join(plain.split(b'"')[::2])  # without those inside texts
    for _ in range(MOST_DEPTH):
        fewer = brackets.replace(b"[]", b"")
        if len(fewer) == len(brackets):
            break
        brackets = fewer
    if len(brackets) > MOST_DEPTH:
        raise ValueError(f"JSON nested deeper than {MOST_DEPTH} brackets")
    return json.loads(text)
