"""Two local chains: ready from saved states, apart in their addresses, and left running for people."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lake.errors import ConfigError
from lake.evm import Call, read
from lake.rpc import Rpc
from pipelines.cli import app
from pipelines.demo.localnet_pair import serve_pair
from policy.execution.bridges.base import Departure
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.localnet.accounts import dev_accounts
from policy.localnet.across import ACROSS_ROUTE
from policy.localnet.bridges import CCTP_ROUTE, USD, created
from policy.localnet.chain_pair import ChainPair
from policy.localnet.layerzero import JOB_WEI, OFT_ROUTE
from policy.localnet.packages import cache_dir
from policy.localnet.serve import Running

pytestmark = pytest.mark.chain


def test_each_chain_knows_its_sister_and_no_address_is_on_both(chain_pair: ChainPair):
    vaults = [chain_pair.vault(i) for i in (0, 1)]
    rows = [v.port_route(CCTP_ROUTE) for v in vaults]
    assert vaults[0].address != vaults[1].address
    for row, other, net in zip(rows, vaults[::-1], reversed(chain_pair.nets), strict=True):
        assert row is not None
        assert (row.recipient, row.destination) == (other.address, net.chain_id)
        assert net.rpc.call("eth_getCode", [row.recipient, "latest"]) != "0x"
    times = [net.node.head().time for net in chain_pair.nets]
    assert times[0] == times[1]
    for i in (0, 1):
        for way in (chain_pair.cctp(i),):
            assert [e.chain.chain_id for e in way.ends] == [31_337 + i, 31_338 - i]


def test_the_pair_is_loaded_and_not_built_where_its_states_are_saved(pair_session: ChainPair):
    from policy.localnet.chain_pair import pair

    folder = cache_dir() / "worlds"
    saved = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.state.json")}
    with pair() as again:
        assert [again.vault(i).address for i in (0, 1)] == [pair_session.vault(i).address for i in (0, 1)]
        assert again.vault(0).snapshot().nav == 1_000_000 * USD
    assert {p.name: p.stat().st_mtime_ns for p in folder.glob("*.state.json")} == saved


def test_an_address_is_made_of_its_maker_and_count():
    assert created("0x6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0", 0) == "0xcd234A471b72ba2F1Ccf0A70FCABA648a5eeCD8d"
    assert created("0x6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0", 1) == "0x343c43A37D37dfF08AE8C4A11544c718AbB4fCF8"


class Acts(threading.Event):
    """A stop that does things between blocks and then stops."""

    def __init__(self, acts) -> None:
        super().__init__()
        self.acts = iter(acts)

    def wait(self, timeout: float | None = None) -> bool:
        act = next(self.acts, None)
        if act is None:
            return True
        act()
        return False


def test_left_running_it_delivers_what_leaves_a_vault_to_the_other():
    said: list[str] = []
    vaults: list[ReferenceVault] = []

    def depart(route: int, fee: int = 0, native: int = 0) -> None:
        urls = [m[1] for line in said if (m := re.search(r"local chain \d+ on (\S+)", line))]
        found = [m[1] for line in said if (m := re.search(r"  vault (0x\w{40})$", line))]
        vaults[:] = [ReferenceVault(Rpc(u), a) for u, a in zip(urls, found, strict=True)]
        here = vaults[0].snapshot()
        until = here.block_time + 7_200 if fee else 0
        terms = here.plan_nonce, here.block_time + 600, f"0x{route:064x}", "final", until, native
        wish = Departure(route, 2_500 * USD, fee, *terms)
        tx = vaults[0].build_departure(wish)
        call = {
            "from": dev_accounts()["keeper"].address,
            "to": tx.to,
            "data": "0x" + tx.data.hex(),
            "gas": hex(900_000),
            "value": hex(tx.value),
        }
        vaults[0].rpc.call("eth_sendTransaction", [call])

    held: list[int] = []

    def balance() -> None:
        there = vaults[1]
        token = there.snapshot().tokens[0].address
        held.append(int(str(read(there.rpc, [Call(token, "balanceOf(address)", "uint256", (there.address,))])[0][0])))

    passing, fee = [lambda: None] * 6, 1_250_000
    acts = [lambda: depart(CCTP_ROUTE), *passing, balance, lambda: depart(ACROSS_ROUTE, fee), *passing, balance]
    acts += [lambda: depart(OFT_ROUTE, native=3 * JOB_WEI), *passing, balance]
    blocks = serve_pair(Running(0, 0.0), Acts(acts), said.append)
    assert blocks == len(acts)
    assert held == [1_002_500 * USD, 1_005_000 * USD - fee, 1_007_500 * USD - fee]
    assert sum("arrived on 31338" in line for line in said) == 3
    assert sum("  route 1: cctp to our vault" in line for line in said) == 2
    assert sum(line.startswith("    messenger 0x") for line in said) == 2
    assert sum(line.startswith("    contract 0x") for line in said) == 4
    assert "quote service of both http://127.0.0.1:" in "".join(said)
    assert "attestation service of both http://127.0.0.1:" in "".join(said)
    assert not any(a.key.hex() in line for a in dev_accounts().values() for line in said)


@pytest.mark.parametrize(
    "extra", [["--replay"], ["--hedge"], ["--owner-keystore", "k.json"], ["--start", "2024-01-01"]]
)
def test_what_belongs_to_one_chain_is_refused_with_two(extra, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["localnet", "--chains", "2", *extra])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith(extra[0])
    assert not (tmp_path / "k.json").exists()
