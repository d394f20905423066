"""Creating a delta source and a hedge account: their set-up as records, and the creation code anyone can send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from eth_abi.abi import encode

from lake.errors import ConfigError
from lake.evm import selector
from policy.execution.base import Token
from policy.execution.contracts.compile import contract
from policy.execution.vaults.hedge.state import WAD, BookLine, HedgeLimits

BOUNDS_TYPE = "(uint256,uint256,uint256,uint256,uint256,uint256)"
LINE_TYPE = "(uint256,int256,uint256,uint256)"
LIMITS_TYPE = "(uint256,uint256,uint256,uint256,uint256,uint256,uint256,uint256)"
MOST_LINES = 8


@dataclass(frozen=True, slots=True)
class SourceBounds:
    """What the poster of a delta source may do, as ``Bounds`` of contracts/delta_book.vy; deltas x 1e18.

    ``max_age_s``: posts older than this are stale; two or three times how often they are made. A step plus what may
    come by the hour bounds a change, for a stolen posting key too.
    """

    max_age_s: int = 7_200
    max_delta: int = 1_000 * WAD
    delta_step: int = 10 * WAD
    delta_per_hour: int = 20 * WAD
    vol_step: int = WAD // 20
    vol_per_hour: int = WAD // 10

    def encoded(self) -> tuple[int, ...]:
        """Return the fields in the contract's order."""
        return (
            self.max_age_s, self.max_delta, self.delta_step, self.delta_per_hour, self.vol_step, self.vol_per_hour,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SourceSetup:
    """A delta source; without ``lines`` it is posted, from ``delta`` (x 1e18). ``index``: of the underlying."""

    owner: str
    poster: str
    guardian: str
    oracle: str
    lines: Sequence[BookLine] = ()
    delta: int = 0
    bounds: SourceBounds = field(default_factory=SourceBounds)
    index: int = 1
    delay_s: int = 86_400


@dataclass(frozen=True, slots=True)
class AccountSetup:
    """A hedge account; ``calls`` are allow-listed (target, function signature) pairs of routers."""

    owner: str
    keeper: str
    guardian: str
    cash: Token
    asset: Token
    oracle: str
    perp: str
    source: str
    calls: Sequence[tuple[str, str]]
    wanted: int = 0
    limits: HedgeLimits = field(default_factory=HedgeLimits)
    delay_s: int = 86_400


def source_code(setup: SourceSetup) -> bytes:
    """Return the init code of a delta source; raises ConfigError on more lines than it computes."""
    if len(setup.lines) > MOST_LINES:
        raise ConfigError(f"a delta source computes at most {MOST_LINES} lines, got {len(setup.lines)}: post the delta")
    types = ["address", "address", "address", "uint256", "address", "uint256", BOUNDS_TYPE, f"{LINE_TYPE}[]"]
    types += ["uint256[]", "int256"]
    args = [
        setup.owner, setup.poster, setup.guardian, setup.delay_s, setup.oracle, setup.index, setup.bounds.encoded(),
        [(line.kind, line.quantity, line.strike, line.last) for line in setup.lines],
        [line.vol for line in setup.lines], setup.delta,
    ]  # fmt: skip
    return contract("delta_book").bytecode + encode(types, args)


def account_code(setup: AccountSetup) -> bytes:
    """Return the init code of a hedge account."""
    types = ["address", "address", "address", "uint256", "address", "uint256", "address", "uint256", "address"]
    types += ["address", "address", "int256", LIMITS_TYPE, "address[]", "bytes4[]"]
    args = [
        setup.owner, setup.keeper, setup.guardian, setup.delay_s, setup.cash.address, setup.cash.decimals,
        setup.asset.address, setup.asset.decimals, setup.oracle, setup.perp, setup.source, setup.wanted,
        setup.limits.encoded(), [target for target, _ in setup.calls], [selector(name) for _, name in setup.calls],
    ]  # fmt: skip
    return contract("hedge_account").bytecode + encode(types, args)
