"""What many tests need and is the same each time: compiled once in a run, made once on a machine, then taken again."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from importlib.metadata import version
from pathlib import Path

import sqlalchemy
from numba.core.dispatcher import Dispatcher


@contextmanager
def alone(name: str) -> Iterator[Path]:
    """Keep other processes out for as long as the block lasts; yield a path for what is made under ``name``."""
    place = Path(tempfile.gettempdir()) / f"foredrift-{os.getuid()}-{name}"
    with place.with_name(place.name + ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield place


def kernels() -> None:
    """Compile each kernel in one process at a time: whoever comes second finds it in the cache."""
    compiled = Dispatcher.compile

    @wraps(compiled)
    def once(self: Dispatcher, signature: object) -> object:
        name = f"{self.py_func.__module__}.{self.py_func.__qualname__}".replace("<", "").replace(">", "")
        with alone(name):
            return compiled(self, signature)

    Dispatcher.compile = once


def tracking_tables() -> None:
    """Copy MLflow's empty tables into a new SQLite store: a second of migrations, the same every time."""
    from mlflow.store.db import utils
    from mlflow.store.model_registry import sqlalchemy_store

    made = utils._initialize_tables

    @wraps(made)
    def copied(engine: sqlalchemy.Engine) -> None:
        file = engine.url.database
        if engine.dialect.name != "sqlite" or not file or sqlalchemy.inspect(engine).get_table_names():
            made(engine)
            return
        with _template(made) as kept, closing(sqlite3.connect(kept)) as old, closing(sqlite3.connect(file)) as new:
            old.backup(new)
        engine.dispose()

    utils._initialize_tables = sqlalchemy_store._initialize_tables = copied


@contextmanager
def _template(made: Callable[[sqlalchemy.Engine], None]) -> Iterator[Path]:
    with alone(f"mlflow-{version('mlflow')}") as place:
        kept = place.with_name(place.name + ".db")
        if not kept.exists():
            half = place.with_name(place.name + ".half")
            half.unlink(missing_ok=True)
            engine = sqlalchemy.create_engine(f"sqlite:///{half}")
            made(engine)
            engine.dispose()
            half.rename(kept)
        yield kept
