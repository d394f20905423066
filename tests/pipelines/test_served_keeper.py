"""The keepers that `foredrift serve` starts: real processes, real locks, one keeper a vault whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import structlog

from lake.errors import ConfigError
from pipelines.deployments import deployments
from pipelines.monitor import served_keepers
from pipelines.reports import terminal
from pipelines.scheduled import kept_child, serve
from pipelines.scheduled.keeper_watch import KeeperProcess, KeptGroup, Restarts, environment, groups, keepers
from pipelines.settings import load
from pipelines.stages.status import status
from policy.execution.records.owner import ownership, owning
from tests.pipelines.market import project
from tests.realtime.http_node import http_node
from tests.realtime.truth import TruthChain

KEEPER = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from pipelines.servers.subprocesses import end_with_parent
from policy.execution.records.owner import owning
end_with_parent()
with ExitStack() as held:
    files = [held.enter_context(owning(Path(sys.argv[1]) / name)) for name in sys.argv[2:]]
    for block in range(10_000):
        for file in files:
            file.refresh(block)
        time.sleep(0.05)
"""
PATIENCE_S = 240.0  # of a machine that does ten other things
FIRST = 1_000  # block
QUICK = Restarts(look_s=0.05, say_s=0.2, first_s=0.05, grace_s=120.0)


@pytest.fixture(autouse=True)
def own_log():
    """What configured the log for a test's captured output leaves none of it to the next test."""
    yield
    structlog.reset_defaults()


def until(found, what=""):
    """Wait for as long as a busy machine needs; returns what was found."""
    end = time.monotonic() + PATIENCE_S
    while not (got := found()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return got


def owner(folder, name) -> int | None:
    """The process that keeps a vault."""
    found = ownership(folder / name, 12.0)
    return found.told.get("pid") if found.held else None


def test_a_vault_of_another_keeper_is_left_to_it_and_a_killed_keeper_is_started_again(tmp_path):
    command = (sys.executable, "-c", KEEPER, str(tmp_path))
    other = subprocess.Popen([*command, "b"], stdin=subprocess.PIPE)
    file = tmp_path / served_keepers.FILE
    try:
        until(lambda: owner(tmp_path, "b") == other.pid)
        with keepers([KeptGroup({n: tmp_path / n for n in "ab"}, live=False)], tmp_path, command, QUICK):
            first = until(lambda: owner(tmp_path, "a"))
            assert owner(tmp_path, "b") == other.pid
            [row] = until(lambda: [r for r in served_keepers.read(file) if r["pid"] == first])
            assert (row["vaults"], row["state"], row["restarts"]) == (["a"], "running", 0)
            assert "left to another keeper: b" in row["why"]
            other.kill()
            other.wait()
            both = until(lambda: (p := owner(tmp_path, "a")) and p not in {first, other.pid} and p)
            until(lambda: owner(tmp_path, "b") == both, "the vault that came free is kept with the others")
            [row] = until(lambda: [r for r in served_keepers.read(file) if r["pid"] == both])
            assert (row["vaults"], row["restarts"]) == (["a", "b"], 0)
            os.kill(both, 9)
            again = until(lambda: (p := owner(tmp_path, "b")) not in {None, both} and p)
            [row] = until(lambda: [r for r in served_keepers.read(file) if r["pid"] == again])
            assert row["restarts"] == 1
        assert [owner(tmp_path, n) for n in "ab"] == [None, None]
        assert not file.exists()
    finally:
        other.kill()
        other.wait()


def test_where_all_is_kept_elsewhere_nothing_is_started(tmp_path):
    one = KeeperProcess(KeptGroup({"a": tmp_path / "a"}, live=True), (sys.executable, "-c", "raise SystemExit(9)"))
    with owning(tmp_path / "a") as file:
        file.refresh(1)
        one.look(0.0)
        assert one.process is None
        assert not one.ends
        assert f"keeper {os.getpid()}" in one.row()["why"]
    one.look(1.0)
    assert one.process is not None
    one.end()


def test_a_keeper_that_ends_at_once_is_started_six_times_an_hour_and_no_more(tmp_path):
    one = KeeperProcess(KeptGroup({"a": tmp_path / "a"}, live=False), (sys.executable, "-Sc", "raise SystemExit(3)"))
    starts, said = [], []
    for second in [*range(120), 3_599, 3_601, 3_602, 3_700]:
        before = one.process
        one.look(float(second))
        said.append(one.why)
        if one.process is not None and one.process is not before:
            starts.append(second)
            one.process.wait()
    early = [s for s in starts if s < 3_600]
    assert len(early) == 1 + Restarts().most
    assert all(b - a >= 2**k for k, (a, b) in enumerate(zip(early, early[1:], strict=False)))
    assert len(starts) > len(early), "an hour later it is tried again"
    assert "code 3, 6 times of late" in said[119]
    one.end()


def test_a_command_that_cannot_be_started_is_told_and_ends_nothing(tmp_path):
    one = KeeperProcess(KeptGroup({"a": tmp_path / "a"}, live=False), (str(tmp_path / "absent"),))
    one.look(0.0)
    row = one.row()
    assert (row["state"], row["restarts"]) == ("waiting", 1)
    assert "could not be started" in row["why"]
    assert served_keepers.advice([row]) == [f"keeper of a: {row['why']}"]


def test_a_keeper_is_told_no_password_of_the_scheduler_and_no_passphrase_unless_it_signs():
    given = {
        "PREFECT_API_AUTH_STRING": "p", "NOTIFY_SOCKET": "n", "WATCHDOG_USEC": "1", "PATH": "/bin",
        "FOREDRIFT_PASSPHRASE": "x", "FOREDRIFT_PASSPHRASE_FILE": "/proc/1/fd/3", "FOREDRIFT_CONFIG": "f",
    }  # fmt: skip
    assert set(environment(given, live=False)) == {"PATH", "FOREDRIFT_CONFIG"}
    assert set(environment(given, live=True)) == {"PATH", "FOREDRIFT_CONFIG", "FOREDRIFT_PASSPHRASE_FILE"}


def other_vaults(vault):
    """Three more deployments like ``vault``: on a chain live and not, and on another chain."""
    there = vault.vault.model_copy(update={"kind": "reference"})
    rows = [("one", 1, True), ("two", 1, False), ("three", 10, True), ("four", 1, True)]
    return [
        replace(vault, name=n, vault=there, live=live, chain=vault.chain.model_copy(update={"id": chain}))
        for n, chain, live in rows
    ]


def test_one_process_a_chain_and_none_that_signs_for_a_vault_that_is_not_live(tmp_path):
    settings = load(write(tmp_path, "http://127.0.0.1:9"))
    vaults = [*deployments(settings), *other_vaults(deployments(settings)[0])]
    found = {tuple(g.journals): g.live for g in groups(vaults, settings.keep)}
    assert found == {(vaults[0].name,): False, ("one", "four"): True, ("two",): False, ("three",): True}
    with pytest.raises(ConfigError, match="no node to follow"):
        groups(vaults, settings.keep.model_copy(update={"http": ()}))
    with pytest.raises(ConfigError, match="live for some of them only"):
        kept_child.executes(vaults[1:3])
    assert [kept_child.executes([v]) for v in vaults] == [False, True, False, True, True]


def write(root, url):
    """A settings file whose keeper is served."""
    file = root / "foredrift.toml"
    file.write_text(f'[portfolio]\nassets = ["BTC", "ETH"]\n[keep]\nserve = true\nhttp = ["{url}"]\n')
    return file


def test_what_is_told_of_keepers_ages_and_damage_is_nothing(tmp_path):
    path = tmp_path / ".foredrift" / served_keepers.FILE
    assert served_keepers.read(path) == []
    row = {"vaults": ["a"], "live": True, "state": "running", "pid": 7, "restarts": 0, "why": "started"}
    served_keepers.write(path, [row])
    assert path.stat().st_mode & 0o77 == 0
    [found] = served_keepers.read(path)
    assert {k: found[k] for k in row} == row
    assert served_keepers.advice([found]) == []
    [old] = served_keepers.read(path, time.time() + served_keepers.SILENT_S + 1)
    assert (old["state"], old["pid"]) == ("gone", None)
    assert len(served_keepers.advice([old])) == 1
    for text in ("", "{", "[]", '{"time": 1}', '{"time": null, "keepers": []}', '{"time": 1, "keepers": [3]}'):
        path.write_text(text)
        assert served_keepers.read(path) == []


@contextmanager
def node():
    """The url of a node over HTTP whose chain grows with each question for the newest block, and that chain."""
    chain = TruthChain(FIRST, start_s=int(time.time()))

    def grow(body):
        if body["method"] == "eth_getBlockByNumber" and body["params"][0] == "latest" and chain.height < FIRST + 5:
            chain.mine(1)

    with http_node(chain, grow) as url:
        yield url, chain


@pytest.mark.timeout(560)
def test_serve_keeps_tells_so_in_status_and_takes_its_keeper_along(tmp_path, monkeypatch, capsys):
    with node() as (url, chain):
        settings = project(tmp_path, f'[page]\noff = true\n[keep]\nserve = true\nhttp = ["{url}"]\n')
        vault, seen = deployments(settings)[0], []

        @contextmanager
        def scheduler(_home):
            yield "http://127.0.0.1:9/api"

        def run(_made, _pulse):
            until(lambda: ownership(vault.journal, 12.0).held, "nobody keeps the vault")
            until(lambda: chain.height > FIRST + 2, "no block was followed")
            seen.append(status(settings))

        for name, double in (("scheduler", scheduler), ("run", run), ("require_closed", lambda *_: None)):
            monkeypatch.setattr(serve, name, double)
        for name in ("FOREDRIFT_CONFIG", "PYTHONSAFEPATH"):
            monkeypatch.setenv(name, os.environ.get(name, ""))  # what serve sets goes with the test
        monkeypatch.setenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", serve.HEARTBEAT_S)
        serve.serve(settings, ["rebalance"])
        told = seen[0]
        [row] = told["served_keepers"]
        assert (row["vaults"], row["live"], row["state"]) == ([vault.name], False, "running")
        assert told["deployments"][0]["keeper"]["pid"] == row["pid"]
        terminal.status(told)
        assert "Keepers of foredrift serve" in capsys.readouterr().out
        assert not ownership(vault.journal, 12.0).held
        assert status(settings)["served_keepers"] == []


def test_a_keeper_ends_when_whoever_started_it_is_gone(tmp_path):
    with subprocess.Popen([sys.executable, "-c", KEEPER, str(tmp_path), "a"], stdin=subprocess.PIPE) as child:
        until(lambda: owner(tmp_path, "a") == child.pid)
        child.stdin.close()  # what a killed parent leaves
        assert child.wait(PATIENCE_S) == -signal.SIGTERM
    assert owner(tmp_path, "a") is None


def test_a_vault_that_the_settings_have_no_longer_is_named(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("FOREDRIFT_CONFIG", str(write(tmp_path, "http://127.0.0.1:9")))
    assert kept_child.main(["absent"]) == 1
    assert "there is no deployment absent any more" in capfd.readouterr().err
