"""Making sure that the packages with plain names are this project's: where money is, no stranger's code may run."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("lake", "features", "models", "policy", "pipelines")


class ForeignPackageError(ImportError):
    """A folder in the way has the name of one of Foredrift's packages."""


def check_ours() -> None:
    """Raise ForeignPackageError, naming the folder and the remedy, unless all five packages lie beside this one.

    Looks without importing: a stranger's code is not run to find out that it is a stranger's.
    """
    home = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        where = _where(name)
        if where is None or where.parent != home:
            raise ForeignPackageError(
                f"the package {name!r} comes from {where or 'nowhere'}, not from {home}: a folder of that name lies in "
                "the way. Run from another folder, remove it from PYTHONPATH, or set PYTHONSAFEPATH=1"
            )


def _where(name: str) -> Path | None:
    loaded = sys.modules.get(name)
    spec = loaded.__spec__ if loaded is not None else find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]).resolve() if places else None
