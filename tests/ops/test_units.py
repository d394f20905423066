"""The shipped systemd units: systemd takes them, they start verbs that exist, are shut in, and hold no key."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lake.universe import CHAINS
from pipelines.cli import app
from pipelines.scheduled.alive import ASK_S, BEAT_S
from pipelines.scheduled.keep import IDLE_S
from pipelines.servers.prefect_server import START_S
from tests.house.counts import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())
SERVICES = [u for u in UNITS if u.suffix == ".service"]
LASTING = [u for u in SERVICES if "Type=notify" in u.read_text()]
MOST_EXPOSED = 30  # of 100, as systemd counts
SHUT_IN = {
    "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
    "PrivateDevices": "yes", "RestrictSUIDSGID": "yes", "UMask": "0077", "CapabilityBoundingSet": "",
}  # fmt: skip
has_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def keys(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def name(unit: Path) -> str:
    return unit.name


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The units with their folder as one that exists here."""
    root = tmp_path_factory.mktemp("units")
    program = root / "srv" / ".venv" / "bin" / "foredrift"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in UNITS:
        text = unit.read_text().replace("/srv/foredrift", str(root / "srv"))
        (root / unit.name).write_text(text)
    return root


@has_systemd
@pytest.mark.parametrize("unit", UNITS, ids=name)
def test_systemd_takes_it_without_a_word(installed, unit):
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit.name], cwd=installed, capture_output=True, text=True, timeout=120
    )
    told = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line or str(installed) in line]
    assert told == []


@has_systemd
def test_systemd_finds_a_fault_where_there_is_one(installed):
    bad = installed / "bad.service"
    bad.write_text("[Service]\nType=notify\nWatchdogsec=3\nExecStart=/nowhere/foredrift\n")
    done = subprocess.run(["systemd-analyze", "verify", "bad.service"], cwd=installed, capture_output=True, text=True)
    assert "bad.service" in done.stdout + done.stderr


@has_systemd
@pytest.mark.parametrize("unit", SERVICES, ids=name)
def test_systemd_calls_it_well_shut_in(installed, unit):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(installed / unit.name)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:]


@pytest.mark.parametrize("unit", SERVICES, ids=name)
def test_it_is_shut_in_and_writes_where_it_must_alone(unit):
    found = keys(unit)
    assert {k: found.get(k) for k in SHUT_IN} == {k: [v] for k, v in SHUT_IN.items()}
    assert set(found["ReadWritePaths"][0].split()) <= {"/srv/foredrift", "/srv/backup"}
    assert found["User"] == ["foredrift"]


@pytest.mark.parametrize("unit", SERVICES, ids=name)
def test_no_key_is_in_it(unit):
    for value in keys(unit).get("Environment", []):
        variable, _, given = value.partition("=")
        assert variable.endswith("_FILE")
        assert given.startswith("%d/")
    assert "FOREDRIFT_PASSPHRASE=" not in unit.read_text()


def test_what_lasts_is_watched_more_patiently_than_it_beats():
    beats = {"foredrift-serve.service": BEAT_S + ASK_S, "foredrift-keep.service": max(IDLE_S, CHAINS[1].block_time_s)}
    assert {u.name for u in LASTING} == set(beats)
    for unit in LASTING:
        found = keys(unit)
        assert float(found["WatchdogSec"][0]) > 2 * beats[unit.name]
        assert float(found["TimeoutStartSec"][0]) > 2 * START_S
        assert found["Restart"] == ["on-failure"]
        assert int(found["StartLimitBurst"][0]) * float(found["RestartSec"][0]) < float(
            found["StartLimitIntervalSec"][0]
        )


@pytest.mark.parametrize("unit", LASTING, ids=name)
def test_it_starts_a_verb_that_exists(unit):
    program, *words = keys(unit)["ExecStart"][0].split()
    assert program == "/srv/foredrift/.venv/bin/foredrift"
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0, done.output


def test_the_backup_unit_makes_one_a_day_and_keeps_a_fortnight(tmp_path):
    unit = next(u for u in SERVICES if "backup" in u.name)
    backups, calls = tmp_path / "backup", tmp_path / "calls"
    backups.mkdir()
    program = tmp_path / "foredrift"
    program.write_text(f'#!/bin/sh\necho "$@" >> {calls}\ntouch "$4"\n')
    program.chmod(0o755)
    for day in range(1, 17):
        file = backups / f"foredrift-2026-01-{day:02d}.tar.gz"
        file.write_text("")
        os.utime(file, (day * 86_400, day * 86_400))
    (backups / "other.tar.gz").write_text("not ours")
    found = keys(unit)
    for line in (found["ExecStart"][0], found["ExecStartPost"][0]):
        script = line.removeprefix("/bin/sh -c ").strip("'").replace("$$", "$").replace("%%", "%")
        script = script.replace("/srv/backup", str(backups)).replace("/srv/foredrift/.venv/bin/foredrift", str(program))
        subprocess.run(["/bin/sh", "-c", script], check=True)
    left = sorted(p.name for p in backups.iterdir())
    assert len(left) == 15
    assert "other.tar.gz" in left
    assert "foredrift-2026-01-03.tar.gz" not in left
    assert "foredrift-2026-01-04.tar.gz" in left
    words = calls.read_text().split()
    assert words[:3] == ["-q", "backup", "--out"]
    assert CliRunner().invoke(app, ["backup", "--help"]).exit_code == 0


def test_the_timer_comes_once_a_day():
    [timer] = [u for u in UNITS if u.suffix == ".timer"]
    assert keys(timer)["OnCalendar"] == ["*-*-* 03:10:00"]
    assert keys(timer)["Persistent"] == ["true"]
