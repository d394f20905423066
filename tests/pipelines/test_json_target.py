"""Where ``--json`` may point: files, symlinks, FIFOs, devices, and stdout that holds JSON and nothing else."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import typer
from typer.testing import CliRunner

from lake.errors import ConfigError, StoreError
from pipelines.cli import app
from pipelines.commands.options import write_json

DATA = {"a": 1, "text": "é [red]"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "foredrift.toml").write_text("")
    return tmp_path


def foredrift(*args: str, cwd: Path, out: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", *args]
    return subprocess.run(command, cwd=cwd, stdout=out, stderr=subprocess.PIPE, text=True, timeout=120)


def test_every_verb_with_json_leaves_stdout_to_it() -> None:
    """The switch is part of the shared option, so a verb cannot have one without the other."""

    def options(group: typer.core.TyperGroup) -> list[tuple[str, object]]:
        found = []
        for name, command in group.commands.items():
            if isinstance(command, typer.core.TyperGroup):
                found += options(command)
            found += [(name, p.callback) for p in command.params if "--json" in p.opts]
        return found

    found = options(typer.main.get_command(app))
    assert len(found) >= 14
    assert all(callback is not None for _, callback in found)


def test_dash_is_clean_json_in_process_and_stdout_comes_back(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    done = CliRunner().invoke(app, ["status", "--json", "-"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tables"] == []
    assert "no decision yet" in done.stderr
    plain = CliRunner().invoke(app, ["status"])
    assert "no decision yet" in plain.stdout


@pytest.mark.parametrize("target", ["-", "/dev/stdout"])
def test_stdout_under_any_name_and_into_a_file(project: Path, target: str) -> None:
    with (project / "out.json").open("w") as out:
        done = foredrift("doctor", "--json", target, cwd=project, out=out.fileno())
    assert isinstance(json.loads((project / "out.json").read_text()), list)
    assert "Doctor" in done.stderr


def test_a_fifo_is_written_through_and_stays_one(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    with subprocess.Popen(
        [sys.executable, "-c", f"print(open({str(fifo)!r}).read())"], stdout=subprocess.PIPE
    ) as reader:
        write_json(str(fifo), DATA)
        assert json.loads(reader.communicate(timeout=60)[0]) == DATA
    assert fifo.is_fifo()


def test_a_descriptor_is_written_through(tmp_path: Path) -> None:
    read, write = os.pipe()
    write_json(f"/dev/fd/{write}", DATA)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert json.load(pipe) == DATA
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exists", [True, False])
def test_a_symlink_stays_and_its_file_is_replaced(tmp_path: Path, exists: bool) -> None:
    real, link = tmp_path / "deep" / "real.json", tmp_path / "link.json"
    real.parent.mkdir()
    if exists:
        real.write_text("old")
    link.symlink_to(real)
    write_json(str(link), DATA)
    assert link.is_symlink()
    assert json.loads(real.read_text()) == DATA
    assert [p.name for p in real.parent.iterdir()] == ["real.json"]


@pytest.mark.parametrize("kind", ["folder", "below a file", "link to itself"])
def test_what_json_can_never_be_written_to_is_refused_before_the_work(
    project: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(project)
    (project / "loop").symlink_to(project / "loop")
    target = {"folder": ".", "below a file": "foredrift.toml/out.json", "link to itself": "loop"}[kind]
    done = CliRunner().invoke(app, ["init", "--config", "made.toml", "--json", target])
    assert isinstance(done.exception, ConfigError)
    assert f"--json {target}" in str(done.exception)
    assert not (project / "made.toml").exists()


def test_a_target_that_fails_after_the_work_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "replace", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(StoreError, match=r"the work is done, but --json .*out\.json could not be written: No space"):
        write_json(str(tmp_path / "out.json"), DATA)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused_and_dev_null_stays(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folder"):
        write_json(str(tmp_path), DATA)
    write_json("/dev/null", DATA)
    assert not Path("/dev/null").is_file()
