"""Settings: precedence, clear errors, and no secret in a repr."""

from __future__ import annotations

import pytest

from lake.errors import ConfigError
from pipelines.settings import lake_options, load, starter


def write(tmp_path, text):
    path = tmp_path / "foredrift.toml"
    path.write_text(text)
    return path


def test_the_starter_file_is_valid_and_says_only_defaults(tmp_path):
    given = load(write(tmp_path, starter()))
    assert given == load(write(tmp_path, ""))
    assert sum(given.portfolio.weights.values()) == pytest.approx(1)


def test_every_commented_line_of_the_starter_is_a_valid_setting(tmp_path):
    lines = []
    for line in starter().splitlines():
        body = line.removeprefix("# ")
        keep = line.startswith(("# [", "[")) or (line.startswith("# ") and " = " in body.split("#")[0])
        lines.append(body if keep else "")
    settings = load(write(tmp_path, "\n".join(lines)))
    assert settings.sources.exchange is not None
    assert settings.sources.sample is not None


def test_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("FOREDRIFT_PORTFOLIO__NAV_USD", "250000")
    settings = load(write(tmp_path, "[portfolio]\nnav_usd = 5\ngamma = 2.0\n"))
    assert settings.portfolio.nav_usd == 250_000
    assert settings.portfolio.gamma == 2.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[portfolio]\nasets = ['BTC']", "portfolio.asets"),
        ("[portfolio]\nassets = ['BTC', 'BTC']", "two different assets"),
        ("[portfolio]\ntargets = [0.5, 0.5]", "2 entries for 5 assets"),
        ("[portfolio]\nassets = ['A', 'B']\ntargets = [0.7, 0.7]", "sum to 1"),
        ("[portfolio]\ntolerance = 5", "5 % is 0.05"),
        ("[portfolio]\nnav_usd = -1", "portfolio.nav_usd"),
        ("[schedule]\nrebalance = 'hourly'", "schedule.rebalance"),
        ("[lake\n", "not valid TOML"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        load(write(tmp_path, text))


def test_all_offenders_are_named_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "[portfolio]\nnav_usd = -1\ngamma = 0\n"))
    assert "nav_usd" in str(caught.value)
    assert "gamma" in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="foredrift init"):
        load()
    assert load(required=False).root == tmp_path


def test_rpc_urls_are_masked(tmp_path):
    settings = load(write(tmp_path, "[chain]\nrpc_urls = ['https://node.example/v2/SECRETKEY']\n"))
    assert "SECRETKEY" not in repr(settings)
    assert "SECRETKEY" not in settings.model_dump_json()


def test_object_store_options_only_for_s3(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert lake_options(load(write(tmp_path, ""))) == {}
    options = lake_options(load(write(tmp_path, "[lake]\npath = 's3://bucket/lake'\n")))
    assert options["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
