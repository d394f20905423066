"""Two operators' nodes: one that lies about prices, pools, balances, blocks or nonces never gets a plan signed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import SecretStr

from lake.evm import selector
from lake.rpc import Rpc
from pipelines.sections import ChainSection, PoolRow, Sources, VaultSection
from pipelines.settings import Settings
from pipelines.vault_setup.context_parts import rule_of
from pipelines.vault_setup.onchain import witnesses_of
from pipelines.wiring import operators
from policy.execution.checks.verdicts import refusals
from policy.execution.engine import step
from policy.localnet.faults import Fault, FaultKind
from policy.localnet.front import Front
from tests.execution.chainlab import TARGETS, chain_context

pytestmark = pytest.mark.chain
KEY = "s3cr3tk3y"


@pytest.fixture
def second(vaultnet):
    """A second way to the same chain, as another operator's node."""
    front = Front(vaultnet.node)
    yield front
    front.close()


def settings(net, *urls: str) -> Settings:
    pools = [p for p in net.world.pools.values() if {p.asset, p.quote} <= set(TARGETS)]
    rows = tuple(PoolRow(address=p.address, venue=p.venue, router=p.router, asset="ETH") for p in pools)
    return Settings(
        chain=ChainSection(id=net.chain_id, rpc_urls=tuple(SecretStr(u) for u in urls)),
        vault=VaultSection(kind="reference", address=net.world.extras["vault"], keeper=net.accounts["keeper"].address),
        sources=Sources(pools=rows),
    )


def context(net, folder, *urls: str, primary: str):
    ctx = chain_context(folder, net, Rpc(primary, timeout=2, tries=1))
    return replace(ctx, witnesses=witnesses_of(settings(net, *urls), ctx.sender))


def lie(kind: str):
    """A consistent lie about one thing."""

    def change(method, params, result):
        if kind == "price" and method == "eth_call" and params[0]["data"].startswith("0xfeaf968c"):  # latestRoundData
            answer = int(result[66:130], 16)
            return result[:66] + f"{answer * 103 // 100:064x}" + result[130:]
        if kind == "balance" and method == "eth_call" and params[0]["data"] == "0x" + selector("balances()").hex():
            held = int(result[130:194], 16)  # the first amount of the list
            return result[:130] + f"{held * 101 // 100:064x}" + result[194:]
        if kind == "pool" and method == "eth_call" and params[0]["data"].startswith("0x1a686502"):  # liquidity
            return f"0x{int(result, 16) * 2:064x}"
        if kind == "nonce" and method == "eth_getTransactionCount":
            return hex(int(result, 16) + 1)
        if kind == "block" and method.startswith("eth_getBlockBy") and isinstance(result, dict):
            return {**result, "hash": "0x" + "ab" * 32}
        return result

    return Fault(FaultKind.LYING, times=None, change=change)


def test_two_that_agree_let_a_plan_go(vaultnet, second, tmp_path):
    urls = f"{vaultnet.url}/{KEY}", f"{second.url}/{KEY}"
    report = step(context(vaultnet, tmp_path, *urls, primary=urls[0]))
    assert report.outcome == "traded", report.why
    (verdict,) = [v for v in report.verdicts if v.check == "quorum"]
    assert "agree on block" in verdict.reason
    assert KEY not in str(report.json())


@pytest.mark.parametrize("liar", ["the first", "the second"])
@pytest.mark.parametrize("kind", ["price", "balance", "pool", "nonce", "block"])
def test_one_that_lies_never_gets_a_plan_signed(vaultnet, second, tmp_path, kind, liar):
    urls = f"{vaultnet.url}/{KEY}", f"{second.url}/{KEY}"
    (vaultnet.front if liar == "the first" else second).faults.add(lie(kind))
    ctx = context(vaultnet, tmp_path, *urls, primary=urls[0])
    report = step(ctx)
    assert report.outcome == "refused"
    assert not ctx.journal.flights(), "nothing was signed"
    found = {v.check: v.reason for v in refusals(report.verdicts)}
    if kind == "block" and liar == "the first":
        assert found, "a made-up block cannot be read at, by either"
        return
    if "quote_unconfirmed" in found or "simulation" in found:
        return  # its own contracts already contradicted it
    reason = found.get("nodes_disagree") or found["quorum"]
    assert "Nothing is signed" in reason
    assert str(second._server.server_port) in reason
    assert str(vaultnet.front._server.server_port) in reason or "quorum" in found
    assert KEY not in str(report.json())
    for front in (vaultnet.front, second):
        front.faults.clear()
    assert step(context(vaultnet, tmp_path, *urls, primary=urls[0])).outcome == "traded"


def test_one_that_is_down_confirms_nothing(vaultnet, tmp_path):
    urls = vaultnet.url, "http://127.0.0.1:9/" + KEY
    ctx = context(vaultnet, tmp_path, *urls, primary=urls[0])
    report = step(ctx)
    (reason,) = [v.reason for v in refusals(report.verdicts)]
    assert report.outcome == "refused"
    assert "1 of 2 nodes confirm" in reason
    assert "127.0.0.1:9" in reason
    assert KEY not in reason
    assert not ctx.journal.flights()


def test_one_alone_is_said_loudly_and_held_to_a_tighter_oracle(vaultnet, tmp_path):
    urls = f"{vaultnet.url}/{KEY}", f"{vaultnet.url}/another-key"
    given = settings(vaultnet, *urls)
    assert len(operators(given.chain)) == 1, "two keys of one operator are one operator"
    report = step(context(vaultnet, tmp_path, *urls, primary=urls[0]))
    assert report.outcome == "traded"
    (verdict,) = [v for v in report.verdicts if v.check == "one_node"]
    assert "ONLY ONE NODE" in verdict.reason
    assert "100 bp" in verdict.reason
    assert rule_of(given, 3_600, "ETH").deviation_bps == 100
    two = settings(vaultnet, vaultnet.url, "https://b.example")
    assert rule_of(two, 3_600, "ETH").deviation_bps == 500
    tight = two.model_copy(update={"mandate": two.mandate.model_copy(update={"max_oracle_deviation_bps": 50})})
    assert rule_of(tight, 3_600, "ETH").deviation_bps == 50


def test_doctor_says_how_many_nodes_answer(vaultnet, second):
    from pipelines.stages.doctor import _nodes

    def told(*urls):
        return [(f["level"], str(f)) for f in _nodes(settings(vaultnet, *urls))]

    ((level, text),) = told(vaultnet.url)
    assert level == "warn"
    assert "ONLY ONE NODE" in text
    ((level, text),) = told(vaultnet.url, second.url)
    assert level == "ok"
    second.faults.add(lie("block"))
    ((level, text),) = told(vaultnet.url, second.url)
    assert level == "error"
    assert "says 0xabababab" in text
    ((level, _),) = told(vaultnet.url, "http://127.0.0.1:9")
    assert level == "error"
