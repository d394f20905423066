"""How a project's files lie, by number: what an older version left is moved by `foredrift migrate`, never guessed at.

Layout 1 (version 0.1): every vault's plans in ``.foredrift/journal``. Layout 2: those of a vault on a chain in a
journal that bears its chain's id and its address.
"""

from __future__ import annotations

import json
from pathlib import Path

from lake.errors import ConfigError
from lake.private import STATE, opener, private_folder
from pipelines.sections import SHARED_JOURNAL

LAYOUT = 2
MARK = f"{STATE}/layout.json"


def installed_version() -> str:
    """Return the version of this installation."""
    from importlib.metadata import version

    return version("foredrift")


def marked(root: Path) -> int | None:
    """Return the layout noted in the project of ``root``, None where none is. Raises ConfigError on nonsense."""
    try:
        return int(json.loads((root / MARK).read_text(encoding="utf-8"))["layout"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{root / MARK} cannot be read; remove it and run `foredrift migrate`") from error


def mark(root: Path, version: str) -> None:
    """Note that the project of ``root`` is of this version's layout."""
    private_folder(root / STATE)
    scratch = root / f"{MARK}.new"
    with open(scratch, "w", encoding="utf-8", opener=opener) as file:
        json.dump({"layout": LAYOUT, "version": version}, file)
    scratch.replace(root / MARK)


def left_behind(root: Path, journal: str) -> Path | None:
    """Return the journal of layout 1 that the vault whose own is ``journal`` may still have plans in, None else."""
    own, old = (root / journal).resolve(), (root / SHARED_JOURNAL).resolve()
    named = journal.startswith(f"{SHARED_JOURNAL}-")  # named after the vault, not by the settings
    return old if named and not own.exists() and old.is_file() and old.stat().st_size > 0 else None


def fault(root: Path, journal: str) -> str:
    """Return why this version cannot work on the project as it lies, empty where it can."""
    found = marked(root)
    if found is not None and found > LAYOUT:
        return f"{root} is of layout {found}, written by a newer version; this one knows {LAYOUT}: install that version"
    old = left_behind(root, journal)
    if old is not None:
        return f"{root} is of an older layout: {old} may hold this vault's plans; run `foredrift migrate`"
    return ""
