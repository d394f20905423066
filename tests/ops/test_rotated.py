"""A server's log over months: bounded, the newest lines whole and in order."""

from __future__ import annotations

import io
import os

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.servers.prefect_server import TIDY, server_environment
from pipelines.servers.rotated import RotatedLog


def parts(file) -> list:
    return sorted(file.parent.glob(f"{file.name}*"), key=lambda p: -int(p.suffix[1:]) if p.suffix[1:].isdigit() else 0)


@settings(max_examples=60)
@given(lines=st.lists(st.integers(1, 60), max_size=80), limit=st.integers(60, 300), kept=st.integers(1, 4))
def test_it_is_bounded_and_keeps_the_newest_lines_whole_and_in_order(tmp_path_factory, lines, limit, kept):
    file = tmp_path_factory.mktemp("logs") / "server.log"
    told = [f"{i:04d} ".encode() + b"x" * min(size, 50) + b"\n" for i, size in enumerate(lines)]
    RotatedLog(file, limit, kept).drain(io.BytesIO(b"".join(told))).join(30)
    found = parts(file)
    text = b"".join(p.read_bytes() for p in found)
    assert b"".join(told).endswith(text)
    assert len(found) <= kept + 1
    assert all(p.stat().st_size <= limit for p in found)
    assert all(p.stat().st_mode & 0o77 == 0 for p in found)
    if told:
        assert text.endswith(told[-1])
        assert len(found) == kept + 1 or text == b"".join(told)


def test_a_line_beyond_the_limit_is_kept_whole_and_a_second_start_goes_on(tmp_path):
    file = tmp_path / "server.log"
    RotatedLog(file, 10, 2).write(b"y" * 25)
    RotatedLog(file, 10, 2).write(b"z")
    assert file.read_bytes() == b"z"
    assert (tmp_path / "server.log.1").read_bytes() == b"y" * 25


def test_a_full_disk_loses_a_line_and_nothing_else(tmp_path):
    file = tmp_path / "away" / "server.log"
    log = RotatedLog(file, 10, 2)
    log.write(b"lost")
    file.parent.mkdir()
    log.write(b"kept")
    assert file.read_bytes() == b"kept"


def test_a_scheduler_forgets_runs_of_last_quarter_unless_told_otherwise(tmp_path):
    given = {"PATH": os.environ["PATH"]}
    made = server_environment(given, tmp_path, "http://127.0.0.1:1/api", "u:p")
    assert {name: made[name] for name in TIDY} == TIDY
    own = {"PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "60"}
    made = server_environment(given | own, tmp_path, "http://127.0.0.1:1/api", "u:p")
    assert own.items() <= made.items()


def test_the_schedulers_settings_know_these_names():
    from prefect.settings.models.server.services import ServerServicesDBVacuumSettings

    found = ServerServicesDBVacuumSettings(
        enabled=TIDY["PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"],
        retention_period=float(TIDY["PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD"]),
    )
    assert found.enabled_vacuum_types == {"events", "flow_runs", "orphans"}
    assert found.retention_period.days == 90
