"""What people see: no data is read as markup, nothing is cut at 80 columns, and output never undoes work."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from pipelines.reports import terminal, threshold_tables
from pipelines.reports.output import Tolerant
from pipelines.reports.words import with_unit

STATUS = {
    "tables": [
        {
            "table": "prices", "series": "binance/BTC/3600", "rows": 12345, "first": "2024-01-01T00:00:00+00:00",
            "last": "2024-06-01T00:00:00+00:00", "age_h": 2.5, "state": "stale",
        }
    ],
    "forecasts": [], "models": [], "coverage": [], "deployments": [], "decision": None, "figures": {},
    "advice": ["set [chain] rpc_urls"],
}  # fmt: skip
FINDING = {
    "check": "signer",
    "level": "error",
    "found": "[lake] path is wrong",
    "do": "set [vault] keystore or [[sources.feeds]]",
}
FORECAST = {
    "issued_at": "2024-06-01T00:00:00+00:00",
    "rows": [
        {
            "target": "drift", "key": "AAVE", "horizon_h": 24, "abstains": "",
            "q05": -0.0412, "q50": -0.0123, "q95": 0.04, "mean": 0.0,
        },
        {
            "target": "slippage", "key": "0x" + "1" * 40 + "|1000000", "horizon_h": 24,
            "q05": None, "q50": None, "q95": None, "mean": None, "abstains": "the model is 60 days old",
        },
    ],
}  # fmt: skip


def shown(monkeypatch, width, what, given):
    out = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=out, width=width))
    what(given)
    return out.getvalue()


def test_coverage_the_last_decision_and_thresholds_are_tables_with_units_at_80_columns(monkeypatch):
    coverage = [{"target": "gas_min", "horizon_h": h, "coverage90": 0.9 + h / 1_000, "outcomes": 9} for h in (1, 24)]
    given = {**STATUS, "coverage": coverage, "figures": {"drift_distance": 0.2, "loss_budget_left_bp": 7.5}}
    text = shown(monkeypatch, 80, terminal.status, given)
    for words in ("gas min", "1 h", "24 h", "90%", "92%", "drift distance", "loss budget left, bp"):
        assert words in text
    curve = {"half_width": 0.0038, "cost_bp": 1_116.88, "tracking_bp": 0.0401, "total_bp": 1_116.92,
             "marginal_cost_bp": 0.2506, "marginal_benefit_bp": 0.0009}  # fmt: skip
    found = {"title": "Cost", "curve": [curve], "sentence": "so", "gas_by_minute": [], "schedule_sentence": "then"}
    text = shown(monkeypatch, 80, threshold_tables.thresholds, found)
    [row] = [line for line in text.splitlines() if "0.38%" in line]
    assert all(figure in row for figure in ("1,116.88", "0.0401", "1,116.92", "0.2506", "0.0009"))
    assert with_unit("gas_gwei") == "gas, gwei"
    assert with_unit("nav") == "nav"


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_state_is_never_hidden_at_any_width(monkeypatch, width):
    text = shown(monkeypatch, width, terminal.status, STATUS)
    for word in ("prices", "12345", "2024-06-01 00:00", "2.50", "stale", "set [chain] rpc_urls"):
        assert word in text
    assert all(len(line) <= width for line in text.splitlines()[:-2])


@pytest.mark.parametrize("width", [60, 80, 120])
def test_remedies_keep_their_brackets(monkeypatch, width):
    text = " ".join(shown(monkeypatch, width, terminal.findings, [FINDING]).replace("┃", " ").replace("│", " ").split())
    for word in ("[lake]", "[vault]", "[[sources.feeds]]", "error"):
        assert word in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_forecasts_have_units_and_whole_numbers(monkeypatch, width):
    text = shown(monkeypatch, width, terminal.forecasts, FORECAST)
    for word in ("-4.12", "-1.23", "4.00", "%", "bp"):
        assert word in text


def test_data_is_never_markup(monkeypatch):
    text = shown(
        monkeypatch, 200, lambda rows: terminal.table("[bold]t[/]", ["[x]", "b"], rows), [["[/red]", "[link=a]b"]]
    )
    for word in ("[bold]t[/]", "[x]", "[/red]", "[link=a]b"):
        assert word in text


def test_characters_a_code_page_lacks_are_replaced():
    below = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    stream = Tolerant(below)
    stream.write("π → ✓ ok\n")
    stream.flush()
    assert below.buffer.getvalue() == b"? ? ? ok\n"


def test_after_a_failed_write_the_rest_is_dropped():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    stream = Tolerant(Full())
    assert stream.write("a") == 1
    assert stream.write("b") == 1
    assert stream.failure.errno == 28


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a Linux device")
def test_a_full_disk_behind_a_redirection_fails_nothing(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", "version"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 0
    assert "the work is done, but its output could not be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("redirect", ["| head -c 1", ">&-"])
def test_a_reader_that_went_away_fails_nothing(tmp_path, redirect):
    command = f"{sys.executable} -m pipelines.cli --help {redirect}"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_a_code_page_does_not_fail_a_verb(tmp_path):
    env = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-m", "pipelines.cli", "doctor"], cwd=tmp_path, capture_output=True, env=env)
    assert b"Traceback" not in done.stderr
    assert done.returncode == 1  # there is no settings file
