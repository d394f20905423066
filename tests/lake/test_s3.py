"""The lake on an S3 bucket, against a loopback server: the same promises as in a folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.ingest import run, status
from lake.sources.base import RecordedSource
from lake.sources.files import import_file
from lake.sources.sample import simulate
from lake.store import Lake
from tests.lake.test_store import T0, gas

pytest.importorskip("moto.server", reason="the S3 tests need moto[server]")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(moto|werkzeug|botocore|flask).*"),
]
H = timedelta(hours=1)


@pytest.fixture(scope="module")
def bucket() -> Iterator[Lake]:
    """A lake on an empty bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(Bucket="lake")
    options = {
        "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "aws_conditional_put": "etag",
    }  # fmt: skip
    yield Lake("s3://lake/project", options)
    server.stop()


def test_write_read_as_of_and_repeat(bucket: Lake) -> None:
    assert bucket.scan("gas").collect().is_empty()
    first = bucket.write("gas", gas(list(range(100))))
    again = bucket.write("gas", gas(list(range(100))))
    assert (first.added, again.added, again.unchanged, again.version) == (100, 0, 100, first.version)
    changed = bucket.write("gas", gas([5, 6, 100], 9.0))
    assert (changed.added, changed.updated) == (1, 2)
    assert bucket.scan("gas", as_of=T0 + 50 * H).collect().height == 50
    assert bucket.scan("gas", version=first.version).filter(pl.col("base_fee_gwei") == 9).collect().is_empty()
    bucket.replace("gas", gas([0]), T0, T0 + 50 * H)
    assert bucket.scan("gas").collect().height == 52


def test_import_and_ingest_give_the_lake_of_a_folder(bucket: Lake, lake: Lake, tmp_path: Path) -> None:
    market = simulate(start=T0, hours=200)
    market["prices"].write_parquet(path := tmp_path / "p.parquet")
    source = RecordedSource("recorded", "pool_state", {"chain_id": 1, "pool": "sample-ETH"},
                            market["pool_state"].filter(pl.col("pool") == "sample-ETH"), 3600)  # fmt: skip
    for home in (bucket, lake):
        import_file(home, "prices", path)
        run(home, source, T0, T0 + 200 * H, now=T0 + 200 * H)
    for name in ("prices", "pool_state"):
        assert bucket.digest(name) == lake.digest(name)
    assert {"prices", "pool_state"} <= set(status(bucket, T0)["table"])


def test_two_writers_at_once_lose_nothing(bucket: Lake) -> None:
    frames = [gas(list(range(i * 10, i * 10 + 40))).with_columns(chain_id=pl.lit(10, pl.Int64)) for i in range(6)]
    failures: list[BaseException] = []

    def write(mine: list[pl.DataFrame]) -> None:
        try:
            for frame in mine:
                bucket.write("gas", frame)
        except BaseException as error:  # handed to the test below
            failures.append(error)

    threads = [threading.Thread(target=write, args=(frames[i::2],)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    got = bucket.scan("gas").filter(pl.col("chain_id") == 10).sort("ts").collect()
    assert got["ts"].to_list() == [T0 + h * H for h in range(90)]


def test_credentials_are_in_no_repr(bucket: Lake) -> None:
    assert "SECRET" not in repr(bucket).upper()
