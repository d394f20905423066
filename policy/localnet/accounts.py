"""The development accounts of the local chain. Their keys are public knowledge: never fund them elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from eth_account import Account

MNEMONIC = "test test test test test test test test test test test junk"  # the default of Anvil and Hardhat
ROLES = (
    "deployer",
    "owner",
    "keeper",
    "guardian",
    "provider",
    "arbitrageur",
    "searcher",
    "investor",
    "trader",
    "identity",
)
"""Who the accounts are: provider owns the pools' liquidity, identity signs relay requests and holds nothing."""


@dataclass(frozen=True, slots=True)
class DevAccount:
    """An account of the local chain."""

    role: str
    address: str
    key: bytes = field(repr=False)


BUILDER_WEI = 10**20
"""What the builder starts with: it pays refunds of a block out of its own money."""


@lru_cache(maxsize=1)
def builder() -> DevAccount:
    """Return who builds the blocks, earns their tips and pays refunds: the account after the development ones."""
    return _derived("builder", len(ROLES))


@lru_cache(maxsize=1)
def attesters() -> tuple[DevAccount, ...]:
    """Return the two who sign what left a local chain, in the order of their addresses."""
    made = (_derived(f"attester {i}", len(ROLES) + i) for i in (1, 2))
    return tuple(sorted(made, key=lambda a: int(a.address, 16)))


@lru_cache(maxsize=1)
def dev_accounts() -> dict[str, DevAccount]:
    """Return the ten accounts by role, derived from the well-known mnemonic."""
    return {role: _derived(role, index) for index, role in enumerate(ROLES)}


def _derived(role: str, index: int) -> DevAccount:
    Account.enable_unaudited_hdwallet_features()  # meant for well-known mnemonics like this one
    account = Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
    return DevAccount(role, str(account.address), bytes(account.key))
