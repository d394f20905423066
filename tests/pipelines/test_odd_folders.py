"""A project in a folder with odd characters: every store lands inside it, or the first verb refuses by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lake.errors import ConfigError
from pipelines.cli import app
from pipelines.experiments.client import artifact_root, client, experiment, run, tracking_uri
from pipelines.settings import load

PRICES = "ts,asset,close\n" + "".join(f"2024-01-01T{h:02}:00:00Z,BTC,{100 + h}\n" for h in range(6))


@pytest.mark.parametrize("name", ["My Fund", "50% #1 + é日 'x' {y} & *"])
def test_import_twice_then_status_in_an_odd_folder(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "own file?.csv").write_text(PRICES)
    runner = CliRunner()
    for args in (["init"], *([["import", "prices", "own file?.csv", "--json", "out 1.json"]] * 2), ["status"],
                 ["lake", "imports"], ["lake", "flagged"]):  # fmt: skip
        done = runner.invoke(app, args)
        assert done.exit_code == 0, (args, done.output, done.exception)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.server
def test_the_tracking_store_lies_in_an_odd_folder(tmp_path: Path) -> None:
    folder = tmp_path / "My Fund 50% #1 é"
    folder.mkdir()
    (folder / "foredrift.toml").write_text("")
    settings = load(folder / "foredrift.toml")
    mlf = client(settings)
    (tmp_path / "figure.txt").write_text("1")
    with run(mlf, experiment(settings, mlf, "x").experiment_id, "r", {}) as run_id:
        mlf.log_artifact(run_id, str(tmp_path / "figure.txt"))
    assert Path(mlf.download_artifacts(run_id, "figure.txt")).read_text() == "1"
    assert len(list(folder.rglob("figure.txt"))) == len(list(folder.rglob("mlflow.db"))) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["My Fund 50% #1 é", "figure.txt"]


@pytest.mark.parametrize("character", ["?", "=", "[", "\\", "\n", "%41"])
def test_the_first_verb_refuses_what_a_store_cannot_address(
    tmp_path: Path, character: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / f"a{character}b"
    folder.mkdir()
    monkeypatch.chdir(folder)
    refused = CliRunner().invoke(app, ["init"])
    assert isinstance(refused.exception, ConfigError)
    assert repr(character) in str(refused.exception)
    assert list(folder.iterdir()) == []
    (folder / "foredrift.toml").write_text("")
    (folder / "own.csv").write_text(PRICES)
    settings = load(folder / "foredrift.toml")
    for verb in (["import", "prices", "own.csv"], ["status"]):
        assert isinstance(CliRunner().invoke(app, verb).exception, ConfigError)
    for ask in (tracking_uri, artifact_root):
        with pytest.raises(ConfigError, match="rename"):
            ask(settings)
    assert sorted(p.name for p in folder.iterdir()) == ["foredrift.toml", "own.csv"]
