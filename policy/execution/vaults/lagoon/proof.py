"""What a thief with the keeper's key would try with a Lagoon vault, besides the Safe: each must be refused."""

from __future__ import annotations

from lake.evm import calldata
from policy.execution.vaults.lagoon.nav import PUSH, SETTLE_DEPOSIT, SETTLE_REDEEM
from policy.execution.vaults.safe.adapter import APPROVE, DELEGATECALL, packed
from policy.execution.vaults.safe.install import MULTISEND
from policy.execution.vaults.safe.proof import THIEF, Theft
from policy.execution.vaults.safe.roles import EXEC_ROLE, RolesSafe
from policy.execution.vaults.safe.scoping import ROLE

CLOSE, REDEEM = "close(uint256)", "requestRedeem(uint256,address,address)"


def lagoon_thefts(vault: RolesSafe, investors: str, keeper: str, *, values: bool = False) -> list[Theft]:
    """Return calls that must all fail: through the Safe by the role, alone and in a batch, and by the keeper himself.

    ``values``: the keeper is the valuation manager by intention, so that he may push valuations is no theft; only the
    Safe's owners settle with one.
    """
    cash = vault.spec.tokens[0].address
    inner = [
        ("settle deposits at a valuation of his own", investors, calldata(SETTLE_DEPOSIT, 1)),
        ("settle redemptions at a valuation of his own", investors, calldata(SETTLE_REDEEM, 1)),
        ("close the vault", investors, calldata(CLOSE, 1)),
        ("expire the valuation", investors, calldata("expireTotalAssets()")),
        ("ask for the Safe's shares", investors, calldata(REDEEM, 1, keeper, vault.spec.address)),
        ("send the Safe's shares", investors, calldata("transfer(address,uint256)", keeper, 0)),
        ("let the vault take the Safe's cash", cash, calldata(APPROVE, investors, 2**256 - 1)),
    ]
    found = []
    for words, to, data in inner:
        batch = calldata(MULTISEND, packed([(to, data)]))
        one = calldata(EXEC_ROLE, to, 0, data, 0, ROLE, True)
        many = calldata(EXEC_ROLE, vault.spec.multisend, 0, batch, DELEGATECALL, ROLE, True)
        found += [Theft(words, vault.modifier, one), Theft(f"{words}, in a batch", vault.modifier, many)]
    own = [
        ("settle by himself", calldata(SETTLE_DEPOSIT, 1)),
        ("pause the vault", calldata("pause()")),
        ("close the vault by himself", calldata("initiateClosing()")),
        ("own the vault", calldata("transferOwnership(address)", keeper)),
        ("name the valuation manager", calldata("updateValuationManager(address)", THIEF)),
        ("take the fees", calldata("updateFeeReceiver(address)", keeper)),
    ]
    own += [] if values else [("push a valuation", calldata(PUSH, 1))]
    return [*found, *(Theft(words, investors, data) for words, data in own)]
