"""One decision on two reference vaults of two local chains: both trade their part, and cash follows by a bridge."""

from __future__ import annotations

import polars as pl
import pytest

from lake.evm import calldata
from lake.store import Lake
from pipelines.deployments import deployments
from pipelines.settings import load
from pipelines.stages import rebalance as stage
from pipelines.stages.ingest import ingest_all
from pipelines.stages.transfers import run_transfers
from pipelines.wiring import lake_of, now
from policy.localnet.attestation_server import serve_attester
from policy.localnet.bridges import CHAIN_IDS, USD
from tests.chain_fixtures import CLOCK
from tests.pipelines.test_transfers_onchain import PHRASE, written
from tests.transfers.real_chains import CctpCase

LAKE = """
[sources.sample]
start = "2024-03-01"
hours = 1_476
[policy]
kind = "gas_band"
"""
FLOOR = 300_000


def pools_of(net, section: str) -> str:
    """The pools of the local chain between its cash and ETH, as rows of ``section``."""
    rows = []
    for pool in net.world.pools.values():
        if {pool.asset, pool.quote} == {"USDC", "ETH"}:
            rows += [f"[[{section}]]", f'asset = "{pool.asset}"', f'address = "{pool.address}"']
            rows += [f'venue = "{pool.venue}"', f'router = "{pool.router}"']
    return "\n".join(rows) + "\n"


def priced(lake: Lake, usd: float) -> None:
    """Scale the recorded prices of ETH so that the last is the local chains'."""
    rows = lake.scan("prices").filter(pl.col("asset") == "ETH").collect()
    factor = usd / rows.sort("ts")["close"][-1]
    lake.write("prices", rows.with_columns(pl.col(c) * factor for c in ("open", "high", "low", "close")))


@pytest.fixture
def fund(chain_pair, tmp_path, monkeypatch):
    """The project beside both chains, with sixty recorded days that end at the chains' moment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOREDRIFT_PASSPHRASE", PHRASE)
    near, far = chain_pair.nets
    with serve_attester(chain_pair.attester) as service:
        text = written(tmp_path, chain_pair, service).replace(
            "min_cash_usd = 1_000", f"min_cash_usd = {FLOOR}\nhistory_id = 1"
        )
        head, tail = text.split("[[bridges]]", 1)
        (tmp_path / "foredrift.toml").write_text(text + LAKE)
        ingest_all(load(tmp_path / "foredrift.toml"), [], None, CLOCK.isoformat())
        text = head + pools_of(far, "chains.pools") + "[[bridges]]" + tail + pools_of(near, "sources.pools") + LAKE
        (tmp_path / "foredrift.toml").write_text(text)
        settings = load(tmp_path / "foredrift.toml")
        priced(lake_of(settings), 1_500.0)
        chain_pair.level()
        chain_pair.mine()
        yield chain_pair, settings


@pytest.mark.chain
def test_one_decision_is_executed_by_both_vaults_and_cash_follows_where_it_lacks(fund):
    """Both vaults hold cash alone; then an investor leaves one of them short of its level within the same hour."""
    made, settings = fund
    case, project = CctpCase(made), deployments(settings)
    begun = case.balances()
    done = stage.rebalance(settings, live=True)
    assert {n: p["outcome"] for n, p in done["parts"].items()} == dict.fromkeys((d.name for d in project), "traded")
    placed = {t["chain"]: t["change_usd"] for t in done["portfolio"]["placement"]["trades"]}
    assert tuple(placed) == CHAIN_IDS
    held = case.balances()
    for chain_id, before, after in zip(CHAIN_IDS, begun, held, strict=True):
        assert (after - before) / USD == pytest.approx(placed[chain_id][0], rel=1e-4), "each its part of the whole"
    bought = sum(change[1] for change in placed.values()) / done["portfolio"]["nav_usd"]
    assert bought == pytest.approx(done["portfolio"]["placement"]["done"] * done["portfolio"]["wanted"][1])
    assert done["transfers"]["transfers"] == []

    far, me = made.nets[1], made.nets[1].accounts["investor"].address
    far.send("investor", case.vaults[1].address, calldata("withdraw(uint256,address,address)", 500_000 * USD, me, me))
    made.mine(4)
    short = case.balances()
    assert short == (held[0], held[1] - 500_000 * USD)
    again = stage.rebalance(settings, live=True)
    assert "executed already" in again["portfolio"]["waits"]
    assert again["transfers"]["planned"] is not None
    for _ in range(12):
        made.mine(2)
        view = run_transfers(project, now())
        assert view["mismatch"] == "", "no unit is lost or counted twice at any look"
        [row] = view["transfers"]
        if row["state"] == "settled":
            break
    sent, end = int(row["amount_raw"]), case.balances()
    assert row["state"] == "settled"
    assert sent > 0
    assert end == (short[0] - sent, short[1] + sent)
