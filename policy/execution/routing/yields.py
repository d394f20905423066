"""Yield-bearing tokens (ERC-4626) as a venue: shares are made from their asset and turned back at the vault's own rate.

To the router such a vault is a pair so deep that no trade moves its price, with half of what going in and out costs as
its fee; the amounts are confirmed by simulation like any other. Source: EIP-4626.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from eth_utils.address import to_checksum_address

from lake.errors import ConfigError, RpcError
from lake.evm import Call, calldata, read, try_read
from lake.rpc import Rpc
from lake.venues import SHARES_CALLS
from policy.execution.base import Hop
from policy.execution.routing.amm import PIPS, V2Pool

VENUE = "erc4626"
DEPOSIT, REDEEM = SHARES_CALLS
DEPTH = 10**3
"""Trillions of shares in the pair that stands for a vault: a trade of a million moves its price by a billionth, and the
router's floats still tell a hundred from nothing."""
MOST_COST_PIPS = 20_000
"""Most that going in and out may cost; dearer vaults are no place for cash."""


@dataclass(frozen=True, slots=True)
class YieldVault:
    """What never changes about a vault of shares: the token it is itself, and the asset it holds, with decimals."""

    address: str
    asset: str
    share_decimals: int
    asset_decimals: int


@dataclass(frozen=True, slots=True)
class YieldState:
    """A vault at one block: assets of 10^k shares (k: ``exponent``), cost of a round trip, and what may go in and out.

    ``cost_pips``: lost by depositing and redeeming at once. ``max_in`` and ``max_out``: of the holder asked for.
    """

    assets: int
    exponent: int
    cost_pips: int
    max_in: int
    max_out: int

    @property
    def halted(self) -> bool:
        """Whether nothing can be deposited or nothing redeemed."""
        return not self.max_in or not self.max_out


def describe(rpc: Rpc, addresses: Sequence[str]) -> list[YieldVault]:
    """Return the constants of vaults; ConfigError names one that is no ERC-4626."""
    found = []
    for address in addresses:
        views = [Call(address, "asset()", "address"), Call(address, "decimals()", "uint8")]
        try:
            (asset,), (shares,) = read(rpc, views)
            ((decimals,),) = read(rpc, [Call(str(asset), "decimals()", "uint8")])
        except RpcError as error:
            raise ConfigError(f"{address} is no ERC-4626 vault ({error}); correct its [[sources.pools]] row") from None
        ends = str(to_checksum_address(address)), str(to_checksum_address(str(asset)))
        found.append(YieldVault(*ends, cast("int", shares), cast("int", decimals)))
    return found


def read_yields(rpc: Rpc, vaults: Sequence[YieldVault], block: str, holder: str | None = None) -> list[YieldState]:
    """Return each vault at ``block``; the rate is asked of a trillion shares, so that its rounding does not show."""
    who = holder or "0x" + "0" * 39 + "1"
    asks = [call for v in vaults for call in _asks(v, who)]
    rows = try_read(rpc, asks, block) if asks else []
    found = []
    for i, vault in enumerate(vaults):
        rate, out, most_in, held = rows[4 * i : 4 * i + 4]
        if isinstance(rate, RpcError):
            raise rate
        k, assets = vault.share_decimals + 12, cast("int", rate[0])
        after = assets if isinstance(out, RpcError) else cast("int", out[0])
        cost = max(0, (assets - after) * PIPS // assets) if assets else PIPS
        max_in = 0 if isinstance(most_in, RpcError) else cast("int", most_in[0])
        room = 0 if isinstance(held, RpcError) else cast("int", held[0])
        found.append(YieldState(assets, k, cost, max_in, room))
    return found


def _asks(vault: YieldVault, who: str) -> list[Call]:
    shares = 10 ** (vault.share_decimals + 12)
    return [
        Call(vault.address, "convertToAssets(uint256)", "uint256", (shares,)),
        Call(vault.address, "previewRedeem(uint256)", "uint256", (shares,)),
        Call(vault.address, "maxDeposit(address)", "uint256", (who,)),
        Call(vault.address, "maxRedeem(address)", "uint256", (who,)),
    ]


def pair_of(vault: YieldVault, state: YieldState) -> V2Pool | None:
    """Return the pair that stands for a vault; None where it is halted, empty or too dear."""
    if not state.assets or not state.max_in or state.cost_pips > MOST_COST_PIPS:
        return None
    shares = DEPTH * 10**state.exponent
    return V2Pool(
        vault.address, vault.address, vault.asset, shares, DEPTH * state.assets, state.cost_pips // 2, vault.address,
        VENUE,
    )  # fmt: skip


def shares_call(hops: Sequence[Hop], amount_in: int, min_out: int, recipient: str, deadline: int, limit: int) -> bytes:
    """Return the call that redeems shares, or deposits their asset; it knows neither a minimum nor a deadline."""
    del min_out, deadline, limit
    if hops[0].token_in.lower() == hops[0].pool.lower():
        return calldata(REDEEM, amount_in, recipient, recipient)
    return calldata(DEPOSIT, amount_in, recipient)
