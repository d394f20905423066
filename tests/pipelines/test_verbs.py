"""Every verb explains its options with units and defaults, writes JSON, and keeps to what is asked of all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.settings import load
from tests.pipelines.market import END, project

ROOT = get_command(app)
UNITS = re.compile(r"number|seconds?|hours?|days?|minutes?|bps?|share|port on|basis points|USD|per cent", re.IGNORECASE)


def verbs(command: Any = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield (name, command) of every verb; a group that does nothing of its own is none."""
    for name, below in getattr(command, "commands", {}).items():
        if not hasattr(below, "commands") or below.invoke_without_command:
            yield " ".join((*path, name)), below
        yield from verbs(below, (*path, name))


VERBS = dict(verbs())
OPTIONS = [(f"{verb} {p.opts[0]}", p) for verb, command in VERBS.items() for p in command.params if p.name != "help"]


def numeric(option: Any) -> bool:
    given = getattr(option.type_descriptor, "annotation", None)
    return given in {int, float} or any(kind in str(given) for kind in ("int", "float"))


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=[n for n, _ in OPTIONS])
def test_an_option_says_what_it_is_its_unit_and_what_holds_without_it(name, option):
    said = option.help or ""
    assert len(said) > 12, "no help"
    assert said.endswith("."), said
    if numeric(option):
        assert UNITS.search(said) or name.endswith("_s"), f"no unit: {said}"
    switch = getattr(option, "is_flag", False)
    if not option.required and not switch and option.default in {None, "", ()}:
        assert "default:" in said, f"says nothing of what holds without it: {said}"


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_help_that_fits_eighty_columns_and_hides_no_option(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    done = CliRunner().invoke(app, [*verb.split(), "--help"])
    assert done.exit_code == 0
    assert max(len(line) for line in done.output.splitlines()) <= 80
    flat = " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.output).split())
    for option in VERBS[verb].params:
        for spelled in (*option.opts, *option.secondary_opts):
            assert spelled.upper() in flat.upper() or option.metavar, spelled
    first = " ".join((VERBS[verb].help or "").split("\n\n")[0].replace("\\[", "[").split())
    assert first[:40] in flat
    assert first.split("\n")[0].endswith((".", "exit 1 otherwise.", ":"))


def test_the_exit_codes_are_told():
    said = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    for code in ("0 done", "1 failed", "2 bad usage or configuration", "130 interrupted"):
        assert code in said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project on the sample market with one decision, and what some verbs need beside it."""
    root = tmp_path_factory.mktemp("walk")
    settings = project(root, "[mlflow]\ntracking_uri = 'sqlite:///mlruns/mlflow.db'\n")
    (root / "gas.csv").write_text("ts,base_fee_gwei\n2023-12-01T00:00:00Z,20\n2023-12-01T01:00:00Z,21\n")
    (root / "book.toml").write_text(
        'as_of = "2024-06-03T08:00:00Z"\n[underlyings.ETH]\nspot = 3800.0\n'
        '[[positions]]\ninstrument = "spot"\nunderlying = "ETH"\nquantity = 2.0\n'
    )
    assert load(root / "foredrift.toml") == settings
    return root


STEPS = [  # in this order, each in the sample project
    "version",
    "init --config other/foredrift.toml --sample",
    "networks",
    "stop --reason trial",
    "resume",
    "config show",
    "config check",
    "config schema",
    "import gas gas.csv",
    "lake imports",
    "lake flagged",
    "lake undo IMPORT",
    "ingest",
    "status",
    "doctor",
    "models",
    "thresholds",
    f"rebalance --as-of {END:%Y-%m-%d}",
    "explain DECISION",
    "audit verify",
    "audit replay",
    "audit repair",
    "audit export out.parquet",
    "vault describe",
    "backup --out kept.tar.gz",
    "restore kept.tar.gz --into again",
    "migrate",
]
NEEDS = {  # verbs that need more than a sample project has: models, a chain, a comparison, a server; tested elsewhere
    *("train", "forecast", "compare", "leakage", "models promote", "models demote", "lake accept", "report"),
    *(
        "hedge",
        "attribution",
        "greeks",
        "volatility",
        "vault roles",
        "vault rates",
        "serve",
        "keep",
        "ui",
        "demo",
        "localnet",
    ),
}


def test_every_verb_is_walked_or_needs_more_and_has_json():
    walked = {next(v for v in sorted(VERBS, key=len, reverse=True) if step.startswith(v)) for step in STEPS}
    assert walked | NEEDS <= set(VERBS), (walked | NEEDS) - set(VERBS)
    assert len(walked) > 25
    without = [verb for verb, command in VERBS.items() if not any("--json" in p.opts for p in command.params)]
    assert without == []


def test_json_on_stdout_parses_for_every_verb_a_sample_project_allows(folder, monkeypatch):
    monkeypatch.chdir(folder)
    known: dict[str, str] = {}
    for step in STEPS:
        words = [known.get(word, word) for word in step.split()]
        done = CliRunner().invoke(app, ["--quiet", *words, "--json", "-"])
        assert done.exit_code == 0 or step == "doctor", f"{step}: {done.output}"
        found = json.loads(done.stdout)
        assert done.stderr == "", step  # tables are left out by --quiet
        if step == "lake imports":
            known["IMPORT"] = found[0]["import_id"]
        if step.startswith("rebalance"):
            known["DECISION"] = found["decision_id"]
    assert set(known) == {"IMPORT", "DECISION"}


def test_quiet_prints_nothing_and_errors_still_do(folder, monkeypatch):
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["--quiet", "status"])
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    loud = CliRunner().invoke(app, ["status"])
    assert "prices" in loud.stdout
    both = CliRunner().invoke(app, ["--quiet", "--verbose", "status"])
    assert "give one of them" in str(both.exception)


def test_verbose_logs_what_is_done_and_only_then(folder, monkeypatch):
    import structlog

    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["--verbose", "config", "check"])
    assert done.exit_code == 0
    assert not structlog.is_configured()


def test_version_and_completion():
    done = CliRunner().invoke(app, ["--version"])
    assert re.fullmatch(r"foredrift \d+\.\d+\.\d+\S*\n", done.stdout)
    assert done.stdout == CliRunner().invoke(app, ["version"]).stdout
    offered = CliRunner().invoke(app, ["--help"]).output
    assert "--install-completion" in offered
    assert "--show-completion" in offered
