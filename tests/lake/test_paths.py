"""A lake lives at any path its storage can address; every other path is refused by name before the first write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError
from lake.ingest import status
from lake.paths import usable
from lake.store import Lake

T0 = datetime(2024, 1, 31, 22, tzinfo=UTC)
H = timedelta(hours=1)
WORKS = " #%&+'\"*{}~:;,!@$()<>`éñ日本😀\u200b\u0301\u00a0"
REFUSED = ["?", "=", "[", "]", "^", "|", "\\", "\n", "\t", "\x01", "\x7f", "%20", "%2F", "%41"]


def gas(hours: range, fee: float) -> pl.DataFrame:
    ts = pl.Series([T0 + h * H for h in hours], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"chain_id": 1, "ts": ts, "base_fee_gwei": fee, "available_at": ts + H}).with_columns(
        pl.col("chain_id").cast(pl.Int64)
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.sampled_from(WORKS + "aZ9"), min_size=1, max_size=6))
@example("My Fund")
@example("50% #1 + é日😀")
@example("quote'\"")
@example("star*")
def test_write_twice_scan_as_of_and_status_at_any_path(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.mktemp("k") / f"x{name}x"
    lake = Lake(str(root))
    try:
        usable(root, "the lake")
    except ConfigError:  # two characters that together are an escape
        with pytest.raises(ConfigError, match="path contains"):
            lake.write("gas", gas(range(4), 1.0))
        assert not root.exists()
        return
    assert lake.write("gas", gas(range(4), 1.0)).added == 4
    again = lake.write("gas", gas(range(2, 6), 2.0))
    assert (again.added, again.updated) == (2, 2)
    got = lake.scan("gas").sort("ts").collect()
    assert got["base_fee_gwei"].to_list() == [1.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    assert lake.scan("gas", T0 + 3 * H).collect().height == 3
    assert lake.scan("gas", version=1).collect().height == 4
    assert status(lake, T0 + 6 * H)["rows"].to_list() == [6]
    lake.replace("gas", gas(range(6), 3.0), T0, T0 + 6 * H)
    lake.compact(168)
    assert lake.scan("gas").collect()["base_fee_gwei"].unique().to_list() == [3.0]
    assert [p.name for p in root.parent.iterdir()] == [root.name]


@pytest.mark.parametrize("character", REFUSED)
def test_a_path_that_cannot_be_addressed_is_refused_by_name_before_the_first_write(
    tmp_path: Path, character: str
) -> None:
    root = tmp_path / f"a{character}b"
    with pytest.raises(ConfigError) as refused:
        Lake(str(root)).write("gas", gas(range(2), 1.0))
    assert repr(character) in str(refused.value)
    assert "rename" in str(refused.value)
    with pytest.raises(ConfigError):
        Lake(str(root)).scan("gas")
    assert list(tmp_path.iterdir()) == []


def test_a_lake_at_a_relative_path_is_the_one_at_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Lake("my lake").write("gas", gas(range(2), 1.0))
    assert Lake(str(tmp_path / "my lake")).scan("gas").collect().height == 2
    assert Lake("s3://bucket/a?b").uri("gas") == "s3://bucket/a?b/gas"
