"""The command line: instant help, exit codes, one-line errors."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from rich.text import Text
from typer.main import get_command

from pipelines.cli import app
from pipelines.reports import terminal

HEAVY = ("prefect", "mlflow", "lightgbm", "web3", "sklearn", "polars", "numba", "ccxt", "plotly", "matplotlib")


def foredrift(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *args], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_help_imports_nothing_heavy(tmp_path):
    code = f"import sys, pipelines.cli; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_flows_import_their_stage_when_they_run():
    """Every scheduled run is a process of its own, and learners take ten seconds to import."""
    tree = ast.parse((Path(__file__).resolve().parents[2] / "pipelines" / "flows.py").read_text())
    found = {
        f"{n.module}.{a.name}" if n.module.count(".") < 2 and a.name.islower() else n.module
        for n in tree.body
        if isinstance(n, ast.ImportFrom) and n.module.startswith("pipelines")
        for a in n.names
    }
    light = ("pipelines.settings", "pipelines.wiring", "pipelines.deployments", "pipelines.collisions")
    assert {m for m in found if not m.startswith(light)} == {
        "pipelines.monitor.logs",
        "pipelines.monitor.notify",
        "pipelines.reports.ingest_rows",
        "pipelines.servers.scheduler_api",
        "pipelines.servers.stuck_runs",
        "pipelines.servers.task_results",
        "pipelines.stages.ingest",
    }


def test_every_verb_has_help(tmp_path):
    text = foredrift("--help", cwd=tmp_path).stdout
    verbs = (
        "init import ingest train forecast compare thresholds rebalance explain report "
        "audit models serve ui status doctor leakage demo localnet vault version"
    )
    for verb in verbs.split():
        assert verb in text


def test_sections_of_the_settings_are_named_in_the_help():
    """Help is rich markup, which takes a bare ``[section]`` for a style and prints nothing."""

    def texts(command: click.Command) -> Iterator[str]:
        yield from (t for t in (command.help, command.short_help) if t)
        yield from (t for p in command.params if (t := getattr(p, "help", None)))
        for verb in getattr(command, "commands", {}).values():
            yield from texts(verb)

    found = list(texts(get_command(app)))
    assert any("\\[hedge]" in text for text in found)
    assert [t for t in found if Text.from_markup(t).plain != t.replace("\\[", "[")] == []


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["train"], 2, "foredrift init"),
        (["compare", "--config", "nowhere.toml"], 2, "nowhere.toml"),
        (["no-such-verb"], 2, "No such command"),
        (["import", "prices"], 2, "Missing argument"),
    ],
)
def test_bad_usage_exits_with_2(tmp_path, args, code, said):
    done = foredrift(*args, cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_init_writes_once(tmp_path):
    assert foredrift("init", cwd=tmp_path).returncode == 0
    first = (tmp_path / "foredrift.toml").read_text()
    again = foredrift("init", cwd=tmp_path)
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert (tmp_path / "foredrift.toml").read_text() == first


INTERRUPTED = """
import os, signal, sys, threading
from pipelines import cli
from pipelines.commands import data
def slow(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(60)
import pipelines.settings
pipelines.settings.load = slow
sys.argv = ["foredrift", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.parametrize("verb", [["status"], ["ingest"], ["train"], ["rebalance", "--live"], ["serve"], ["compare"]])
def test_ctrl_c_says_one_line_and_exits_with_130(tmp_path, verb):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *verb], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 130
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("interrupted")


def test_progress_is_lines_where_it_is_no_terminal(capsys):
    with terminal.progress() as report:
        for done in range(101):
            report("train gas", done, 100)
        report("judge", 1, 1)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "train gas: 0 of 100"
    assert said[-2:] == ["train gas: 100 of 100", "judge: 1 of 1"]
    assert len(said) == 12
