"""``foredrift health``: which things of a project are to be alive, and where each of them answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lake.errors import ConfigError
from pipelines.experiments.client import is_server
from pipelines.monitor.health import WHAT, Owner, Vital, answers, kept, served


@dataclass(frozen=True, slots=True)
class Places:
    """Where things answer: ``sign`` is the file of ``serve``, ``owners`` looks up who keeps each vault.

    ``page``: its address and port, None where it is off; ``metrics``: their port, None without one; ``tracking``: the
    store of MLflow.
    """

    sign: Path
    owners: Callable[[], dict[str, Owner]]
    page: tuple[str, int] | None
    metrics: int | None
    tracking: str
    keeper: bool = False  # whether one is to be alive where nothing else is asked

    def here(self, what: str) -> str:
        """Return the address of ``what``. ConfigError where the settings switch it off."""
        if what == "page" and self.page is not None:
            bind, port = self.page
            host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(bind, f"[{bind}]" if ":" in bind else bind)  # noqa: S104 - compared, not bound # nosec B104
            return f"http://{host}:{port}/health"
        if what == "metrics" and self.metrics is not None:
            return f"http://127.0.0.1:{self.metrics}/metrics"
        if what == "mlflow" and is_server(self.tracking):
            return f"{self.tracking.rstrip('/')}/health"
        setting = {"page": "[page] off", "metrics": "[watch] prometheus_port", "mlflow": "[mlflow] tracking_uri"}[what]
        raise ConfigError(f"health {what}: {setting} leaves it out")

    def usual(self) -> tuple[str, ...]:
        """Return what is looked at where nothing is asked for."""
        on = {"serve": True, "keeper": self.keeper, "page": self.page is not None, "metrics": self.metrics is not None}
        return tuple(name for name in WHAT if on.get(name, name == "mlflow" and is_server(self.tracking)))


def health(places: Places, asked: Sequence[str] = ()) -> list[Vital]:
    """Look at what is ``asked`` for (of WHAT; empty: the usual). ConfigError on another word."""
    wrong = [name for name in asked if name not in WHAT]
    if wrong:
        raise ConfigError(f"there is no {', '.join(wrong)} to look at; there are {', '.join(WHAT)}")
    found = []
    for name in asked or places.usual():
        if name == "serve":
            found.append(served(places.sign))
        elif name == "keeper":
            found.append(kept(places.owners()))
        else:
            found.append(answers(name, places.here(name)))
    return found
