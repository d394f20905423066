"""Hooks of the documentation site: links that leave docs/ for the repository's own files become plain names."""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page without links that the site cannot follow."""
    return _OUTSIDE.sub(r"\1", markdown)
