"""Hooks of the documentation site: notebooks become pages, links that leave docs/ for the repository become names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")
_NOTEBOOK = re.compile(r"(\]\([\w./-]+)\.ipynb\)")


def on_files(files: Any, config: Any) -> Any:
    """Add a page for every notebook; the notebook itself stays beside it, to be downloaded."""
    from mkdocs.structure.files import File

    docs = Path(config.docs_dir)
    for notebook in sorted((docs / "notebooks").glob("*.ipynb")):
        page = f"notebooks/{notebook.stem}.md"
        files.append(File.generated(config, page, content=as_markdown(notebook)))
    return files


def as_markdown(notebook: Path) -> str:
    """Return the text and the code of a notebook; what a run prints is not kept in it."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(_NOTEBOOK.sub(r"\1.md)", text) if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    title, *rest = parts
    return "\n\n".join([title, f"[Download the notebook]({notebook.name}), or run it where it lies.", *rest]) + "\n"


def on_page_markdown(markdown: str, page: Any = None, **_: Any) -> str:
    """Return the page without links that the site cannot follow; a page in a folder may point to its neighbours."""
    inside = page is not None and "/" in page.file.src_uri
    return markdown if inside else _OUTSIDE.sub(r"\1", markdown)
