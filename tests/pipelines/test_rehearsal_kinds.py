"""A rehearsal of each kind of vault: deployed, given its role, signed or settled as live, and its days reported."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from lake.errors import ConfigError, NotEnoughData
from pipelines.cli import app
from pipelines.demo import rehearsal_kinds
from pipelines.demo.rehearsal import Lived, lived, note_of
from pipelines.demo.rehearsal_kinds import ASKED_BPS, KINDS, _settled, kind_of
from pipelines.demo.rehearsal_lake import newest_price
from pipelines.demo.rehearsal_yields import made_of, plain, yields_of
from pipelines.deployments import deployment
from pipelines.settings import load
from pipelines.stages.vault_settle import settle
from pipelines.vault_setup.onchain import dry_vault
from pipelines.wiring import lake_of
from policy.execution.records.audit import Audit
from policy.execution.vaults.enzyme.adapter import EnzymeFund
from policy.execution.vaults.lagoon.adapter import LagoonVault
from policy.execution.vaults.safe.proposal import ProposedSafe
from policy.execution.vaults.safe.roles import RolesSafe
from tests.execution.vault_kit import need_lagoon
from tests.pipelines.market import project
from tests.pipelines.test_rehearsal import tree

SOMEWHERE = "0x" + "11" * 20
SHARE, FEED = "0x" + "22" * 20, "0x" + "33" * 20
RATE, GROWTH = 1.05, 0.08
HOLDING = f"""
[vault.tokens]
USDC = "0x{"44" * 20}"
ETH = "0x{"55" * 20}"
SUSDC = "{SHARE}"
[[sources.pools]]
asset = "SUSDC"
address = "{SHARE}"
venue = "erc4626"
""" + "".join(f'[[sources.feeds]]\nasset = "{a}"\naddress = "{FEED}"\nheartbeat = "25h"\n' for a in ("USDC", "SUSDC"))
"""Besides ``[vault]``: a portfolio that holds a yield-bearing token made of its cash."""
EXTRA = """
[mandate]
max_turnover_bps = 9_000
loss_budget_bps = 40
[schedule]
rebalance = "6 */12 * * *"
"""
ALLOWANCE = 200
SECTIONS = {
    "roles": f'kind = "safe"\nallowance_bps = {ALLOWANCE}',
    "proposal": 'kind = "safe"\naccess = "proposal"',
    "enzyme": 'kind = "enzyme"',
    "lagoon": f'kind = "lagoon"\nallowance_bps = {ALLOWANCE}',
}
ADAPTERS = {"roles": RolesSafe, "proposal": ProposedSafe, "enzyme": EnzymeFund, "lagoon": LagoonVault}


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    """A project with sixty days of prices, of a yield-bearing token too; each test gives it a vault."""
    made = project(tmp_path_factory.mktemp("own"), EXTRA)
    lake = lake_of(deployment(made))
    eth = lake.scan("prices").filter(pl.col("asset") == "ETH").collect()
    days = (pl.col("ts") - pl.col("ts").max()).dt.total_seconds() / 86_400
    worth = [(RATE * (1 + GROWTH * days / 365)).alias(c) for c in ("open", "high", "low", "close")]
    lake.write("prices", eth.with_columns(pl.lit("SUSDC").alias("asset"), *worth).select(eth.columns))
    return made.root / "foredrift.toml"


def of_kind(market: Path, section: str, further: str = "", assets: str = '["USDC", "ETH", "BTC"]'):
    """Return the deployment of the project with another ``[vault]``, which lies on another chain."""
    text = market.read_text().replace('["BTC", "ETH", "LINK"]', assets)
    file, files = market.with_name("kind.toml"), 'journal = "mine"\naudit = "mine.jsonl"\n'
    file.write_text(f'{text}\n[vault]\n{section}\naddress = "{SOMEWHERE}"\n{files}{further}')
    return deployment(load(file))


def holding(market: Path, section: str):
    """Return the deployment of a hard mandate with a third of it in the yield-bearing token."""
    return of_kind(market, section, HOLDING, '["USDC", "ETH", "SUSDC"]\nscenario = "hard"')


def ours(folder: Path) -> dict[str, str]:
    """Every file of the project with its content, but the settings that the tests write."""
    return {name: digest for name, digest in tree(folder).items() if name != "kind.toml"}


@pytest.fixture(scope="module", params=SECTIONS)
def day(request, market) -> Iterator[tuple[str, Lived, list[str]]]:
    """A day of each kind, its chain still there, and what its decisions came to."""
    if request.param == "lagoon":
        need_lagoon()
    own = (holding if request.param == "proposal" else of_kind)(market, SECTIONS[request.param])
    before, outcomes = ours(own.root), []
    with lived(own, 1, lambda _, __, outcome: outcomes.append(outcome)) as it:
        yield request.param, it, outcomes
    assert ours(own.root) == before
    assert not list(Path(tempfile.gettempdir()).glob(f"{it.local.root.name}*"))


@pytest.mark.chain
def test_its_days_trade_towards_the_targets_and_every_plan_has_its_record(day):
    """From cash, two decisions: the chain, the record and the figures say the same of it."""
    name, it, outcomes = day
    vault, evidence = dry_vault(it.local), it.evidence()
    assert type(vault) is ADAPTERS[name]
    assert len(outcomes) == 2
    assert outcomes[0] == "traded", list(Audit(it.local.audit).records())[-1].body
    figures, tables = evidence.head["figures"], evidence.tables
    assert (evidence.faults, figures["faults"]) == (0, 0), tables["findings"].to_dicts()
    assert figures["replayed_same"] == figures["decisions"] >= 2
    landed = tables["settlements"].filter(tables["settlements"]["outcome"] == "landed")
    assert landed.height >= 1
    cash, *others = vault.state().book.weights_bps()
    assert any(others)
    if name in {"roles", "lagoon"}:  # all of the cash that the role lets be sold in a day, and no more
        assert cash == pytest.approx(10_000 - ALLOWANCE, abs=30)
        assert outcomes[1] == "waited"
    else:
        assert cash < 10_000 - 2 * ALLOWANCE
    if name == "enzyme":  # a leg a plan, one after the other in the same hour
        assert landed["decision_id"].str.contains("-2").any()


@pytest.mark.chain
def test_who_has_to_sign_or_settle_besides_does_so_and_it_is_told(day):
    name, it, outcomes = day
    if name in {"roles", "enzyme"}:
        assert it.notes == ()
        return
    if name == "proposal":
        assert it.notes[0].startswith("SUSDC is worth 1.049")
        assert "earns 8." in it.notes[0]
        assert "2 of 3 owners signed" in it.notes[1]
        [rate] = dry_vault(it.local).state().rates
        assert RATE < rate.rate / 10 ** (12 + 6) < RATE * (1 + GROWTH / 300)
        assert dry_vault(it.local).state().book.holdings[2] > 0
        assert it.local.vault.keystore  # it pays the gas, and owns nothing of the Safe
        assert it.net.accounts["keeper"].address not in dry_vault(it.local).signers("latest").owners
        return
    [note] = it.notes
    assert "requests settled: 1,250 USDC wait to come, 2,499." in note
    told = settle(it.local)
    assert (told["step"], told["coming"], told["leaving_shares"]) == ("nothing", "0", "0")
    nav = it.local.portfolio.nav_usd * (1 - ASKED_BPS / 20_000)
    assert int(told["nav"]) / 10 ** told["decimals"] == pytest.approx(nav, rel=0.01)


@pytest.mark.chain
def test_a_settlement_that_a_verdict_stops_is_told_and_waits(day):
    """Half of the Safe's cash leaves for no reason: the share's price would fall by more than a day's limit."""
    name, it, _ = day
    if name != "lagoon":
        return
    rehearsal_kinds._asked(it.net, it.local)  # the role is there; the holder asks again
    cash = it.net.world.token("USDC")
    vault = dry_vault(it.local)
    from policy.localnet.lagoon import by_safe

    half = vault.state().book.holdings[0] // 2
    trader = it.net.accounts["trader"].address
    by_safe(it.net.deployer, vault.spec.address, cash.address, "transfer(address,uint256)", trader, half)
    done = _settled(it.net, it.local)
    assert done.words.startswith("requests not settled: nav_change")
    assert settle(it.local)["step"] == "value"


@pytest.mark.chain
def test_the_command_rehearses_a_fund_and_tells_what_it_was(market, tmp_path):
    of_kind(market, SECTIONS["enzyme"])
    words = ["rehearse", "--days", "1", "--config", str(market.with_name("kind.toml")), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--json", str(tmp_path / "out.json")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "an Enzyme fund with a tolerance of 3%" in " ".join(done.output.split())
    told = json.loads((tmp_path / "out.json").read_text())
    assert (told["kind"], sum(told["outcomes"].values()), told["people"]) == ("enzyme", 2, [])
    assert (tmp_path / "out" / "mandate.html").exists()


def test_every_kind_of_the_settings_is_rehearsed_as_what_it_is(market):
    sections = {**SECTIONS, "owner-key-can-take-all": 'kind = "safe"\naccess = "owner-key-can-take-all"',
                "reference": 'kind = "reference"'}  # fmt: skip
    assert set(sections) == set(KINDS)
    for name, section in sections.items():
        own = of_kind(market, section)
        assert kind_of(own) is KINDS[name]
        assert KINDS[name].words in note_of(own)
        assert "what your vault on its chain allows may differ" in note_of(own)


def test_what_a_yield_bearing_token_is_made_of_and_earned_is_read_from_settings_and_lake(market):
    own = holding(market, SECTIONS["proposal"])
    lake = lake_of(own)
    assert made_of(own) == {"SUSDC": "USDC"}
    begin = newest_price(lake, ["ETH", "SUSDC"])
    [found] = yields_of(own, lake, begin)
    assert float(found.rate) == pytest.approx(RATE, rel=1e-3)
    assert float(found.growth) == pytest.approx(GROWTH, rel=0.02)
    later = begin + timedelta(days=365)
    assert float(found.at(later) / found.rate) == pytest.approx(1 + GROWTH, rel=1e-2)
    assert found.at(begin - timedelta(days=1)) == found.rate
    assert plain({"ETH": 1.0, "SUSDC": 2.0}, [found]) == {"ETH": 1.0}
    with pytest.raises(NotEnoughData, match="prices of SUSDC and USDC"):
        yields_of(own, lake, begin - timedelta(days=900))
    assert made_of(of_kind(market, SECTIONS["roles"])) == {}


def test_a_token_nobody_can_hold_or_tell_is_said_before_anything_starts(market):
    with pytest.raises(ConfigError, match="kind 'reference' holds no yield-bearing tokens"):
        made_of(holding(market, 'kind = "reference"'))
    file = holding(market, SECTIONS["proposal"]).root / "kind.toml"
    for old, new in ((f'asset = "SUSDC"\naddress = "{FEED}"', f'asset = "SUSDC"\naddress = "{SOMEWHERE}"'),
                     ('["USDC", "ETH", "SUSDC"]\nscenario', '["USDC", "ETH", "BTC"]\nscenario')):  # fmt: skip
        held = file.read_text()
        file.write_text(held.replace(old, new))
        with pytest.raises(ConfigError, match="what SUSDC is made of cannot be told"):
            made_of(deployment(load(file)))
        file.write_text(held)
