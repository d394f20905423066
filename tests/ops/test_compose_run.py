"""The compose file's services as processes, each killed once. All of them through a simulated day: `make compose-day`.

Here those that start quickly, in the present hour: PostgreSQL, the keeper and the page.
"""

from __future__ import annotations

import pytest

from tests.ops.compose import Composed, clean_folder, missing
from tests.ops.compose_day import day, faults

SHORT = ("postgres", "keeper", "page")
pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(900)]


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_each_service_comes_back_no_decision_is_lost_or_doubled_and_no_secret_is_shown():
    with clean_folder() as folder:
        found = day(folder, 0.0, SHORT, seed=2)
    assert faults(found, SHORT) == [], found
    assert found["processes looked at"] >= 2 * len(SHORT)


def test_commands_are_the_files_own_with_folders_and_ports_of_this_machine(tmp_path):
    made = Composed(tmp_path)
    words = made.words("mlflow", [*made.services["mlflow"]["entrypoint"], *made.services["mlflow"]["command"]])
    database, port = made.ports["postgres"], made.ports["mlflow"]
    assert f"--backend-store-uri=postgresql://foredrift@127.0.0.1:{database}/mlflow" in words
    assert f"--port={port}" in words
    assert f"--artifacts-destination={tmp_path}/artifacts" in words
    assert not any("0.0.0.0" in w or "/srv/" in w for w in words)
    server = made.environment("server")
    assert server["PGPASSFILE"] == f"{tmp_path}/secrets/pgpass"
    assert server["PREFECT_SERVER_DATABASE_CONNECTION_URL"].endswith(f"@127.0.0.1:{database}/prefect")
    assert server["FOREDRIFT_WATCH__PROMETHEUS_PORT"] == str(made.ports["server"])
    assert set(server) - {"PATH", "PYTHONPATH", "HOME", "TMPDIR", "OMP_NUM_THREADS", "PGPORT"} == {
        *made.services["server"]["environment"], "PYTHONUNBUFFERED", "DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED",
        "MLFLOW_DISABLE_TELEMETRY",
    }  # fmt: skip
    assert str(made.folder_of("keeper")) == f"{tmp_path}/project"
