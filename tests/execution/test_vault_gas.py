"""Gas per function on the test bench, to the unit: a change of the contract shows what it costs.

After a deliberate change write the new figures with ``python -m tests.execution.test_vault_gas``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lake.rpc import quantity
from policy.execution.contracts.compile import SIZE_LIMIT, contract
from tests.execution.vault_kit import FREE, Bench, bench

pytestmark = pytest.mark.chain
SNAPSHOT = Path(__file__).parent / "gas_snapshot.json"
CONTRACTS = ("foredrift_vault", "foredrift_investors", "foredrift_auctions", "foredrift_port", "foredrift_oracle")
USD = 10**6


def measure(b: Bench) -> dict[str, int]:
    me = b.who["investor"]
    used: dict[str, int] = {}

    def note(name: str, receipt) -> None:
        used[name] = quantity(receipt["gasUsed"])

    note("deposit", b.send("investor", b.vault, "deposit(uint256,address)", 1_000 * USD, me))
    note("mint", b.send("investor", b.vault, "mint(uint256,address)", 10**15, me))
    note("transfer", b.send("investor", b.vault, "transfer(address,uint256)", b.who["trader"], 10**12))
    note("rebalance_1_leg", b.rebalance(b.plan(b.fair(0, 1, 10_000 * USD, 5))))
    b.wait(60)
    note("rebalance_2_legs", b.rebalance(b.plan(b.fair(0, 1, 10_000 * USD, 5), b.fair(0, 2, 10_000 * USD, 5))))
    b.wait(60)
    note("rebalance_2_legs_again", b.rebalance(b.plan(b.fair(0, 1, 1_000 * USD, 5), b.fair(0, 2, 1_000 * USD, 5))))
    note("withdraw", b.send("investor", b.vault, "withdraw(uint256,address,address)", 100 * USD, me, me))
    note("redeem", b.send("investor", b.vault, "redeem(uint256,address,address)", 10**14, me, me))
    note("redeemInKind", b.send("investor", b.vault, "redeemInKind(uint256,address,address)", 10**14, me, me))
    note("poke", b.send("trader", b.vault, "poke()"))
    note("pause", b.send("guardian", b.vault, "pause()"))
    note("revoke_keeper", b.send("owner", b.vault, "revoke_keeper()"))
    return used


def test_gas_is_as_recorded():
    with bench(**FREE) as b:
        assert measure(b) == json.loads(SNAPSHOT.read_text())["bench"]


def test_code_fits_the_chain():
    sizes = {name: contract(name).size for name in CONTRACTS}
    assert max(sizes.values()) < SIZE_LIMIT
    assert sizes == json.loads(SNAPSHOT.read_text())["bytes"]


if __name__ == "__main__":
    with bench(**FREE) as fresh:
        known = json.loads(SNAPSHOT.read_text())
        known["bench"] = measure(fresh)
        known["bytes"] = {name: contract(name).size for name in CONTRACTS}
        SNAPSHOT.write_text(json.dumps(known, indent=2) + "\n")
