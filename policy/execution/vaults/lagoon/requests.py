"""What a Lagoon v0.5 vault holds of its holders' requests, its valuation and its roles, read at one block.

Requests wait in the vault's silo: assets that will come, shares that will leave. A valuation is pushed first and takes
effect when the Safe settles with the same figure; requests made since the push wait for the next one. Source:
hopperlabsxyz/lagoon-v0 v0.5.0 (ERC7540.sol, Vault.sol), whose storage has no getters for silo and pushed valuation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.answers import data
from lake.errors import ConfigError, RpcError
from lake.evm import Call, at_block, read
from lake.rpc import Rpc

VERSION = "v0.5.0"
NAMESPACE = (int.from_bytes(keccak((int.from_bytes(keccak(text="hopper.storage.ERC7540"), "big") - 1)
                                   .to_bytes(32, "big")), "big") >> 8) << 8  # fmt: skip
"""Where ERC7540.sol keeps its record (ERC-7201)."""
PUSHED, SILO = 1, 8
"""Slots of the record: the pushed valuation, the silo."""
NOTHING_PUSHED = 2**256 - 1
ROLES = "address,address,address,address,address"  # whitelist manager, fee receiver, safe, registry, valuation manager
NOBODY = "0x000000000000000000000000000000000000dEaD"


@dataclass(frozen=True, slots=True)
class Requests:
    """The vault at one block. Amounts are raw units of the accounting asset, ``*_shares`` of the vault's own token.

    ``coming``: assets requested to be deposited, in the silo; ``leaving_shares``: shares requested to be redeemed, in
    the silo; ``pushed``: a valuation that waits for the Safe to settle with it, None where none waits.
    """

    vault: str
    asset: str
    safe: str
    valuer: str
    silo: str
    coming: int
    leaving_shares: int
    total_assets: int
    supply: int
    shares_per_asset: int  # 10^(18 - decimals of the asset): what one unit of an empty vault is in shares
    pushed: int | None
    paused: bool
    listed_only: bool  # whether only listed holders may take part

    def worth(self, shares: int, nav: int) -> int:
        """Return what ``shares`` are paid at a valuation of ``nav``, rounded down as the vault does, before fees."""
        return shares * (nav + 1) // (self.supply + self.shares_per_asset)

    def leaving(self, nav: int) -> int:
        """Return the assets that the requested redemptions need at a valuation of ``nav``; fees make it no more."""
        return self.worth(self.leaving_shares, nav)


def read_requests(rpc: Rpc, vault: str, block: int | str = "latest") -> Requests:
    """Return requests, valuation and roles at one block. ConfigError where ``vault`` is no Lagoon v0.5 vault."""
    views = [
        Call(vault, "version()", "string"),
        Call(vault, "asset()", "address"),
        Call(vault, "getRolesStorage()", ROLES),
        Call(vault, "totalAssets()", "uint256"),
        Call(vault, "totalSupply()", "uint256"),
        Call(vault, "paused()", "bool"),
        Call(vault, "isWhitelisted(address)", "bool", (NOBODY,)),
    ]
    told = _required(rpc, vault, views, block)
    version, asset, supply = told[0][0], _address(told[1][0]), cast("int", told[4][0])
    if version != VERSION:
        raise ConfigError(f"[vault] investors {vault} is a Lagoon vault of version {version}, {VERSION} is supported")
    pushed, silo = (_slot(rpc, vault, NAMESPACE + n, block) for n in (PUSHED, SILO))
    place = str(to_checksum_address(silo.to_bytes(32, "big")[-20:]))
    more = [
        Call(asset, "balanceOf(address)", "uint256", (place,)),
        Call(vault, "balanceOf(address)", "uint256", (place,)),
        Call(asset, "decimals()", "uint8"),
        Call(asset, "allowance(address,address)", "uint256", (place, vault)),
    ]
    coming, shares, decimals, allowed = (cast("int", row[0]) for row in read(rpc, more, block))
    if allowed < 2**128:  # a silo lets its vault take everything; anything else at that slot is no silo
        raise ConfigError(f"[vault] investors {vault}: {place} is no silo of it; is it a changed build of Lagoon?")
    return Requests(
        vault, asset, _address(told[2][2]), _address(told[2][4]), place, coming, shares,
        cast("int", told[3][0]), supply, 10 ** max(0, 18 - decimals), None if pushed == NOTHING_PUSHED else pushed,
        bool(told[5][0]), not told[6][0],
    )  # fmt: skip


def _required(rpc: Rpc, vault: str, views: list[Call], block: int | str) -> list[tuple[object, ...]]:
    try:
        return read(rpc, views, block)
    except RpcError as error:
        if "revert" not in str(error) and "answered" not in str(error):  # the node failed, not the contract
            raise
        raise ConfigError(f"[vault] investors {vault} is no Lagoon v0.5 vault: {error}") from None


def _slot(rpc: Rpc, vault: str, slot: int, block: int | str) -> int:
    return int.from_bytes(data(rpc.call("eth_getStorageAt", [vault, hex(slot), at_block(block)])), "big")


def _address(told: object) -> str:
    return str(to_checksum_address(cast("str", told)))
