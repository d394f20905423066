"""``foredrift vault``: what is said of the configured vault."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.stages.vault import ALL, RULES, stated_by
from policy.execution.base import Capabilities


def test_describe_says_every_capability_of_the_paper_vault(tmp_path):
    file = tmp_path / "foredrift.toml"
    file.write_text('[portfolio]\nassets = ["USDC", "ETH"]\n')
    done = CliRunner().invoke(app, ["vault", "describe", "--config", str(file), "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out.json").read_text())
    assert {r["rule"] for r in found["rules"]} == set(RULES) == set(Capabilities.__slots__) - {"kind", "stolen_key"}
    assert found["kind"] == "simulated"
    assert found["stolen_key"].startswith("a stolen keeper's key takes at most 10 bp of NAV in a day")
    assert "on chain" in done.output


def test_a_vault_without_a_bound_says_that_everything_is_at_stake():
    assert stated_by(Capabilities("safe", *[False] * 10))["stolen_key"] == ALL
