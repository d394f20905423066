"""Creating a reference vault: its set-up as a record, and the creation code anyone can send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address

from lake.errors import ConfigError, ExecutionError
from lake.evm import selector
from lake.rpc import Rpc, quantity
from lake.units import BPS
from policy.execution.compile import contract
from policy.execution.rules import Mandate

ZERO = "0x0000000000000000000000000000000000000000"
SECOND_NONE, SECOND_FEED, SECOND_TWAP_0, SECOND_TWAP_1 = 0, 1, 2, 3
SOURCE_TYPE = "(address,uint256,address,uint256,uint256,address,uint256,uint256,uint256,uint256)"
MANDATE_TYPE = "(uint256,uint256,uint256,uint256,uint256,uint256)"
SWAP_CALLS = (
    "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))",
    "exactInput((bytes,address,uint256,uint256,uint256))",
)
"""Uniswap v3 SwapRouter's exact-input calls."""
V2_CALLS = ("swapExactTokensForTokens(uint256,uint256,address[],address,uint256)",)
"""Uniswap v2 Router02's exact-input call."""


@dataclass(frozen=True, slots=True)
class TokenSource:
    """One token of the portfolio with its feeds, as ``Source`` of contracts/foredrift_oracle.vy.

    ``heartbeat_s``: take the feed's published one plus some slack; a longer one accepts older prices.
    ``second_kind``: SECOND_FEED, or SECOND_TWAP_0 / _1 for a Uniswap v3 pool in which the token is token0 / token1;
    ``second_s`` is then the window of the average and ``second_detail`` the index of the token it is quoted in.
    ``deviation_bps``: most the two sources may differ; the feeds' own deviation threshold (50 for most) times two.
    """

    token: str
    decimals: int
    target_bps: int
    feed: str
    heartbeat_s: int = 3_900
    feed_decimals: int = 8
    second: str = ZERO
    second_s: int = 0
    second_detail: int = 0
    deviation_bps: int = 0
    second_kind: int = SECOND_NONE

    def encoded(self) -> tuple[object, ...]:
        """Return the fields in the oracle's order."""
        return (
            *(self.token, self.decimals, self.feed, self.heartbeat_s, self.feed_decimals),
            *(self.second, self.second_s, self.second_detail, self.deviation_bps, self.second_kind),
        )


@dataclass(frozen=True, slots=True)
class VaultSetup:
    """Everything a new vault is born with; later changes pass its timelock.

    ``delay_s``: how long an owner's change is announced before it can be made; a day lets holders leave first.
    ``calls``: allow-listed (target, function signature) pairs. ``holders``: empty means anyone may hold shares.
    """

    sources: Sequence[TokenSource]
    owner: str
    keeper: str
    guardian: str
    calls: Sequence[tuple[str, str]]
    mandate: Mandate = field(default_factory=Mandate)
    holders: Sequence[str] = ()
    delay_s: int = 86_400
    sequencer: str = ZERO
    sequencer_grace_s: int = 3_600
    name: str = "Foredrift portfolio"
    symbol: str = "fdp"


def encode_mandate(mandate: Mandate) -> tuple[int, ...]:
    """Return the mandate's fields in the contract's order."""
    m = mandate
    return (m.leg_loss_bps, m.turnover_bps, m.max_legs, m.cooldown_s, m.window_s, m.loss_budget_ppb)


def oracle_code(setup: VaultSetup) -> bytes:
    """Return the init code of the vault's oracle: two sources a token, unchangeable."""
    args = [[s.encoded() for s in setup.sources], setup.sequencer, setup.sequencer_grace_s]
    return contract("foredrift_oracle").bytecode + encode([f"{SOURCE_TYPE}[]", "address", "uint256"], args)


def vault_code(setup: VaultSetup, oracle: str) -> bytes:
    """Return the init code of the vault over ``oracle``; raises ConfigError on a set-up the contract would refuse."""
    total = sum(s.target_bps for s in setup.sources)
    if not 2 <= len(setup.sources) <= 8 or total != BPS:
        raise ConfigError(
            f"a vault holds 2 to 8 tokens with targets summing to {BPS}, got {len(setup.sources)}, {total}"
        )
    if len(setup.calls) > 8 or len(setup.holders) > 32:
        raise ConfigError("a vault starts with at most 8 allow-listed calls and 32 holders; add more by its timelock")
    types = ["string", "string", "address", "address", "address", "uint256", "address[]", "uint256[]", "uint256[]"]
    types += ["address", MANDATE_TYPE, "address[]", "bytes4[]", "address[]"]
    args = [
        *(setup.name, setup.symbol, setup.owner, setup.keeper, setup.guardian, setup.delay_s),
        [s.token for s in setup.sources],
        [s.decimals for s in setup.sources],
        [s.target_bps for s in setup.sources],
        *(oracle, encode_mandate(setup.mandate)),
        [target for target, _ in setup.calls],
        [selector(signature) for _, signature in setup.calls],
        list(setup.holders),
    ]
    return contract("foredrift_vault").bytecode + encode(types, args)


def deploy(rpc: Rpc, setup: VaultSetup, sender: str) -> str:
    """Create oracle and vault from ``sender``, for whom the node itself signs (a local chain); return the vault.

    Where blocks are not made automatically they are mined. Raises ExecutionError when a creation fails.
    """
    oracle = create(rpc, oracle_code(setup), sender)
    return create(rpc, vault_code(setup, oracle), sender)


def create(rpc: Rpc, code: bytes, sender: str) -> str:
    """Send init ``code`` from an account of the node; return the new contract's address."""
    tx = {"from": sender, "data": "0x" + code.hex(), "gas": hex(12_000_000)}
    sent = rpc.call("eth_sendTransaction", [tx])
    receipt = rpc.call("eth_getTransactionReceipt", [sent])
    if receipt is None:
        rpc.call("evm_mine")
        receipt = rpc.call("eth_getTransactionReceipt", [sent])
    if not isinstance(receipt, dict) or quantity(receipt["status"]) != 1:
        raise ExecutionError(
            f"{sender} could not create a contract; has it gas money, are feeds fresh, tokens distinct?"
        )
    return to_checksum_address(str(receipt["contractAddress"]))
