"""``foredrift compare --chains``: figures and JSON from a project's lake, refusals in one line."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from lake.errors import ConfigError
from pipelines.cli import app
from pipelines.stages.chains_compare import chain_ids
from tests.policy.conftest import START, frames
from tests.policy.conftest import fill as fill_lake

HOURS = 24 * 40 + 24 * 125


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "foredrift.toml").write_text('[lake]\npath = "lake"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*args: str):
    return CliRunner().invoke(app, ["compare", *args], catch_exceptions=True)


def test_the_verb_compares_and_writes(project):
    fill_lake(project / "lake", frames(hours=HOURS))
    span = ("--start", f"{START:%Y-%m-%d}", "--portfolios", "1")
    done = call("--chains", "1,8453", *span, "--no-track", "--json", "c.json")
    assert done.exit_code == 0, done.output
    found = json.loads((project / "c.json").read_text())
    assert found["chains"] == [1, 8453]
    assert [c["nav_usd"] for c in found["cells"]] == [1e5, 1e6, 1e7]
    assert {p["policy"] for p in found["cells"][0]["policies"]} >= {"global", "alone", "naive", "alone_cash"}
    assert "global/alone" in done.output
    assert "one chain, no flows: global costs 1.0000 (1.000 to 1.000) of gas_band" in done.output


def test_options_of_other_comparisons_are_refused(project):
    for extra in (("--policies", "band"), ("--skill", "0.5"), ("--resolution", "5m"), ("--windows", "recorded")):
        done = call("--chains", "1,8453", *extra)
        assert isinstance(done.exception, ConfigError), done.output
        assert f"{extra[0]}: not of a comparison on several chains" in str(done.exception)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("one", "give chain ids with commas"),
        ("1,,8453", "give chain ids with commas"),
        ("1,77", "chain id 77 is not known"),
        ("1,1", "each once"),
        ("8453,1", "put 1 first"),
    ],
)
def test_what_are_no_chains_is_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        chain_ids(given)
