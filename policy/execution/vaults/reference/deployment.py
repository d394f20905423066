"""Creating a reference vault: its set-up as a record, and the creation code anyone can send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address

from lake.answers import fields
from lake.errors import ConfigError, ExecutionError, RpcError
from lake.evm import selector
from lake.rpc import Rpc
from lake.units import BPS
from policy.execution.auctions.orders import Venues
from policy.execution.checks.rules import Mandate
from policy.execution.contracts.compile import contract
from policy.execution.probes.preflight import quotes
from policy.execution.submission.reverts import reason_of
from policy.execution.vaults.reference.birth import unfit

ZERO = "0x0000000000000000000000000000000000000000"
SECOND_NONE, SECOND_FEED, SECOND_TWAP_0, SECOND_TWAP_1, WORTHLESS = 0, 1, 2, 3, 4
SOURCE_TYPE = "(address,uint256,address,uint256,uint256,address,uint256,uint256,uint256,uint256)"
MANDATE_TYPE = "(uint256,uint256,uint256,uint256,uint256,uint256)"
BUDGETS_TYPE = "(uint256,uint256,uint256,uint256,uint256)"
TERMS_TYPE = "(uint256,uint256,uint256)"
SET_MANDATE, SET_BUDGETS = f"set_mandate({MANDATE_TYPE})", f"set_budgets({BUDGETS_TYPE})"
THRESHOLD_BPS = 50
"""How far most feeds let the market move before they post: what a flow at one feed's price may be wrong by."""
MAX_FLOW_FEE_BPS = 300
MAX_HOLD_S = 7 * 86_400
MIN_DELAY_S, MAX_DELAY_S = 3_600, 30 * 86_400


@dataclass(frozen=True, slots=True)
class TokenSource:
    """One token of the portfolio with its feeds, as ``Source`` of contracts/foredrift_oracle.vy.

    ``heartbeat_s``: take the feed's published one plus some slack; a longer one accepts older prices.
    ``second_kind``: SECOND_FEED, or SECOND_TWAP_0 / _1 for a Uniswap v3 pool in which the token is token0 / token1;
    ``second_s`` is then the window of the average and ``second_detail`` the index of the token it is quoted in.
    ``deviation_bps``: most the two sources may differ; the feeds' own deviation threshold (50 for most) times two.
    ``second_kind`` WORTHLESS gives a token up: one unit of price, no feed asked, so that it stops nothing any more.
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
    ``hold_s``: how long bought shares are held; None: the longest heartbeat of a feed, within which its price may lag.
    ``entry_bps`` and ``exit_bps`` stay in the vault; None: what a feed may lag by (half of ``deviation_bps``), of the
    accounting asset and of the token with most of it, so that a flow at lagging prices takes nothing from the others.
    All three may be 0. ``pools``: (address, venue, router) of the pools its plans will trade in; where they are named,
    a vault is created only if every token goes there and back through them. ``venues``: where orders of this vault can
    be filled; it offers nothing before the pair (venue, ``auctions.orders.ARM``) is among ``calls``, at birth or by the
    timelock.
    """

    sources: Sequence[TokenSource]
    owner: str
    keeper: str
    guardian: str
    calls: Sequence[tuple[str, str]]
    mandate: Mandate = field(default_factory=Mandate)
    holders: Sequence[str] = ()
    hold_s: int | None = None
    entry_bps: int | None = None
    exit_bps: int | None = None
    delay_s: int = 86_400
    sequencer: str = ZERO
    sequencer_grace_s: int = 3_600
    name: str = "Foredrift portfolio"
    symbol: str = "fdp"
    venues: Venues = field(default_factory=Venues)
    pools: Sequence[tuple[str, str, str]] = ()

    def terms(self) -> tuple[int, int, int]:
        """Return hold (seconds), entry and exit fee (bp), with their defaults worked out."""
        live = [s for s in self.sources if s.second_kind != WORTHLESS]
        beats = [s.heartbeat_s for s in live] + [s.second_s for s in live if s.second_kind == SECOND_FEED]
        lags = [-(-s.deviation_bps // 2) or THRESHOLD_BPS for s in live]
        fee_bps = min(lags[0] + max(lags[1:], default=0), MAX_FLOW_FEE_BPS) if lags else 0
        usual = min(max(beats, default=0), MAX_HOLD_S), fee_bps, fee_bps
        given = self.hold_s, self.entry_bps, self.exit_bps
        hold_s, entry_bps, exit_bps = (u if g is None else g for g, u in zip(given, usual, strict=True))
        return hold_s, entry_bps, exit_bps


def encode_mandate(mandate: Mandate) -> tuple[int, ...]:
    """Return the limits of one plan and the short budget in the order of ``set_mandate``."""
    m = mandate
    return (m.leg_loss_bps, m.turnover_bps, m.max_legs, m.cooldown_s, m.window_s, m.loss_budget_ppb)


def encode_budgets(mandate: Mandate) -> tuple[int, ...]:
    """Return the long budgets and the gain of a leg in the order of ``set_budgets``."""
    m = mandate
    return (m.leg_gain_bps, m.long_window_s, m.long_budget_ppb, m.life_budget_ppb, m.strikes)


def oracle_code(setup: VaultSetup) -> bytes:
    """Return the init code of the vault's oracle: two sources a token, unchangeable."""
    args = [[s.encoded() for s in setup.sources], setup.sequencer, setup.sequencer_grace_s]
    return contract("foredrift_oracle").bytecode + encode([f"{SOURCE_TYPE}[]", "address", "uint256"], args)


def investors_code() -> bytes:
    """Return the init code of the investors' half: it holds nothing, and one on a chain serves all vaults there."""
    return contract("foredrift_investors").bytecode


def auctions_code(venues: Venues) -> bytes:
    """Return the init code of the orders' half, which knows the chain's ``venues``; one serves all vaults there."""
    args = [venues.settlement, venues.permit2, venues.dutch, venues.priority]
    return contract("foredrift_auctions").bytecode + encode(["address"] * 4, args)


def port_code() -> bytes:
    """Return the init code of departures to other chains: it holds nothing, and one serves all vaults of a chain."""
    return contract("foredrift_port").bytecode


def vault_code(setup: VaultSetup, oracle: str, investors: str, auctions: str, ports: str) -> bytes:
    """Return the init code of the vault over ``oracle``, which runs the code of ``investors``, ``auctions``, ``ports``.

    Raises ConfigError on a set-up the contract would refuse.
    """
    _sound(setup)
    types = ["string", "string", "address", "address", "address", "uint256", "address[]", "uint256[]", "uint256[]"]
    types += ["address", MANDATE_TYPE, BUDGETS_TYPE, TERMS_TYPE, "address[]", "bytes4[]", "address[]"]
    types += ["address", "address", "address"]
    args = [
        *(setup.name, setup.symbol, setup.owner, setup.keeper, setup.guardian, setup.delay_s),
        [s.token for s in setup.sources],
        [s.decimals for s in setup.sources],
        [s.target_bps for s in setup.sources],
        *(oracle, encode_mandate(setup.mandate), encode_budgets(setup.mandate), setup.terms()),
        [target for target, _ in setup.calls],
        [selector(signature) for _, signature in setup.calls],
        *(list(setup.holders), investors, auctions, ports),
    ]
    return contract("foredrift_vault").bytecode + encode(types, args)


def _sound(setup: VaultSetup) -> None:
    """Raise ConfigError naming everything the constructor would refuse."""
    total, count = sum(s.target_bps for s in setup.sources), len(setup.sources)
    hold_s, *fees = setup.terms()
    wrong = [
        (not 2 <= count <= 8 or total != BPS, f"2 to 8 tokens with targets summing to {BPS}, got {count}, {total}"),
        (len({s.token.lower() for s in setup.sources}) < count, "distinct tokens"),
        (len(setup.calls) > 8, f"at most 8 allow-listed calls at first, got {len(setup.calls)}; add by the timelock"),
        (len(setup.holders) > 32, f"at most 32 holders at first, got {len(setup.holders)}; add by the timelock"),
        (not 0 <= hold_s <= MAX_HOLD_S, f"hold_s within 0 and {MAX_HOLD_S}, got {hold_s}"),
        (not 0 <= min(fees) <= max(fees) <= MAX_FLOW_FEE_BPS, f"fees within 0 and {MAX_FLOW_FEE_BPS} bp, got {fees}"),
        (
            not MIN_DELAY_S <= setup.delay_s <= MAX_DELAY_S,
            f"delay_s within {MIN_DELAY_S} and {MAX_DELAY_S}, got {setup.delay_s}",
        ),
    ]
    said = [text for bad, text in wrong if bad]
    if said:
        raise ConfigError(f"a vault needs {'; '.join(said)}")


def deploy(
    rpc: Rpc,
    setup: VaultSetup,
    sender: str,
    *,
    investors: str | None = None,
    auctions: str | None = None,
    ports: str | None = None,
) -> str:
    """Create oracle and vault from ``sender``, for whom the node itself signs (a local chain); return the vault.

    ``investors``, ``auctions``, ``ports``: where these parts are already; None: create them too. Where blocks are not
    made automatically they are mined. Raises ConfigError where a feed is in another quote or a token does not go there
    and back through the set-up's pools, ExecutionError with the contract's own reason when a creation fails.
    """
    _sound(setup)
    wrong = quotes(rpc, [s.feed for s in setup.sources])
    live = [(s.token, s.decimals, s.feed, s.feed_decimals) for s in setup.sources if s.second_kind != WORTHLESS]
    if not wrong and setup.pools:
        wrong = unfit(rpc, live, setup.pools)
    if wrong:
        raise ConfigError(f"the vault is not created: {'; '.join(wrong)}")
    oracle = create(rpc, oracle_code(setup), sender)
    half = investors or create(rpc, investors_code(), sender)
    orders = auctions or create(rpc, auctions_code(setup.venues), sender)
    port = ports or create(rpc, port_code(), sender)
    return create(rpc, vault_code(setup, oracle, half, orders, port), sender)


REFUSALS = {
    "source": "a source of a price is incomplete: see TokenSource",
    "token decimals": "a token's decimals() is not what is configured",
    "feed decimals": "a feed's decimals() is not what is configured",
    "decimals": "a token's decimals() is not what is configured",
    "tokens": "tokens must be distinct contracts with at most 18 decimals",
    "targets": f"targets must sum to {BPS}",
    "oracle": "a price is not good now, or the oracle is for other tokens",
    "roles": "the owner is missing, or the delay is out of bounds",
    "mandate": "a limit of the mandate is out of bounds",
    "budgets": "a loss budget is out of bounds",
    "terms": "hold or fees are out of bounds",
    "investors": "there is no code at the address of the investors' half, of the orders' or of the port's",
    "venues": "a UniswapX reactor without Permit2",
}
"""What a constructor's refusal means."""


def create(rpc: Rpc, code: bytes, sender: str) -> str:
    """Send init ``code`` from an account of the node; return the new contract's address."""
    tx = {"from": sender, "data": "0x" + code.hex(), "gas": hex(14_000_000)}
    sent = str(rpc.call("eth_sendTransaction", [tx]))
    if rpc.call("eth_getTransactionReceipt", [sent]) is None:
        rpc.call("evm_mine")
    receipt = fields(rpc.call("eth_getTransactionReceipt", [sent]), "receipt of a creation")
    if receipt.quantity("status", 1) != 1:
        raise ExecutionError(f"{sender} could not create a contract: {_why(rpc, tx)}")
    return to_checksum_address(receipt.address("contractAddress"))


def _why(rpc: Rpc, tx: dict[str, str]) -> str:
    """Return why a creation fails, in the contract's own word and in ours."""
    try:
        rpc.call("eth_call", [tx, "latest"])
    except RpcError as error:
        said = reason_of(error.data, str(error))
        return f"{said!r}, {REFUSALS[said]}" if said in REFUSALS else said
    return "has it gas money?"
