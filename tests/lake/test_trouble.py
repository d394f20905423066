"""What the disk refuses is one line: what is safe, what to do; and nothing of the step is half there."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.errors import StoreError
from lake.store import Lake
from lake.tables import TABLES
from lake.trouble import explained

ROOT = Path(__file__).parents[2]
T0 = datetime(2024, 1, 1, tzinfo=UTC)
H = timedelta(hours=1)


def gas(n: int, first: int = 0) -> pl.DataFrame:
    rows = [{"chain_id": 1, "ts": T0 + i * H, "base_fee_gwei": 1.0 + i, "available_at": T0 + (i + 1) * H}
            for i in range(first, first + n)]  # fmt: skip
    return pl.DataFrame(rows, schema={c: TABLES["gas"].columns[c] for c in rows[0]})


LIMITED = """
import os, resource, sys
from lake.store import Lake
from tests.lake.test_trouble import gas
import polars, deltalake
how = sys.argv[2]
if how == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
elif how == "other user" and os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    Lake(sys.argv[1]).write("gas", gas(5000, 10))
except Exception as error:
    print(type(error).__name__, error)
else:
    print("written")
"""


@pytest.mark.parametrize(("how", "word"), [("full", "file may not grow"), ("other user", "permission is denied")])
def test_a_write_that_the_disk_refuses_says_why_and_leaves_the_table_as_it_was(
    tmp_path: Path, how: str, word: str
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.write("gas", gas(10))
    before = lake.digest("gas")
    for folder in [tmp_path, *tmp_path.rglob("*")]:
        folder.chmod(0o555 if folder.is_dir() else 0o444)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    if how == "full":
        for folder in [tmp_path, *tmp_path.rglob("*")]:
            folder.chmod(0o755 if folder.is_dir() else 0o644)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, lake.root, how], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    for folder in [tmp_path, *tmp_path.rglob("*")]:
        folder.chmod(0o755 if folder.is_dir() else 0o644)
    assert done.stdout.startswith("StoreError"), done.stdout + done.stderr
    assert word in done.stdout
    assert "what was written before is safe" in done.stdout
    assert len(done.stdout.strip().splitlines()) == 1
    assert lake.digest("gas") == before
    assert lake.write("gas", gas(20)).added == 10


@pytest.mark.parametrize("how", ["log cut", "log gone", "data gone", "data cut", "lake is a file"])
def test_a_damaged_table_is_one_line_with_the_remedy(tmp_path: Path, how: str) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.write("gas", gas(10))
    table = tmp_path / "lake" / "gas"
    log, data = table / "_delta_log", next(table.rglob("*.parquet"))
    if how == "log cut":
        for file in log.glob("*.json"):
            file.write_bytes(file.read_bytes()[:20])
    elif how == "log gone":
        shutil.rmtree(log)
    elif how == "data gone":
        data.unlink()
    elif how == "data cut":
        data.write_bytes(data.read_bytes()[:50])
    else:
        shutil.rmtree(tmp_path / "lake")
        (tmp_path / "lake").write_text("")
    with pytest.raises(StoreError) as told:
        lake.write("gas", gas(20))
    assert "\n" not in str(told.value)
    assert "folder" in str(told.value)
    assert not (how == "log gone" and log.exists())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EIO])
def test_faults_met_while_rows_are_read_are_explained_and_other_errors_are_left_alone(code: int) -> None:
    told = explained(OSError(code, os.strerror(code)), "the lake")
    assert told is not None
    assert "is safe" in str(told)
    assert explained(ValueError("x"), "the lake") is None
    assert explained(ConnectionError("node"), "the lake") is None
    assert explained(FileNotFoundError(2, "No such file", "own.toml"), "the lake") is None


def test_compiled_code_that_cannot_be_kept_is_the_disks_fault_too():
    from numba.core.caching import FunctionCache

    class Nowhere(FunctionCache._impl_class):
        _locator_classes = ()

    def compiled() -> None:
        """Compile to nothing."""

    with pytest.raises(RuntimeError, match="cannot cache function") as refused:
        Nowhere(compiled)
    told = explained(refused.value, "a store of this project")
    assert isinstance(told, StoreError)
    assert "NUMBA_CACHE_DIR" in str(told)
    assert __file__ in str(told)
    assert "\n" not in str(told)
    assert explained(RuntimeError("another one"), "a store") is None
