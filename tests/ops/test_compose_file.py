"""deploy/compose.yaml and the image's recipe, held against the specification's schema and our own rules."""

from __future__ import annotations

import json
import re
import subprocess
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path

import pytest
import yaml
from jsonschema.validators import validator_for
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.setting_sources import VARIABLES, from_environment, strangers
from pipelines.settings import Settings
from tests.house.counts import PACKAGES, ROOT
from tests.ops.compose import DOCKERFILE, FILE, LISTENS, Composed, image_environment, read

SECRET = re.compile(r"KEY|SECRET|TOKEN|PASS|PRIVATE|CREDENTIAL|MNEMONIC|AUTH", re.IGNORECASE)
LOCK = ROOT / "deploy" / "requirements.lock"
OURS = ("mlflow", "server", "keeper", "page")
SIX = {"postgres", "mlflow", "server", "keeper", "page"}


@pytest.fixture(scope="module")
def given():
    return read(Path("/srv/foredrift"))


def schema() -> dict:
    return json.loads((resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())


def test_it_is_what_the_compose_specification_calls_valid(given):
    judge = validator_for(schema())(schema())
    assert [e.message for e in judge.iter_errors(given)] == []
    given_wrong = json.loads(json.dumps(given))
    given_wrong["services"]["server"]["heathcheck"] = {}
    assert list(judge.iter_errors(given_wrong))


def test_every_service_that_is_asked_for_is_there_and_comes_back(given):
    assert set(given["services"]) >= SIX
    for name, one in given["services"].items():
        assert one["restart"] == "unless-stopped", name
        assert one["logging"]["options"] == {"max-size": "10m", "max-file": "5"}, name


def test_nobody_is_root_and_nothing_may_be_written_but_what_is_mounted(given):
    for name, one in given["services"].items():
        assert int(one["user"].split(":")[0]) > 0, name
        assert one["read_only"] is True, name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in one
        assert not {v for v in one["volumes"] if "docker.sock" in v}


def test_ports_are_this_machines_alone_and_the_database_has_none(given):
    for name, one in given["services"].items():
        for port in one.get("ports", []):
            assert re.fullmatch(rf"127\.0\.0\.1:{LISTENS[name]}:{LISTENS[name]}", port), port
    assert "ports" not in given["services"]["postgres"]
    assert given["networks"]["store"]["internal"] is True
    assert given["services"]["postgres"]["networks"] == ["store"]


def test_what_answers_others_asks_for_its_token(given):
    page = given["services"]["page"]["environment"]
    assert page["FOREDRIFT_PAGE__BIND"] == "0.0.0.0"
    assert page["FOREDRIFT_PAGE__TOKEN_FILE"] == "/run/secrets/page_token"
    assert given["services"]["page"]["secrets"] == ["page_token"]


def test_no_secret_is_a_value_anywhere(given):
    for name, one in given["services"].items():
        for variable, value in one.get("environment", {}).items():
            if SECRET.search(variable) and not variable.startswith("PREFECT_SERVER_DATABASE"):
                assert variable.endswith(("_FILE", "PASSFILE")), (name, variable)
                assert value.startswith("/run/secrets/"), (name, variable)
            assert not re.search(r"://[^/@]*:[^/@]*@", value), (name, variable)
        words = " ".join(
            [*one.get("command", []), *one.get("entrypoint", []), *one.get("healthcheck", {}).get("test", [])]
        )
        assert not re.search(r"://[^/@]*:[^/@]*@", words), name
        wanted = {v.removeprefix("/run/secrets/") for v in one.get("environment", {}).values() if "/run/secrets/" in v}
        assert wanted == set(one.get("secrets", [])), name
    assert all(set(s) == {"file"} for s in given["secrets"].values())
    assert "environment" not in given["secrets"]


def test_the_keeper_and_the_page_know_no_database_password_and_the_page_no_key(given):
    assert "pgpass" not in given["services"]["keeper"]["secrets"]
    for name in ("mlflow", "page", "postgres"):
        assert "passphrase" not in given["services"][name]["secrets"]


@pytest.mark.parametrize("name", OURS)
def test_its_settings_exist_and_its_verbs_too(given, name):
    one = given["services"][name]
    variables = {n: v for n, v in one["environment"].items() if n.startswith("FOREDRIFT_")}
    assert strangers(Settings, variables) == []
    values = from_environment(Settings, variables)
    Settings.of(values, Path("/srv/foredrift/foredrift.toml"))
    assert values or all(n in VARIABLES for n in variables)
    asked = [one["healthcheck"]["test"][2:]] + ([one["command"]] if "entrypoint" not in one else [])
    for words in asked:
        assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0, words


def test_what_starts_first_is_healthy_first(given):
    services = given["services"]
    for name, one in services.items():
        for other, how in (one["depends_on"] if isinstance(one.get("depends_on"), dict) else {}).items():
            assert how == {"condition": "service_healthy"}, name
            assert "healthcheck" in services[other], other
    assert set(services["server"]["depends_on"]) == {"postgres", "mlflow"}
    for name in SIX:
        assert services[name]["healthcheck"]["test"][0] == "CMD", name
        assert services[name]["healthcheck"]["retries"] >= 2


def test_metrics_are_asked_for_where_the_server_answers(given):
    found = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    [job] = found["scrape_configs"]
    port = given["services"]["server"]["environment"]["FOREDRIFT_WATCH__PROMETHEUS_PORT"]
    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{port}"]}]
    assert given["services"]["prometheus"]["network_mode"] == "service:server"
    for name in ("prometheus.yml", *found["rule_files"]):
        assert f"./{name}:/etc/prometheus/{name}:ro" in given["services"]["prometheus"]["volumes"]


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def test_the_image_is_nobodys_root_and_says_how_it_is():
    found = instructions()
    assert [v for k, v in found if k == "USER"] == ["10001:10001"]
    last = found[max(i for i, (k, _) in enumerate(found) if k == "FROM") :]
    assert [k for k, _ in last][-4:] == ["WORKDIR", "HEALTHCHECK", "ENTRYPOINT", "CMD"]
    health = next(v for k, v in last if k == "HEALTHCHECK")
    words = json.loads(health.partition("CMD ")[2])
    assert words[0] == "foredrift"
    assert CliRunner().invoke(app, [*words[1:], "--help"]).exit_code == 0
    assert "build-essential" not in DOCKERFILE.read_text()
    assert not any(SECRET.search(v) for k, v in found if k in {"ARG", "ENV"})
    assert image_environment()["NUMBA_CACHE_DIR"].startswith("/srv/foredrift/")


def test_every_package_of_the_image_is_taken_by_its_hash():
    installs = [v for k, v in instructions() if k == "RUN" and "pip install" in v]
    assert all("--require-hashes" in v or "--no-index --no-deps" in v for v in installs)
    assert len(installs) == 2


def pins(file: Path) -> dict[str, tuple[str, frozenset[str]]]:
    found = {}
    for block in re.split(r"\n(?=\S)", file.read_text()):
        name, _, rest = block.partition("==")
        found[name.strip()] = (rest.split()[0], frozenset(re.findall(r"sha256:[0-9a-f]{64}", block)))
    return found


def test_the_images_packages_are_those_that_the_tests_ran_with():
    image, whole = pins(LOCK), pins(ROOT / "requirements.lock")
    assert {"polars", "lightgbm", "prefect", "mlflow", "psycopg2-binary", "asyncpg", "setuptools"} <= set(image)
    assert not {"pytest", "ruff", "mypy", "playwright", "quantlib"} & set(image)
    assert {n: p for n, p in image.items() if whole.get(n) != p} == {}
    assert all(hashes for _, hashes in image.values())


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps ``path`` out, by its own rule: the last pattern that fits decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        back, pattern = pattern.startswith("!"), pattern.lstrip("!")
        parts = path.split("/")
        above = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        deep = pattern.removeprefix("**/")
        fits = any(fnmatch(p, pattern) for p in above) or (deep != pattern and deep in parts)
        out = (not back) if fits else out
    return out


def test_the_build_sees_what_it_copies_and_nothing_else():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not tracked:
        pytest.skip("no git checkout: the files of the build are not known")
    copied = [w for k, v in instructions() if k == "COPY" and "--from" not in v for w in v.split()[:-1]]
    sent = {p for p in tracked if not ignored(p)}
    for path in copied:
        assert any(p == path or p.startswith(f"{path}/") for p in sent), path
    extra = {p for p in sent if not any(p == c or p.startswith(f"{c}/") for c in copied)}
    assert extra == set()
    wanted = [f for p in PACKAGES for f in tracked if f.startswith(f"{p}/") and not f.endswith(".md")]
    assert [f for f in wanted if f not in sent] == []
    for path in (
        ".git/config",
        "foredrift.toml",
        "secrets/pgpass",
        ".foredrift/audit.jsonl",
        "deploy/compose.yaml",
        "x.env",
    ):
        assert ignored(path), path
    assert ignored("policy/localnet/node_modules/a.js")
    assert ignored("lake/__pycache__/a.pyc")


def test_what_is_prepared_is_kept_from_others_and_stays(tmp_path):
    made = Composed(tmp_path)
    assert "foredrift.toml" in made.prepare()
    secrets = tmp_path / "secrets"
    assert {p.name for p in secrets.iterdir()} == set(made.given["secrets"])
    assert all(p.stat().st_mode & 0o77 == 0 for p in secrets.iterdir())
    password = (secrets / "postgres_password").read_text()
    assert len(password) >= 40
    assert (secrets / "pgpass").read_text() == f"*:*:*:foredrift:{password}\n"
    assert len((secrets / "page_token").read_text()) >= 40
    (secrets / "notify").write_text("json://people")
    made.prepare()
    assert (secrets / "postgres_password").read_text() == password
    assert (secrets / "notify").read_text() == "json://people"
    for source in (FILE, DOCKERFILE):
        assert password not in source.read_text()
