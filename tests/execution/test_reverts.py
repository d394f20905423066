"""Reverts in words: every code of the contracts, the leg at fault with its pair and pool, and mined ones with gas."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode

from lake.rpc import Rpc
from policy.execution.submission.revert_words import MEANINGS, SAFE, UNISWAP, VAULT, meaning
from policy.execution.submission.reverts import reason_of
from policy.execution.vaults.reference.adapter import ReferenceVault
from tests.execution.chain_kit import USD, landed, sealed, v3_leg


def error(text: str) -> str:
    return "0x08c379a0" + encode(["string"], [text]).hex()


@pytest.mark.parametrize(
    "code", ["TF", "IIA", "STF", "SPL", "GS013", "GS020", "GS026", "min out", "spent", "nav floor"]
)
def test_every_code_has_its_words(code):
    assert reason_of(error(code)) == code
    assert meaning(code) == f"{code}: {MEANINGS[code]}"
    assert meaning(f"execution reverted: {code}") == meaning(code)
    assert len(MEANINGS[code].split()) > 4


def test_data_that_is_no_text_is_told_too():
    assert reason_of("0x4e487b71" + encode(["uint256"], [0x11]).hex()) == "panic 0x11: an amount overflows"
    assert "paused" in reason_of("0xd93c0665")
    assert reason_of("0x12345678") == "0x12345678"
    assert reason_of(None) == reason_of("0x") == "reverted without a reason"
    assert reason_of("nonsense", "as the node said") == "as the node said"
    assert reason_of("0x08c379a0ff") == "0x08c379a0ff"
    assert meaning("never seen") == "never seen"
    assert not {k for k in UNISWAP if k in SAFE} | {k for k in SAFE if k in VAULT}


@pytest.mark.chain
def test_the_leg_that_fails_is_named_with_its_pair_and_pool(vaultnet):
    vault = ReferenceVault(Rpc(vaultnet.url, timeout=5, tries=1), vaultnet.world.extras["vault"])
    good = v3_leg(vaultnet, vault.address, "v3:ETH/USDC:500", "USDC", 1_000 * USD)
    bad = v3_leg(vaultnet, vault.address, "v3:BTC/USDC:3000", "USDC", 1_000 * USD, short=1)
    plan = sealed(vault, vault.address, [good, bad])
    dry = vault.simulate(vault.build(plan), vaultnet.accounts["keeper"].address)
    assert not dry.ok
    why = vault.why(plan, dry.revert)
    assert why.startswith("leg 2 of 2, USDC -> ")
    assert bad.path[0].pool in why
    assert "Too little received: the price moved" in why
    receipt = landed(vaultnet, "keeper", vault.address, vault.build(plan).data)
    (verdict,) = vault.verify(receipt, plan).verdicts
    assert verdict.check == "landed"
    assert (
        f"mined in block {receipt.block_number} and reverted, {receipt.gas_used} gas paid: leg 2 of 2" in verdict.reason
    )
    vaultnet.front.refused.add("eth_simulateV1")
    assert "no leg could be replayed" in vault.why(plan, "STF")
    assert "STF: the router could not take the token sold" in vault.why(plan, "STF")
