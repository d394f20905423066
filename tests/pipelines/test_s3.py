"""A lake on S3 by configuration alone: ingest, train and compare give the figures of a folder."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import boto3
import pytest

from pipelines.deployments import deployment
from pipelines.experiments import client
from pipelines.settings import load
from pipelines.stages.compare import compare
from pipelines.stages.ingest import ingest_all
from pipelines.stages.train import train
from pipelines.wiring import PanelChoice, lake_of
from tests.pipelines.market import END, TEXT, moment
from tests.pipelines.ops_stack import has_postgres, postgres

pytest.importorskip("moto.server", reason="the S3 tests need moto[server]")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@pytest.fixture
def bucket(monkeypatch):
    """The address of a loopback S3 server with an empty bucket; credentials are in the environment only."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    secret = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    boto3.client("s3", endpoint_url=url, region_name="us-east-1", **secret).create_bucket(Bucket="fund")
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": url}).items():
        monkeypatch.setenv(name, value)
    yield url
    server.stop()


def figures(root, extra: str) -> tuple[dict, dict, str]:
    """Ingest, train gas and compare in a new project; return what does not depend on time."""
    root.mkdir()
    file = root / "foredrift.toml"
    models = "\n[models]\nthreads = 1\nrounds = 8\n"
    file.write_text(TEXT.replace('kind = "gas_band"', 'kind = "predictive"') + models + extra)
    settings = load(file)
    ingest_all(settings, [], None, END.isoformat())
    trained = train(deployment(settings), ["gas"], moment(24 * 7), moment(0), register=False)
    outcome = compare(
        settings, moment(24 * 7), moment(0), asked=PanelChoice(2, ["gas_band", "threshold_5pct"]), track=False
    )
    return outcome.json, trained.json, lake_of(settings).digest("prices")


def test_a_bucket_and_a_folder_give_the_same_figures(bucket, tmp_path):
    folder = figures(tmp_path / "folder", "")
    remote = figures(tmp_path / "remote", '[lake]\npath = "s3://fund/lake"\noptions = { AWS_ALLOW_HTTP = "true" }\n')
    assert not (tmp_path / "remote" / "lake.data").exists()
    assert remote[2] == folder[2]
    for mine, theirs in zip(remote[:2], folder[:2], strict=True):
        assert timeless(mine) == timeless(theirs)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in repr(load(tmp_path / "remote" / "foredrift.toml").mlflow)


def test_tracking_in_postgresql_with_artifacts_in_a_bucket(bucket, tmp_path):
    """By configuration alone; ``make ops`` does the same behind a tracking server."""
    if not has_postgres():
        pytest.skip("no /usr/lib/postgresql: install postgresql to test tracking on it")
    with tempfile.TemporaryDirectory() as folder:  # the cluster runs as another user, who must be able to enter
        Path(folder).chmod(0o755)
        with postgres(Path(folder) / "pg") as databases:
            file = tmp_path / "foredrift.toml"
            store = f"postgresql://{databases}/mlflow"
            file.write_text(f'[mlflow]\ntracking_uri = "{store}"\nartifacts = "s3://fund/mlflow"\n')
            mlf = client.client(load(file))
            experiment = client.experiment(load(file), mlf, client.LIVE)
            with client.run(mlf, experiment.experiment_id, "one", {"policy": "gas_band"}) as run_id:
                client.log_values(mlf, run_id, {"total_bp": 12.5})
                mlf.log_text(run_id, "<p>kept</p>", "report.html")
            [run] = mlf.search_runs([experiment.experiment_id], "tags.policy = 'gas_band'")
            client.client(load(file))._tracking_client.store.engine.dispose()
    assert run.data.metrics == {"summary/total_bp": 12.5}
    kept = boto3.client("s3", endpoint_url=bucket).get_object(
        Bucket="fund", Key=f"mlflow/live/{run_id}/artifacts/report.html"
    )
    assert kept["Body"].read() == b"<p>kept</p>"
    assert not (tmp_path / "mlruns").exists()


def timeless(data: dict) -> str:
    return json.dumps({k: v for k, v in data.items() if k not in {"timing", "seconds"}}, sort_keys=True, default=str)
