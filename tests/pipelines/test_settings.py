"""Settings: precedence, clear errors, and no secret in a repr."""

from __future__ import annotations

import pytest

from lake.errors import ConfigError
from pipelines.settings import lake_options, load, replay, starter
from pipelines.stages.doctor import SECRETS, _secrets


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
        ("[portfolio]\nassets = ['BTC', 'BTC']", "portfolio.assets .* BTC stands here more than once"),
        ("[portfolio]\nassets = ['BTC']", "two different assets"),
        ("[portfolio]\nassets = ['BTC', ' ETH']", "' ETH' is no name"),
        ("[portfolio]\nassets = 'BTC'", "a list is wanted"),
        ("[portfolio]\nasets = ['BTC']", "did you mean 'assets'"),
        ("[portfolioo]\nx = 1", "did you mean 'portfolio'"),
        ("[portfolio]\nnumeraire = 'EUR'", "portfolio.numeraire .* 'USD'"),
        ("[portfolio]\nnav_usd = nan", "finite"),
        ("[portfolio]\ngamma = inf", "finite"),
        ("[portfolio]\nassets = ['A', 'B']\ntargets = [0.5, nan]", "finite"),
        ("[costs]\nfee_bps = -inf", "costs.fee_bps"),
        ("[compare]\nnav_usd = [1e5, 1e5]", "compare.nav_usd .* more than once"),
        ("[compare]\nnav_usd = [0]", "compare.nav_usd.0 .* greater than 0"),
        ("[compare]\npolicies = ['gas_bnd']", "did you mean 'gas_band'"),
        ("[policy]\nkind = 'predictve'", "did you mean 'predictive'"),
        ("[policy]\nkind = 'clairvoyant'", "no policy that can decide"),
        ("[policy]\nfallback = 'predictive'", "no policy without forecasts"),
        ("[schedule]\ntimezone = 'Mars/Phobos'", "no time zone"),
        ("[schedule]\ntimezone = 'Europe/Zurick'", "did you mean 'Europe/Zurich'"),
        ("[schedule]\nrebalance = '61 25 * * *'", "no cron expression"),
        ("[schedule]\nretrain = '0 0 31 2 *'", "no cron expression"),
        ("[schedule]\nmax_late = '0m'", "longer than nothing"),
        ("[mandate]\nclose_when_denied = '25h'", "more than a day"),
        ("[models]\nexpiry = '45'", "'90s', '1h', '14d'"),
        ("[chain]\nid = 5", "chain 5 is not known"),
        ("[vault]\nkind = 'saffe'", "did you mean 'safe'"),
        ("[vault]\naddress = '0x12'", "40 hexadecimal digits"),
        ("[vault]\ntokens = { ETH = '0x0000000000000000000000000000000000000000' }", "zero address"),
        ("root = '/elsewhere'", "cannot be set"),
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
    assert lake_options(load(write(tmp_path, "")).lake) == {}
    options = lake_options(load(write(tmp_path, "[lake]\npath = 's3://bucket/lake'\n")).lake)
    assert options["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("FOREDRIFT_PORTFOLIO__ASSETS", "BTC,ETH", ("BTC", "ETH")),
        ("FOREDRIFT_PORTFOLIO__ASSETS", '["BTC", "ETH"]', ("BTC", "ETH")),
        ("FOREDRIFT_PORTFOLIO__TOLERANCE", "0.04", 0.04),
        ("FOREDRIFT_PORTFOLIO__TOLERANCE", "0.04,0.03,0.02,0.01,0.05", (0.04, 0.03, 0.02, 0.01, 0.05)),
        ("FOREDRIFT_SOURCES__EXCHANGE__SYMBOLS__BTC", "BTC/USDT", {"BTC": "BTC/USDT"}),
        ("FOREDRIFT_SOURCES__EXCHANGE", '{"step": "5m"}', "5m"),
        ("FOREDRIFT_COSTS__DEPTH_1PCT_USD", "none", None),
    ],
)
def test_values_of_the_environment(tmp_path, monkeypatch, variable, text, value):
    monkeypatch.setenv(variable, text)
    settings = load(write(tmp_path, ""))
    exchange = settings.sources.exchange
    found = (
        *(settings.portfolio.assets, settings.portfolio.tolerance, settings.costs.depth_1pct_usd),
        *((exchange.symbols, exchange.step) if exchange else ()),
    )
    assert value in found


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("FOREDRIFT_PORTFOLIO__ASSETS", '["BTC","ETH"', "a list is JSON"),
        ("FOREDRIFT_PORTFOLIO__ASSETS", "BTC,BTC", "more than once"),
        ("FOREDRIFT_PORTFOLIO__TOLERANCE", "wide", "valid number"),
        ("FOREDRIFT_PORTFOLIO__TOLERENCE", "0.1", "did you mean 'FOREDRIFT_PORTFOLIO__TOLERANCE'"),
        ("FOREDRIFT_PORTFOLO__TOLERANCE", "0.1", "did you mean 'FOREDRIFT_PORTFOLIO'"),
        ("FOREDRIFT_PORTFOLIO__TOLERANCE__X", "0.1", "one too many"),
        ("FOREDRIFT_SOURCES__EXCHANGE", "binance", "a table is JSON"),
        ("FOREDRIFT_SCHEDULE__TIMEZONE", "Mars/Phobos", "no time zone"),
        ("FOREDRIFT_MODELS__EXPIRY", "999999w", "200 years at most"),
        ("FOREDRIFT_PORTFOLIO__TARGETS", f"[{'1' * 5_000}]", "a list is JSON"),
    ],
)
def test_a_wrong_variable_is_named_in_one_line(tmp_path, monkeypatch, variable, text, said):
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, ""))
    assert variable in str(caught.value)
    assert said in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["nav_usd = " + "9" * 5_000, "a = " + "[" * 5_000, "\0", "[a]\n[a]"])
def test_text_that_no_reader_of_toml_follows_is_refused_in_a_line(tmp_path, text):
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load(write(tmp_path, text))


@pytest.mark.parametrize("speed", ["-1", "nan", "inf", "1e7", "fast"])
def test_a_clock_is_replayed_forwards_at_a_finite_speed(monkeypatch, speed):
    monkeypatch.setenv("FOREDRIFT_REPLAY", f"2022-07-01,2026-01-01,{speed}")
    with pytest.raises(ConfigError, match="FOREDRIFT_REPLAY"):
        replay()


@pytest.mark.parametrize(
    "text", ["https://x/KEYKEY", "htps//x/KEYKEY", '["https://x/KEYKEY"', "https://x/KEYKEY,https://x/KEYKEY"]
)
@pytest.mark.parametrize("by", ["file", "environment"])
def test_a_wrong_address_with_a_key_is_never_shown(tmp_path, monkeypatch, text, by):
    if by == "environment":
        monkeypatch.setenv("FOREDRIFT_CHAIN__RPC_URLS", text)
    file = write(tmp_path, f"[chain]\nrpc_urls = {text!r}\n" if by == "file" else "")
    try:
        shown = repr(load(file))
    except ConfigError as error:
        shown = str(error)
        assert "rpc_urls" in shown.lower()
    assert "KEYKEY" not in shown


def test_names_and_registry_agree():
    """Settings know the policies by a table that costs no import; it lists exactly those that exist."""
    from policy import names
    from policy.strategies import registry

    assert tuple(rule.name for rule in registry.REACTIVE) == names.REACTIVE_NAMES
    for name, traits in names.TRAITS.items():
        assert bool(traits.factory) == (name not in names.REACTIVE_NAMES)
        assert not traits.reads or traits.role == "predictive"


@pytest.mark.parametrize(
    ("text", "level", "said"),
    [
        (
            "[sources.exchange]\nexchange = 'binnance'\nsymbols = { BTC = 'BTC/USDT' }",
            "error",
            "did you mean 'binance'",
        ),
        (
            "[sources.exchange]\nsymbols = { BTC = 'BTC/USDT' }\n[portfolio]\nassets = ['BTC', 'ETH']",
            "warn",
            "ETH of the",
        ),
        ("[sources.exchange]\nsymbols = { BTC = 'BTC/USDT' }\n[portfolio]\nassets = ['BTC', 'USDC']", "ok", "binance"),
        ("[policy]\nkind = 'predictve'", "error", "did you mean 'predictive'"),
        ("[schedule]\nforecast = '61 25 * * *'", "error", "no cron expression"),
    ],
)
def test_the_doctor_names_what_is_wrong_with_a_setting(tmp_path, text, level, said):
    from pipelines.stages.doctor import examine

    rows = [f for f in examine(write(tmp_path, text)) if f["check"] in {"exchange", "settings"}]
    assert any(f["level"] == level and said in f["found"] for f in rows), rows


@pytest.mark.parametrize("variable", SECRETS)
@pytest.mark.parametrize(("mode", "said"), [(None, "cannot be read"), (0o644, "chmod 600"), (0o600, "")])
def test_the_doctor_names_a_file_of_secrets_that_cannot_be_used(tmp_path, monkeypatch, variable, mode, said):
    file = tmp_path / "kept"
    if mode is not None:
        file.write_text("PLANTED")
        file.chmod(mode)
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.setenv(f"{variable}_FILE", str(file))
    rows = list(_secrets())
    assert [r["check"] for r in rows] == ([f"{variable}_FILE"] if said else [])
    for row in rows:
        assert (row["level"], said in row["found"], SECRETS[variable] in row["do"]) == ("error", True, True)
        assert "PLANTED" not in str(row)
