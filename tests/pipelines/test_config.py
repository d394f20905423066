"""foredrift config: what holds and where it comes from, nothing secret shown; page and schema are those of the code."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from typer.testing import CliRunner

from lake.errors import ConfigError
from pipelines.cli import app
from pipelines.reports import setting_pages
from pipelines.setting_sources import VARIABLES
from pipelines.settings import Settings, load, starter
from pipelines.stages.config import check, masked, show

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = setting_pages.schema()
FILE = """
[portfolio]
assets = ["ETH", "USDC"]
[chain]
rpc_urls = ["https://node.example/v2/HUSHKEY"]
[lake.options]
AWS_SECRET_ACCESS_KEY = "HUSHKEY"
region = "eu"
[mlflow]
tracking_uri = "postgresql://me:HUSHKEY@host/mlflow"
[sources.own.mine]
url = "https://api.example/v1/HUSHKEY?apikey=HUSHKEY"
token = "HUSHKEY"
[vault]
kind = "reference"
address = "0x1111111111111111111111111111111111111111"
signer_url = "http://signer/HUSHKEY"
[[deployments]]
name = "growth"
portfolio = { assets = ["BTC", "ETH"] }
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "foredrift.toml"
    path.write_text(FILE)
    return path


def by_key(file, under=""):
    return {r["key"]: r for r in show(file, under)["settings"]}


def test_each_value_is_shown_with_where_it_comes_from(file, monkeypatch):
    monkeypatch.setenv("FOREDRIFT_PORTFOLIO__NAV_USD", "250000")
    monkeypatch.setenv("FOREDRIFT_VAULT__TOKENS__ETH", "0x" + "2" * 40)
    rows = by_key(file)
    sources = {key: rows[key]["source"] for key in rows}
    assert sources["portfolio.assets"] == "file"
    assert sources["portfolio.gamma"] == "default"
    assert (rows["portfolio.nav_usd"]["value"], rows["portfolio.nav_usd"]["variable"]) == (
        "250_000",
        "FOREDRIFT_PORTFOLIO__NAV_USD",
    )
    assert rows["vault.tokens"]["variable"] == "FOREDRIFT_VAULT__TOKENS__*"
    assert sources["vault.journal"] == "derived"  # named after the vault
    assert "1111" in rows["vault.journal"]["value"]
    assert sources["deployments.0.name"] == "file"
    assert sources["deployments.0.vault.kind"] == "taken over"
    assert sources["deployments.0.policy.kind"] == "default"
    assert set(by_key(file, "portfolio")) == {k for k in rows if k.startswith("portfolio.")}
    assert set(by_key(file, "vault.kind")) == {"vault.kind"}
    with pytest.raises(ConfigError, match="did you mean 'vault'"):
        show(file, "valt")


def test_nothing_secret_is_shown(file, monkeypatch):
    monkeypatch.setenv("FOREDRIFT_VAULT__RELAY_URL", "https://relay/HUSHKEY")
    said = json.dumps(show(file))
    assert "HUSHKEY" not in said
    assert "postgresql://me:***@host/mlflow" in said
    assert "https://api.example/***?***" in said
    assert "eu" in said
    done = CliRunner().invoke(app, ["config", "show", "--config", str(file)])
    assert done.exit_code == 0
    assert "HUSHKEY" not in done.output


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text("ab/:@?#", max_size=9) | st.just(SecretStr("HUSH")),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "key"]), inner, max_size=2),
        max_leaves=8,
    ),
    st.sampled_from(["portfolio.x", "sources.own.mine", "lake.options"]),
)
def test_masking_keeps_what_is_no_secret_and_its_form(value, key):
    shown = masked(key, value)
    assert "HUSH" not in repr(shown)
    if isinstance(value, bool | int) or value is None:
        assert shown == value
    if isinstance(value, list | dict):
        assert len(shown) == len(value)
    assert masked(key, shown) == shown
    setting_pages.written(shown)


def test_check_counts_and_names_variables_that_nothing_reads(file, monkeypatch):
    monkeypatch.delenv("FOREDRIFT_DATA", raising=False)
    monkeypatch.setenv("FOREDRIFT_NOTFY", "x")
    monkeypatch.setenv("FOREDRIFT_NOTIFY", "x")
    monkeypatch.setenv("FOREDRIFT_LAKE__PATH", "other")
    found = check(file)
    assert found["from_environment"] == 1
    assert found["from_file"] > 8
    assert [line.split(":")[0] for line in found["strange"]] == ["FOREDRIFT_NOTFY"]
    file.write_text("[portfolio]\nnav_usd = -1\ngama = 2\n")
    with pytest.raises(ConfigError, match=r"did you mean 'gamma'"):
        check(file)


def test_page_and_schema_in_the_docs_are_those_of_the_code():
    """`make reference` writes both."""
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == setting_pages.page()
    assert (ROOT / "docs/settings.schema.json").read_text(encoding="utf-8") == setting_pages.schema_text()


def test_the_page_has_every_setting_and_variable():
    text = setting_pages.page()
    for name in show_names():
        assert f"| `{name}` |" in text or re.search(rf"^## `\[+([\w.]+\.)?{name}\]", text, re.MULTILINE), name
    for variable in VARIABLES:
        assert f"| `{variable}` |" in text
    read = set()
    for package in ("foredrift", "lake", "features", "models", "policy", "pipelines"):
        for path in (ROOT / package).rglob("*.py"):
            read |= set(re.findall(r"environ(?:\.get\(|\[|\.pop\()\"(FOREDRIFT_\w+)\"", path.read_text()))
    assert read <= set(VARIABLES)


def show_names() -> set[str]:
    return {row["key"].rpartition(".")[2] for row in show_of_starter()["settings"]}


def show_of_starter():
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "foredrift.toml"
        path.write_text(starter())
        return show(path)


def uncommented() -> dict:
    lines = []
    for line in starter().splitlines():
        body = line.removeprefix("# ")
        keep = line.startswith(("# [", "[")) or (line.startswith("# ") and " = " in body.split("#")[0])
        lines.append(body if keep else "")
    return tomllib.loads("\n".join(lines))


def test_the_schema_takes_what_loads(file):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for text in ("", starter(), starter(sample=True), FILE):
        jsonschema.validate(tomllib.loads(text), SCHEMA)
    jsonschema.validate(uncommented(), SCHEMA)
    assert load(file)


@pytest.mark.parametrize(
    "text",
    [
        "[portfolio]\nasets = ['BTC']",
        "[portfolioo]\nx = 1",
        "[portfolio]\nnav_usd = -1",
        "[portfolio]\nscenario = 'sfot'",
        "[vault]\naddress = '0x12'",
        "[models]\nexpiry = '45'",
        "[chain]\nid = 5",
        "[schedule]\nrebalance = 'hourly'",
        "[keep]\nworkers = 0",
        "[chain]\nrpc_urls = ['node']",
        "root = '/x'",
        "[[deployments]]\nportfolio = {}",
    ],
)
def test_the_schema_refuses_what_does_not_load(text, tmp_path):
    path = tmp_path / "foredrift.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load(path)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(text), SCHEMA)


def test_every_setting_of_the_schema_is_described():
    for name, section in {**SCHEMA["$defs"], "settings": SCHEMA}.items():
        for key, field in section["properties"].items():
            known = SCHEMA["$defs"].get(field.get("$ref", "").rpartition("/")[2], field)
            assert known.get("description"), f"{name}.{key}"
    assert set(SCHEMA["properties"]) == set(Settings.model_fields) - {"root"}


def test_init_leaves_a_schema_where_the_file_says_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["init"]).exit_code == 0
    first = (tmp_path / "foredrift.toml").read_text().splitlines()[0]
    named = first.removeprefix("#:schema ")
    assert json.loads((tmp_path / named).read_text()) == json.loads(setting_pages.schema_text())
    out = tmp_path / "deep" / "s.json"
    done = CliRunner().invoke(app, ["config", "schema", "--out", str(out)])
    assert done.exit_code == 0
    assert out.read_text() == setting_pages.schema_text()
    assert CliRunner().invoke(app, ["config", "schema", "--form", "markdown"]).stdout == setting_pages.page()
