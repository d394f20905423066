"""``foredrift doctor``: what is missing or misconfigured, and what to do about it."""

from __future__ import annotations

import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lake.errors import ConfigError, ForedriftError
from lake.private import STATE, exposed
from lake.universe import STABLE
from pipelines.deploy_section import DeploySection
from pipelines.deployments import Deployment, deployments
from pipelines.secret_files import secret
from pipelines.sections import ExchangeSection
from pipelines.servers.phrase import passphrase
from pipelines.servers.scheduler_api import api_url
from pipelines.servers.work_pool import closing_command, softness
from pipelines.setting_types import nearest
from pipelines.settings import load
from pipelines.settlements.reconcile import owner_of

Finding = dict[str, Any]
SECRETS = {
    "FOREDRIFT_NOTIFY": "nobody is told of alerts",
    "FOREDRIFT_TELEGRAM_TOKEN": "neither page nor chat starts",
    "FOREDRIFT_SAFE_API_KEY": "no plan can be proposed to a Safe",
}
"""What goes without the secret of a variable; the keystore's passphrase has a check of its own."""
_BOUNDS = {"fastapi": (0, 151), "sqlalchemy": (2, 1)}  # first versions with which the scheduler breaks silently


def examine(config: Path | None) -> list[Finding]:
    """Return findings ``{check, level, found, do}``; level is ok, warn or error. Never raises for what it examines."""
    found = [*_environment()]
    try:
        settings = load(config)
    except ConfigError as error:
        return [*found, _row("settings", "error", str(error), "foredrift init writes a starter file")]
    found.append(_row("settings", "ok", str(config or "foredrift.toml"), ""))
    found.extend(_sources(settings.sources.exchange, settings.portfolio.assets))
    from pipelines.stages.status import status

    found.extend(_lake(lambda: status(settings), settings.portfolio.assets))
    found.extend(_tracking(settings.mlflow.tracking_uri))
    found.extend(_pool(settings.schedule.work_pool))
    found.extend(_secrets())
    for i, deployment in enumerate(deployments(settings)):
        rows = [*_chain(deployment), *_vault(deployment), *_keeper(deployment)]
        if not i and deployment.vault.kind == "reference" and deployment.chain.rpc_urls:
            rows += _created(deployment, settings.deploy)
        found.extend(row | {"check": f"{deployment.name}: {row['check']}"} if i else row for row in rows)
    from pipelines.stages.route_checks import route_findings

    found.extend(route_findings(deployments(settings)))
    found.extend(_private(settings.root))
    return found


def _row(check: str, level: str, found: str, do: str) -> Finding:
    return {"check": check, "level": level, "found": found, "do": do}


def _environment() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    new = sys.version_info >= (3, 11)
    yield _row("python", "ok" if new else "error", python, "" if new else "install Python 3.11 or newer")
    node = shutil.which("npm")
    yield _row(
        "node.js", "ok" if node else "warn", node or "not found",
        "" if node else "only for the local chain: install Node.js with npm",
    )  # fmt: skip
    for package, bound in _BOUNDS.items():
        try:
            given = version(package)
        except PackageNotFoundError:
            yield _row(package, "error", "not installed", "make env")
            continue
        good = tuple(int(p) for p in given.split(".")[:2]) < bound
        yield _row(
            package, "ok" if good else "error", given,
            "" if good else f"below {'.'.join(map(str, bound))}: newer ones break the scheduler silently; make env",
        )  # fmt: skip


def _sources(exchange: ExchangeSection | None, assets: Sequence[str]) -> Iterator[Finding]:
    if exchange is None:
        return
    try:
        import ccxt
    except ImportError:
        yield _row("exchange", "error", "ccxt is not installed", "pip install 'foredrift[exchange]'")
        return
    if exchange.exchange not in ccxt.exchanges:
        hint = nearest(exchange.exchange, ccxt.exchanges)
        yield _row("exchange", "error", f"no exchange {exchange.exchange!r}{hint}", "set [sources.exchange] exchange")
        return
    absent = [a for a in assets if a not in exchange.symbols and a not in STABLE]
    if exchange.symbols and absent:
        yield _row(
            "exchange", "warn", f"{', '.join(absent)} of the portfolio is not collected",
            "add it to [sources.exchange] symbols, or import its prices",
        )  # fmt: skip
    else:
        yield _row("exchange", "ok", exchange.exchange, "")


def _lake(look: Callable[[], dict[str, Any]], assets: Sequence[str]) -> Iterator[Finding]:
    try:
        report = look()
    except (OSError, ForedriftError) as error:
        yield _row("lake", "error", str(error), "check [lake] path and options")
        return
    stale = [f"{r['table']} {r['series']}" for r in report["tables"] if r["state"] == "stale"]
    ahead = [f"{r['table']} {r['series']}" for r in report["tables"] if r["state"] in {"future", "none"}]
    missing = [t for t in ("prices", "gas") if t not in {r["table"] for r in report["tables"]}]
    yield _row(
        "lake", "error" if missing else "ok",
        f"lacks {', '.join(missing)}" if missing else f"{len(report['tables'])} series",
        "foredrift ingest, or foredrift import TABLE FILE" if missing else "",
    )  # fmt: skip
    if ahead:
        found = f"rows known only after now: {', '.join(ahead[:4])}"
        yield _row("future rows", "error", found, "foredrift lake imports, then foredrift lake undo ID")
    if stale:
        yield _row("freshness", "warn", f"{len(stale)} stale: {', '.join(stale[:4])}", "foredrift ingest")
    have = {r["series"].split("/")[1] for r in report["tables"] if r["table"] == "prices"}
    absent = [a for a in assets if a not in have and a not in STABLE]
    if have and absent:
        named = [f"{a}{nearest(a, sorted(have))}" for a in absent]
        yield _row("prices", "error", f"no history for {', '.join(named)}", "import it, or change [portfolio] assets")


def _tracking(uri: str) -> Iterator[Finding]:
    if uri.startswith("file:") or "://" not in uri:
        yield _row("mlflow", "error", uri, "file stores are refused by MLflow 3; use sqlite:///mlruns/mlflow.db")
    else:
        yield _row("mlflow", "ok", uri.rsplit("@", maxsplit=1)[-1], "")


def _pool(name: str) -> Iterator[Finding]:
    """Yield whether requests to the configured scheduler may change what a run of the project's pool does."""
    url = api_url()
    if url is None:
        return
    try:
        said = softness(url, name)
    except ForedriftError as error:
        yield _row("work pool", "warn", str(error), "check PREFECT_API_URL and PREFECT_API_AUTH_STRING")
        return
    if said:
        yield _row("work pool", "error", f"{name} is open: {said}", closing_command(name))
    else:
        yield _row("work pool", "ok", f"requests change nothing in runs of {name}, or there is no such pool", "")


def _secrets() -> Iterator[Finding]:
    """Yield which files of secrets, named in the environment, cannot be used: what they are for stays silent."""
    for variable, without in SECRETS.items():
        try:
            secret(variable)
        except ConfigError as error:
            do = f"name a file of mode 600 that this user may read, or unset it; until then {without}"
            yield _row(f"{variable}_FILE", "error", str(error), do)


def _chain(deployment: Deployment) -> Iterator[Finding]:
    if not deployment.chain.rpc_urls:
        level = "ok" if deployment.vault.kind == "simulated" else "error"
        yield _row("chain", level, "no rpc_urls", "" if level == "ok" else "set [chain] rpc_urls")
        return
    from pipelines.wiring import rpc_of

    try:
        rpc_of(deployment.chain).expect_chain(deployment.chain.id)
    except ForedriftError as error:
        yield _row("chain", "error", str(error), "check [chain] id and rpc_urls")
        return
    yield _row("chain", "ok", f"chain {deployment.chain.id} answers", "")
    if deployment.vault.kind != "simulated":
        yield from _nodes(deployment)


def _nodes(deployment: Deployment) -> Iterator[Finding]:
    """Yield whether nodes of two operators answer and tell the same block; one alone decides prices unchecked."""
    from lake.evm import head_of
    from lake.rpc import Rpc, mask
    from pipelines.wiring import operators

    given = [(mask(urls[0]), Rpc(urls, tries=2)) for urls in operators(deployment.chain).values()]
    if len(given) < 2:
        found = f"ONLY ONE NODE: {given[0][0]} is checked by nothing; the oracle may deviate by 100 bp only"
        yield _row("nodes", "warn", found, "add a second operator to rpc_urls")
        return
    try:
        for _, rpc in given:
            rpc.expect_chain(deployment.chain.id)
        number = min(head_of(rpc).number for _, rpc in given)
        hashes = {name: head_of(rpc, number).hash for name, rpc in given}
    except ForedriftError as error:
        yield _row("nodes", "error", str(error), "two nodes must answer before a plan is signed")
        return
    if len(set(hashes.values())) > 1:
        told = ", ".join(f"{name} says {found[:12]}..." for name, found in hashes.items())
        yield _row("nodes", "error", f"block {number}: {told}", "one of them lies or is on a fork: nothing is signed")
        return
    yield _row("nodes", "ok", f"{' and '.join(hashes)} agree on block {number}", "")


def _vault(deployment: Deployment) -> Iterator[Finding]:
    vault = deployment.vault
    if vault.kind == "simulated":
        yield _row("vault", "ok", "simulated", "")
        return
    if vault.kind == "reference" and vault.address is None:
        yield _row("vault", "error", "[vault] address is not set: the vault is not created", "foredrift vault deploy")
    else:
        yield from _adapter(deployment)
    if vault.keystore is None and vault.signer_url is None:
        yield _row("signer", "warn", "none: dry runs only", "set [vault] keystore or signer_url")
    if vault.keystore:
        path = deployment.path(vault.keystore)
        if not path.exists():
            yield _row("keystore", "error", f"{path} is missing", "set [vault] keystore")
        elif path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            yield _row("keystore", "error", f"{path} is readable by others", f"chmod 600 {path}")
        else:
            yield _passphrase(path)


def _keeper(deployment: Deployment) -> Iterator[Finding]:
    """Yield whether a keeper that lives sees blocks, and what keeps it from sending."""
    found = owner_of(deployment)
    if not found.held:
        return
    refusal, unknown = found.told.get("refusal"), found.told.get("unknown")
    if not found.fresh:
        yield _row("keeper", "error", found.words(), "look at its log, then restart it; scheduled runs stand in")
    elif refusal:
        yield _row("keeper", "warn", f"it sends nothing: {refusal}", "see the nodes in [keep] http and this clock")
    elif unknown:
        yield _row("keeper", "warn", f"it acts at the hour alone: {unknown}", "see [[chains]] rpc_urls of that chain")
    else:
        order, table = found.told.get("order"), found.told.get("table") or "closed form"
        armed = f", an order at {order['cap_gwei']:.2f} gwei" if isinstance(order, dict) else ""
        yield _row("keeper", "ok", f"{found.words()}, reservation price by {str(table)[:12]}{armed}", "")


def _passphrase(keystore: Path) -> Finding:
    """Return whether the keystore's passphrase is at hand, without opening the keystore."""
    try:
        known = passphrase() is not None
    except ConfigError as error:
        return _row("keystore", "error", str(error), "name a file that only its owner may read")
    if known:
        return _row("keystore", "ok", str(keystore), "")
    say = "FOREDRIFT_PASSPHRASE_FILE and FOREDRIFT_PASSPHRASE are not set"
    return _row("keystore", "warn", say, "set one of them where --live runs")


def _private(root: Path) -> Iterator[Finding]:
    """Yield whether others can read what is kept of money and passwords."""
    folder = (root / STATE).resolve()
    found = exposed(folder)
    if found:
        names = ", ".join(str(p.relative_to(root)) for p in found[:3])
        yield _row("privacy", "error", f"{len(found)} open to others: {names}", f"as owner: chmod -R go= {folder}")


def _adapter(deployment: Deployment) -> Iterator[Finding]:
    """Yield whether the vault on the chain answers as the settings describe it, and what is wrong around it."""
    from pipelines.stages.preflight import HISTORY, faults
    from pipelines.vault_setup.onchain import dry_vault

    try:
        snapshot = dry_vault(deployment).snapshot()
    except ForedriftError as error:
        yield _row("vault", "error", str(error), "check [vault], [[sources.feeds]] and [chain] rpc_urls")
        return
    symbols = ", ".join(t.symbol for t in snapshot.tokens)
    yield _row("vault", "ok", f"{deployment.vault.kind} {deployment.vault.address} holds {symbols}", "")
    if deployment.vault.kind == "enzyme":
        yield from _policies(deployment)
    if deployment.vault.kind == "lagoon":
        yield from _valuation(deployment)
    if deployment.vault.kind in {"safe", "lagoon"}:
        yield from _access(deployment)
    found = list(faults(deployment, snapshot))
    for check, words, remedy in found:
        yield _row(check, "warn" if check == HISTORY else "error", words, remedy)
    if not found:
        yield _row("on chain", "ok", "tokens, feeds, pools and node fit, every token trades there and back", "")


def _access(deployment: Deployment) -> Iterator[Finding]:
    """Yield who may sign for the configured Safe, and for a role whether the chain bounds it as it should."""
    lagoon = deployment.vault.kind == "lagoon"
    if deployment.vault.access == "proposal" and not lagoon:
        yield _row("access", "ok", "its owners sign every plan; no key of this side can move anything", "")
        return
    if deployment.vault.access != "roles" and not lagoon:
        found = "the keeper is the Safe's only needed owner: whoever steals its key takes EVERYTHING in the Safe"
        yield _row("access", "warn", found, 'set [vault] access = "roles" (docs/vaults.md)')
        return
    from pipelines.stages.vault_roles import role_faults

    try:
        faults, tried = role_faults(deployment)
    except ForedriftError as error:
        yield _row("role", "error", f"the role could not be proven: {error}", "use a node that keeps all logs")
        return
    for words in faults:
        yield _row("role", "error", words, "foredrift vault roles")
    if not faults:
        yield _row("role", "ok", f"the keeper can swap within its allowance; {tried} thefts tried, all refused", "")


def _valuation(deployment: Deployment) -> Iterator[Finding]:
    """Yield the requests that wait in the configured Lagoon vault, and what is wrong with its valuation."""
    from pipelines.stages.vault_settle import settle

    try:
        found = settle(deployment)
    except ForedriftError as error:
        yield _row("valuation", "error", str(error), "check [vault] investors, and use a node that keeps all logs")
        return
    for row in found["verdicts"]:
        if not row["ok"]:
            yield _row("valuation", "error", row["words"], "foredrift vault settle")
    if found["good"]:
        yield _row("valuation", "ok", f"next: {found['step']}; {found['words']}", "")


def _created(deployment: Deployment, given: DeploySection) -> Iterator[Finding]:
    """Yield whether what a reference vault is to be made of, or was made of, is on the chain what the settings say."""
    from pipelines.stages.doctor_vault import deployed, planned
    from pipelines.stages.vault_status import PENDING

    there = deployment.vault.address is not None
    found = list(deployed(deployment, given) if there else planned(deployment, given))
    for check, words, remedy in found:
        yield _row(check, "warn" if remedy in PENDING else "error", words, remedy)
    if not found:
        words = (
            "roles, tokens, targets, feeds, limits, calls, approvals and gas money fit"
            if there
            else ("tokens, feeds, pools and keys fit; create it with foredrift vault deploy")
        )
        yield _row("vault on chain" if there else "rows", "ok", words, "")


def _policies(deployment: Deployment) -> Iterator[Finding]:
    """Yield whether the policies of the configured Enzyme fund bound its managers."""
    from pipelines.vault_setup.onchain import dry_vault
    from policy.execution.vaults.enzyme.adapter import EnzymeFund

    fund = dry_vault(deployment)
    assert isinstance(fund, EnzymeFund)
    faults = fund.policy_faults()
    for words in faults:
        yield _row("policies", "warn", words, "let the fund's owner enable it: a stolen manager's key takes everything")
    if not faults:
        yield _row("policies", "ok", "slippage, adapters, assets and untracking are bounded", "")
