"""Fixtures every test folder shares."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lake.store import Lake
from tests.chain_fixtures import (  # noqa: F401
    automining,
    chain_pair,
    localnet,
    localnet_session,
    pair_session,
    pytest_runtest_setup,
)
from tests.made_once import kernels, tracking_tables

FIRST = ("server", "slow")
ROOT = Path(__file__).resolve().parent.parent

# No example fails because the machine is busy, and what passed passes again; ``make search`` looks for new examples.
settings.register_profile(
    "suite",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    database=None,
    print_blob=True,
)
settings.register_profile("search", settings.get_profile("suite"), derandomize=False)
settings.load_profile("suite")


def pytest_configure() -> None:
    """Let the processes of a run compile each kernel once among them."""
    kernels()


def pytest_collection_finish() -> None:
    """Leave what is alive now out of every later search for garbage: some millions of objects, none of them lost."""
    tracking_tables()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that wait for servers first, then the slow ones: the last minutes then keep all workers busy."""
    rank: dict[Path, int] = {}
    for item in items:
        mine = next((i for i, name in enumerate(FIRST) if item.get_closest_marker(name)), len(FIRST))
        rank[item.path] = min(mine, rank.get(item.path, mine))
    items.sort(key=lambda item: rank[item.path])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake in a temporary folder."""
    return Lake(str(tmp_path / "lake"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of recorded history; the test skips with its reason where there is none."""
    folder = Path(os.environ.get("FOREDRIFT_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "prices_1h.parquet").exists():
        pytest.skip(f"no recorded history at {folder}; point FOREDRIFT_DATA at a folder with prices_1h.parquet")
    return folder
