"""Surfaces as files: whole or not at all, and refused in words when they may not decide."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lake.store import Lake
from lake.tables import TABLES
from pipelines.deployments import deployment, deployments
from pipelines.stages.status import status
from pipelines.stages.surface import publish_surface, surface_state
from pipelines.vault_setup.surfaces import level_of, log_gas
from pipelines.wiring import lake_of
from policy.comparison import surface_evidence
from policy.realtime import proof
from policy.realtime.proof import Proof
from policy.realtime.published import KEPT, LIFE_S, NoSurface, Published, current_surface, publish
from policy.realtime.surface import FAST, NODES, SLOW, GasStates, ReservationSurface
from policy.simulation.block_world import BLOCK_S, recent_gas
from tests.pipelines.market import END, project

BUILT = 1_660_000_000
LEVEL = math.log(20.0)
Q = SLOW * FAST
PROOF = Proof("terms", BUILT - 86_400, 20, {"gas_band": 9.0}, {"gas_band": 0.1})


def surface(seed: int = 0, built_s: int = BUILT) -> ReservationSurface:
    rng = np.random.default_rng(seed)
    states = GasStates(
        rng.random(Q), np.full((Q, Q), 1 / Q), np.sort(rng.random(SLOW - 1)), np.sort(rng.random(FAST - 1)), LEVEL, 60,
        built_s,
    )  # fmt: skip
    return ReservationSurface(*(rng.random((NODES, Q)) for _ in range(3)), 0.01, states)


def test_what_was_published_is_read_back_to_the_last_bit(tmp_path):
    made = publish(tmp_path, "main", surface(), {"window": ["a", "b"]}, PROOF)
    found = current_surface(tmp_path, "main", BUILT + 60, LEVEL)
    assert isinstance(found, Published)
    for name in ("reserve", "back", "value"):
        assert np.array_equal(getattr(found.surface, name), getattr(surface(), name))
    assert np.array_equal(found.surface.states.move, surface().states.move)
    assert found.digest == made.digest == surface().digest
    assert dict(found.manifest) == json.loads((tmp_path / "main.json").read_text())
    assert found.manifest["window"] == ["a", "b"]
    assert found.manifest["level_gwei"] == pytest.approx(20.0)
    assert not [p for p in tmp_path.iterdir() if p.stat().st_mode & 0o077 or p.name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("now_s", "level", "words"),
    [
        (BUILT + LIFE_S, LEVEL, ""),
        (BUILT + LIFE_S + 1, LEVEL, "3.0 h old; it holds for 3 h"),
        (BUILT - 1, LEVEL, "h old"),
        (BUILT, LEVEL + math.log(4.9), ""),
        (BUILT, LEVEL - math.log(4.9), ""),
        (BUILT, LEVEL + math.log(5.1), "5.10 times the level"),
        (BUILT, LEVEL - math.log(5.1), "0.20 times the level"),
        (BUILT, math.nan, "level of gas is not known"),
    ],
)
def test_one_that_is_old_or_of_another_level_is_refused(tmp_path, now_s, level, words):
    publish(tmp_path, "main", surface(), {}, PROOF)
    found = current_surface(tmp_path, "main", now_s, level)
    assert isinstance(found, NoSurface) == bool(words)
    if isinstance(found, NoSurface):
        assert words in found.reason


def test_the_newest_is_in_force_and_few_files_stay(tmp_path):
    publish(tmp_path, "main-2", surface(99), {}, PROOF)
    for seed in range(8):
        publish(tmp_path, "main", surface(seed), {}, PROOF)
    found = current_surface(tmp_path, "main", BUILT, LEVEL)
    assert isinstance(found, Published)
    assert found.digest == surface(7).digest
    assert len(list(tmp_path.glob("main-????????????????.npz"))) == KEPT
    assert isinstance(current_surface(tmp_path, "main-2", BUILT, LEVEL), Published)


def damaged(folder, how):
    manifest = json.loads((folder / "main.json").read_text())
    file = folder / manifest["file"]
    if how == "cut short":
        file.write_bytes(file.read_bytes()[:-200])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "another's":
        other = publish(folder, "other", surface(5), {}, PROOF)
        file.write_bytes((folder / str(other.manifest["file"])).read_bytes())
    elif how == "nan":
        (folder / "main.json").write_text(json.dumps(manifest | {"hash": "x"}))
        publish(folder, "main", replace(surface(), reserve=np.full((NODES, Q), np.nan)), {}, PROOF)
    elif how == "shapes":
        publish(folder, "main", replace(surface(), reserve=np.zeros((NODES, 3))), {}, PROOF)
    elif how.startswith("evidence"):
        said = manifest["evidence"]
        changed = {
            "evidence gone": None, "evidence of another kind": [1], "evidence without a hash": {**said, "hash": ""},
            "evidence made better": {**said, "stakes": {"gas_band": 99.0}}, "evidence half": {"weeks": 3},
            "evidence without numbers": {**said, "stakes": {"gas_band": "x"}},
        }  # fmt: skip
        (folder / "main.json").write_text(json.dumps(manifest | {"evidence": changed[how]}))
    elif how == "gone":
        file.unlink()
    else:
        (folder / "main.json").write_text({"no manifest": "[]", "half a manifest": "{"}[how])


@pytest.mark.parametrize(
    "how",
    [
        "cut short", "empty", "another's", "nan", "shapes", "gone", "no manifest", "half a manifest", "evidence gone",
        "evidence of another kind", "evidence without a hash", "evidence made better", "evidence half",
        "evidence without numbers",
    ],
)  # fmt: skip
def test_what_is_damaged_is_refused_and_built_anew(tmp_path, how):
    publish(tmp_path, "main", surface(), {}, PROOF)
    damaged(tmp_path, how)
    found = current_surface(tmp_path, "main", BUILT, LEVEL)
    assert isinstance(found, NoSurface)
    assert found.reason
    publish(tmp_path, "main", surface(1), {}, PROOF)
    assert isinstance(current_surface(tmp_path, "main", BUILT, LEVEL), Published)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return project(tmp_path_factory.mktemp("surface"))


def test_a_forecast_run_builds_a_surface_that_holds_for_three_hours(settings, monkeypatch):
    monkeypatch.setattr(proof, "PROVEN", 0.0)  # eight weeks prove nothing yet
    monkeypatch.setattr(surface_evidence, "PATHS", 1)
    one, lake = deployment(settings), lake_of(settings)
    at = END - timedelta(hours=6)
    made = publish_surface(one, lake, at)
    assert made.get("refused") is None
    told = surface_state(one, lake, at + timedelta(hours=1))
    assert told["hash"] == made["hash"]
    assert "4.0 h old" in surface_state(one, lake, at + timedelta(hours=4))["refused"]
    again = publish_surface(one, lake, at + timedelta(hours=1))
    assert again["hash"] != made["hash"]
    assert [d.get("surface") for d in status(settings, at + timedelta(hours=1))["deployments"]] == [
        surface_state(d, lake, at + timedelta(hours=1)) for d in deployments(settings)
    ]


def test_too_little_gas_builds_none_and_says_so(settings, tmp_path):
    one = deployment(settings)
    told = publish_surface(one, Lake(str(tmp_path / "lake")), END)
    assert "0 h of gas are known, a surface needs 168" in told["refused"]


def test_followed_heads_are_the_gas_of_their_blocks(settings):
    lake, at = lake_of(settings), END - timedelta(hours=30)
    before, _ = recent_gas(lake, 1, at)
    first = at - timedelta(hours=2)
    rows = [
        {"chain_id": 1, "number": 10 + i, "ts": first + timedelta(seconds=BLOCK_S * i),
         "base_fee_wei": 10**9 * (50 + i), "gas_used": 1, "gas_limit": 30_000_000,
         "available_at": first + timedelta(seconds=BLOCK_S * i)}
        for i in range(300)
    ]  # fmt: skip
    columns = TABLES["heads"].columns
    lake.write("heads", pl.DataFrame(rows, schema={c: columns[c] for c in rows[0]}).select(
        [pl.col(c) if c in rows[0] else pl.lit(None, t).alias(c) for c, t in columns.items()]
    ))  # fmt: skip
    after, notes = recent_gas(lake, 1, at)
    assert after.size == before.size == 30 * 24 * 300
    assert np.allclose(after[-600:-300], 50 + np.arange(300))
    assert "five-minute windows recorded" in notes[0]
    log, _ = log_gas(lake, 1, at)
    assert level_of(log) > level_of(np.log(before))
