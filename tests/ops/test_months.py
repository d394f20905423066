"""docs/months.md is executed: verbs on a paper project, statements by PostgreSQL, the rest held against the files."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest
import yaml
from typer.testing import CliRunner

from lake.store import RETENTION_HOURS
from pipelines.cli import app
from pipelines.monitor.health import FILE, own_sign
from pipelines.scheduled.metrics import Metrics
from pipelines.servers.rotated import KEPT, LIMIT
from pipelines.settings import Settings, load
from pipelines.stages.status import LAST_DECISION
from pipelines.wiring import lake_of
from tests.house.counts import ROOT
from tests.ops.compose import Composed, clean_folder, missing, read
from tests.pipelines.market import project
from tests.pipelines.page_data import DATA
from tests.pipelines.test_docs import blocks

PAGE = "docs/months.md"
TEXT = (ROOT / PAGE).read_text()
COMMANDS = [c for block in blocks(PAGE) for c in block]
VERBS = [c for c in COMMANDS if c.startswith("foredrift ")]
COMPOSE = [c for c in COMMANDS if c.startswith("docker compose ")]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A paper project that is served: its sign of life is there."""
    folder = tmp_path_factory.mktemp("months")
    made = project(folder, "\n[page]\noff = true\n")
    own_sign(made.path(FILE))
    return folder


def ran(command: str, root) -> tuple[int, str]:
    words = shlex.split(command.replace("/backup/", f"{root.parent}/"))[1:]
    done = CliRunner().invoke(app, words)
    assert done.exception is None or isinstance(done.exception, SystemExit), f"{command}: {done.exception!r}"
    return done.exit_code, done.output


def test_every_verb_of_the_page_does_what_it_says(root, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert len(VERBS) >= 12
    codes = {}
    for command in VERBS:
        if command == "foredrift keys show":  # a paper project has no keys: said so
            assert "name no keystore" in repr(CliRunner().invoke(app, ["keys", "show"]).exception)
            continue
        codes[command], said = ran(command, root)
        if command == "foredrift health":
            assert "ok   serve" in said
        if command.startswith("foredrift restore"):
            assert "restored" in said
    looks = {"foredrift doctor"}  # finds what a young project lacks, and says so by its exit code
    assert {c: n for c, n in codes.items() if n and c not in looks} == {}
    tried = root.parent / "tried"
    assert lake_of(load(tried / "foredrift.toml")).digest("prices") == lake_of(load(root / "foredrift.toml")).digest(
        "prices"
    )


def test_tidying_takes_files_and_no_row(tmp_path):
    settings = project(tmp_path)
    lake = lake_of(settings)
    before = {name: lake.digest(name) for name in ("prices", "gas")}
    out = tmp_path / "t.json"
    done = CliRunner().invoke(app, ["lake", "tidy", "--config", str(settings.file), "--json", str(out)])
    assert done.exit_code == 0
    assert "prices: " in done.output
    assert {name: lake.digest(name) for name in before} == before
    assert CliRunner().invoke(app, ["lake", "tidy", "--keep", "1", "--config", str(settings.file)]).exit_code == 2


@pytest.mark.parametrize("command", COMPOSE)
def test_a_compose_command_names_what_there_is(command, tmp_path):
    words = shlex.split(command)
    assert words[:4] == ["docker", "compose", "-f", "deploy/compose.yaml"]
    services = read(tmp_path)["services"]
    what, *rest = words[4:]
    assert what in {"up", "ps", "exec", "run", "build", "restart"}
    rest = [w for w in rest if w not in {"--rm", "--build", "--detach", "--pull"}]
    if what in {"exec", "run"}:
        service, *given = rest
        assert service in services
        if what == "run":
            assert CliRunner().invoke(app, [*given, "--help"]).exit_code == 0
    elif rest:
        assert set(rest) <= set(services)


def test_files_and_units_that_the_page_names_exist():
    named = set(re.findall(r"(?:deploy|docs|tests)/[\w./-]+\w", TEXT))
    assert [n for n in sorted(named) if not (ROOT / n).exists()] == []
    units = set(re.findall(r"foredrift-\w+\.(?:service|timer)", TEXT))
    assert units == {u.name for u in (ROOT / "deploy/systemd").iterdir()}
    for target in re.findall(r"`make ([\w-]+)`", TEXT):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def test_what_bounds_growth_is_as_the_page_says():
    assert RETENTION_HOURS == 7 * 24
    assert (KEPT + 1, LIMIT) == (5, 5_000_000)
    assert "every 200 commits" in TEXT


RULES = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())["groups"][0]["rules"]


def exported() -> dict[str, dict[str, set[str]]]:
    """What a served project exports by metric: the values of each label, as far as they are known beforehand."""
    metrics = Metrics()
    vault = {"name": "main", "keeper": {"fresh": True, "order": None, "block": 1, "age_s": 1.0, "head_age_s": 1.0}}
    report = {
        "tables": [{"table": "prices", "series": "x", "age_h": 1.0}], "forecasts": [], "models": [], "coverage": [],
        "figures": dict.fromkeys(LAST_DECISION, 1.0), "deployments": [vault], "portfolios": [DATA],
    }  # fmt: skip
    metrics.update(report)
    found: dict[str, dict[str, set[str]]] = {}
    for sample in (s for family in metrics.registry.collect() for s in family.samples):
        of = found.setdefault(sample.name, {})
        for label, value in sample.labels.items():
            of.setdefault(label, set()).add(value)
    return found


def faults(expression: str, known: dict[str, dict[str, set[str]]]) -> list[str]:
    """Return the metrics, labels and values of ``expression`` that nothing exports."""
    wrong = []
    for name, inside in re.findall(r"\b(foredrift_\w+)(?:\{([^}]*)\})?", expression):
        if name not in known:
            wrong.append(name)
            continue
        for label, value in re.findall(r'(\w+)="([^"]*)"', inside):
            if value not in known[name].get(label, ()):
                wrong.append(f'{name}{{{label}="{value}"}}')
    return wrong


def test_the_rules_of_alerts_ask_for_what_is_exported_and_are_the_pages_rows():
    known = exported()
    for rule in RULES:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"})
        assert faults(rule["expr"], known) == []
    assert len({r["alert"] for r in RULES}) == len(RULES) >= 9
    rows = re.findall(r"^\| `(.+?)` \| (\w+) \| (\w+) \| (.+) \|$", TEXT.split("Prometheus rules")[1], re.MULTILINE)
    assert rows == [(r["expr"], r["for"], r["labels"]["severity"], r["annotations"]["summary"]) for r in RULES]
    job = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
    assert job["rule_files"] == ["alerts.yml"]
    jobs = {f'up{{job="{c["job_name"]}"}} == 0' for c in job["scrape_configs"]}
    assert RULES[0]["expr"] in jobs


@pytest.mark.parametrize(
    "wrong", ["foredrift_gone > 0", 'foredrift_portfolio{figure="nav"} < 1', 'foredrift_keeper{name="fresh"} == 0']
)
def test_a_rule_over_what_nothing_exports_is_noticed(wrong):
    assert len(faults(wrong, exported())) == 1


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: it comes with Prometheus")
def test_promtool_takes_the_rules_and_the_configuration():
    for command in (["rules", "deploy/alerts.yml"], ["config", "deploy/prometheus.yml"]):
        done = subprocess.run(["promtool", "check", *command], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_settings_of_the_chat_are_settings(tmp_path):
    import tomllib

    given = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert len(given) == 1
    made = Settings.of(tomllib.loads(given[0]), tmp_path / "foredrift.toml")
    assert made.chat.allowed == (123456789,)
    assert made.stop.guardian == "guardian.json"


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(600)
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_the_statements_for_postgresql_are_taken_by_the_composed_one():
    with clean_folder() as folder:
        composed = Composed(folder)
        composed.prepare()
        secret = (composed.folder / "secrets" / "postgres_password").read_text()
        statements = "".join(re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL))
        assert statements.count(";") == 3

        def sql(asked: str, **how: str) -> subprocess.CompletedProcess[str]:
            where = ["-h", "127.0.0.1", "-p", str(composed.ports["postgres"]), "-U", "foredrift", "-d", "mlflow"]
            environment = {**composed.environment("mlflow"), **how}
            return subprocess.run(
                ["psql", "-w", "-v", "ON_ERROR_STOP=1", *where, "-Atc", asked],
                env=environment,
                capture_output=True,
                text=True,
            )

        try:
            composed.up("postgres")
            assert sql("SELECT 1").stdout == "1\n", composed.said("postgres")
            assert sql("SELECT 1", PGPASSFILE="/dev/null").returncode != 0, "nobody without the password"
            alter = statements.index("VACUUM")
            for statement in statements[alter:].split(";"):
                if statement.strip():
                    done = sql(statement)
                    assert done.returncode == 0, done.stderr
            new = "p" * 40
            assert sql(statements[:alter].replace("from /srv/foredrift/secrets/postgres_password", new)).returncode == 0
            assert sql("SELECT 1").returncode != 0, "the old password is none any more"
            pgpass = composed.folder / "secrets" / "pgpass"
            pgpass.write_text(f"*:*:*:foredrift:{new}\n")
            assert sql("SELECT 1").stdout == "1\n"
            composed.kill("postgres")
            composed.up("postgres")
            assert sql("SELECT 1").stdout == "1\n", "what was changed outlives the server"
        finally:
            composed.down()
        assert secret not in composed.said("postgres")
