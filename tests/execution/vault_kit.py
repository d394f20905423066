"""A vault over misbehaving-on-demand tokens, settable feeds and a swap target that pays what it is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from eth_abi.abi import encode

from lake.evm import Call, calldata, read
from lake.rpc import Rpc, quantity
from policy.execution.auctions.orders import Venues
from policy.execution.base import Leg, Plan
from policy.execution.checks.rules import Mandate
from policy.execution.contracts.compile import contract
from policy.execution.submission.simulate_tx import reason_of
from policy.execution.vaults.reference.adapter import REBALANCE, ReferenceVault, encode_legs, plan_hash
from policy.execution.vaults.reference.deployment import SECOND_FEED, TokenSource, VaultSetup, create, deploy
from policy.localnet.accounts import dev_accounts
from policy.localnet.anvil import Anvil
from policy.localnet.wheels import LAGOON, NoWheel, wheel
from tests.needs import missing, need_node

GENESIS = 1_700_000_000
GAS = 6_000_000
DELAY = 3_600
SWAP = "swap(address,address,uint256,uint256)"
MANDATE = Mandate(
    leg_loss_bps=100, turnover_bps=5_000, max_legs=4, cooldown_s=60, window_s=86_400, loss_budget_ppb=5_000_000
)
NAMES = ("USDC", "WETH", "WBTC")
DECIMALS = (6, 18, 8)
PRICES = (10**8, 2_000 * 10**8, 40_000 * 10**8)
HUGE = 2**256 - 1
FREE = {"hold_s": 0, "entry_bps": 0, "exit_bps": 0}
"""A vault without hold and fees, to see one rule at a time."""


MINED_WITHIN_S = 120.0
"""Patience with a node on a busy machine; it mines at once, and a hang is a failure."""
NUDGED_AFTER_S = 10.0
"""A transaction that came while the node was making another block can wait in its pool: a block is then asked for."""


@dataclass
class Bench:
    """The chain with everything on it. Amounts are raw units; roles are names of the development accounts."""

    rpc: Rpc
    tokens: list[str]
    feeds: list[str]
    seconds: list[str]
    router: str
    vault: str
    mandate: Mandate = MANDATE
    decimals: Sequence[int] = DECIMALS
    who: dict[str, str] = field(default_factory=lambda: {r: a.address for r, a in dev_accounts().items()})

    def send(self, role: str, to: str, signature: str, *args: Any, ok: bool = True) -> dict[str, Any]:
        """Mine one transaction; asserts that it succeeds (or fails, with ``ok=False``)."""
        data = "0x" + calldata(signature, *args).hex()
        tx = {"from": self.who.get(role, role), "to": to, "data": data, "gas": hex(GAS)}
        receipt = self.receipt(self.rpc.call("eth_sendTransaction", [tx]))
        assert (quantity(receipt["status"]) == 1) == ok, self.why(role, to, signature, *args) or "it succeeded"
        return receipt

    def receipt(self, sent: object) -> dict[str, Any]:
        """The receipt, as soon as the node has mined it (it answers a little before)."""
        nudge, patience = (time.monotonic() + s for s in (NUDGED_AFTER_S, MINED_WITHIN_S))
        while time.monotonic() < patience:
            found: Any = self.rpc.call("eth_getTransactionReceipt", [sent])
            if found is not None:
                return dict(found)
            if time.monotonic() > nudge:
                self.rpc.call("evm_mine")
                nudge = time.monotonic() + NUDGED_AFTER_S
            time.sleep(0.002)
        raise AssertionError(f"{sent} was not mined")

    def why(self, role: str, to: str, signature: str, *args: Any, wait: int = 12, value: int = 0) -> str | None:
        """Why a call would fail in the next block, ``wait`` seconds on; None when it would succeed."""
        head: Any = self.rpc.call("eth_getBlockByNumber", ["latest", False])
        call = {
            "from": self.who.get(role, role),
            "to": to,
            "data": "0x" + calldata(signature, *args).hex(),
            "gas": hex(GAS),
            "value": hex(value),
        }
        ahead = {"time": hex(quantity(head["timestamp"]) + wait), "number": hex(quantity(head["number"]) + 1)}
        body = {"blockStateCalls": [{"blockOverrides": ahead, "calls": [call]}], "validation": False}
        row: Any = self.rpc.call("eth_simulateV1", [body, "latest"])[0]["calls"][0]  # type: ignore[index]
        if quantity(row["status"]) == 1:
            return None
        data = (row.get("error") or {}).get("data") or row.get("returnData")
        return reason_of(data, "")

    def get(self, to: str, signature: str, returns: str, *args: Any) -> Any:
        """One view call; a single return value comes bare."""
        row = read(self.rpc, [Call(to, signature, returns, args)])[0]
        return row[0] if len(row) == 1 else row

    def view(self, signature: str, *args: Any) -> int:
        """A uint256 view of the vault."""
        return int(self.get(self.vault, signature, "uint256", *args))

    def held(self, i: int, of: str | None = None) -> int:
        """Balance of token ``i``."""
        return int(self.get(self.tokens[i], "balanceOf(address)", "uint256", self.who.get(of or "", of or self.vault)))

    def now(self) -> int:
        """Time of the newest block."""
        return quantity(self.rpc.call("eth_getBlockByNumber", ["latest", False])["timestamp"])  # type: ignore[index]

    def wait(self, seconds: int) -> None:
        """Let time pass and mine a block; prices are renewed so that feeds stay fresh."""
        self.rpc.call("evm_increaseTime", [seconds])
        self.rpc.call("evm_mine")
        for feed in [*self.feeds, *self.seconds]:
            answer = self.get(feed, "latestRoundData()", "uint80,int256")[1]
            self.send("deployer", feed, "post(int256)", answer)

    def price(self, i: int, answer: int) -> None:
        """Set both sources of token ``i``."""
        for feed in (self.feeds[i], self.seconds[i]):
            self.send("deployer", feed, "post(int256)", answer)

    def change(self, signature: str, *args: Any) -> None:
        """Make an owner's change through the timelock."""
        data = calldata(signature, *args)
        self.send("owner", self.vault, "schedule(bytes)", data)
        self.wait(DELAY + 1)
        self.send("owner", self.vault, "execute(bytes)", data)

    def deposit(self, role: str, usd: int) -> None:
        """Put ``usd`` whole dollars of the accounting asset into the vault."""
        self.send(role, self.vault, "deposit(uint256,address)", usd * 10**6, self.who[role])

    def leg(self, i: int, j: int, amount_in: int, out: int, min_out: int | None = None, **over: Any) -> Leg:
        """A leg selling ``amount_in`` of token i for ``out`` of token j at the swap target."""
        data = calldata(SWAP, self.tokens[i], self.tokens[j], amount_in, out)
        made = Leg(
            self.tokens[i], self.tokens[j], amount_in, out if min_out is None else min_out, out, (), self.router, data
        )
        return replace(made, **over)

    def fair(self, i: int, j: int, amount_in: int, loss_bps: int = 0, prices: Sequence[int] | None = None) -> Leg:
        """A leg at the oracle's price (or ``prices``) less ``loss_bps``."""
        p, q = (prices[i], prices[j]) if prices else (self.answer(i), self.answer(j))
        value = amount_in * p * 10 ** self.decimals[j]
        out = value * (10_000 - loss_bps) // (10_000 * q * 10 ** self.decimals[i])
        return self.leg(i, j, amount_in, out)

    def answer(self, i: int) -> int:
        """The feed's newest answer."""
        return int(self.get(self.feeds[i], "latestRoundData()", "uint80,int256")[1])

    def plan(self, *legs: Leg, nonce: int | None = None, deadline: int = 2**40, min_nav: int = 0) -> Plan:
        """A sealed plan at the vault's present nonce."""
        number = self.view("clock()") if nonce is None else nonce
        made = Plan("test", self.vault, 31_337, number, deadline, min_nav, tuple(legs), b"", 0, "")
        return replace(made, plan_hash=plan_hash(made))

    def args(self, plan: Plan) -> tuple[Any, ...]:
        """Signature and arguments of the plan's call."""
        return (REBALANCE, encode_legs(plan.legs), plan.plan_hash, plan.nonce, plan.deadline, plan.min_nav)

    def refusal(self, plan: Plan, role: str = "keeper", wait: int = 12) -> str | None:
        """Why the vault refuses the plan; None when it takes it."""
        return self.why(role, self.vault, *self.args(plan), wait=wait)

    def rebalance(self, plan: Plan) -> dict[str, Any]:
        """Mine the plan."""
        return self.send("keeper", self.vault, *self.args(plan))

    def adapter(self) -> ReferenceVault:
        """The Python side."""
        return ReferenceVault(self.rpc, self.vault)

    @contextmanager
    def undo(self) -> Iterator[None]:
        """Take back whatever happens inside."""
        mark = self.rpc.call("evm_snapshot")
        try:
            yield
        finally:
            assert self.rpc.call("evm_revert", [mark])


def need_lagoon() -> None:
    """Miss the bytecode of Lagoon where it cannot be had."""
    need_node()
    if (why := no_lagoon()) is not None:
        missing(why)


def no_lagoon() -> str | None:
    """Return why the bytecode of Lagoon cannot be had here, None where it can."""
    try:
        wheel(LAGOON)
    except NoWheel as reason:
        return str(reason)
    return None


def make(rpc: Rpc, name: str, types: Sequence[str] = (), args: Sequence[Any] = ()) -> str:
    """Deploy one of our contracts."""
    return create(rpc, contract(name).bytecode + encode(types, args), dev_accounts()["deployer"].address)


def new_feed(rpc: Rpc, answer: int) -> str:
    """Deploy a feed with 8 decimals."""
    return make(rpc, "mock_feed", ["uint8", "string", "int256"], [8, "feed", answer])


@contextmanager
def bench(
    mandate: Mandate = MANDATE,
    holders: Sequence[str] = (),
    decimals: Sequence[int] = DECIMALS,
    sequencer: bool = False,
    *,
    hold_s: int | None = None,
    entry_bps: int | None = None,
    exit_bps: int | None = None,
    venues: Callable[[Rpc], tuple[Venues, list[tuple[str, str]]]] | None = None,
) -> Iterator[Bench]:
    """A node with a funded vault: 100,000 dollars of the investor's, 40/30/30 targets, all in the accounting asset.

    Hold and fees are a vault's defaults unless given; the investor's own hold is over. ``**FREE`` is without both.
    ``venues`` deploys where orders can be filled, and returns them with the allow-listed pairs.
    """
    need_node()
    with Anvil(timestamp=GENESIS) as node:
        rpc = node.rpc
        rpc.call("evm_setAutomine", [True])
        who = {r: a.address for r, a in dev_accounts().items()}
        kinds = ["string", "string", "uint8"]
        tokens = [make(rpc, "mock_token", kinds, [n, n, d]) for n, d in zip(NAMES, decimals, strict=True)]
        feeds, seconds = ([new_feed(rpc, p) for p in PRICES] for _ in range(2))
        router = make(rpc, "mock_router")
        up = make(rpc, "mock_feed", ["uint8", "string", "int256"], [0, "sequencer", 0]) if sequencer else None
        sources = [
            TokenSource(t, d, w, f, 90_000, 8, s, 90_000, 8, 100, SECOND_FEED)
            for t, d, w, f, s in zip(tokens, decimals, (4_000, 3_000, 3_000), feeds, seconds, strict=True)
        ]
        houses, listed = venues(rpc) if venues else (Venues(), [])
        setup = VaultSetup(
            sources,
            who["owner"],
            who["keeper"],
            who["guardian"],
            [(router, SWAP), (router, "idle(uint256)"), *listed],
            mandate,
            holders,
            hold_s,
            entry_bps,
            exit_bps,
            DELAY,
            venues=houses,
        )
        if up:
            rpc.call("evm_increaseTime", [4_000])
            rpc.call("evm_mine")
            for feed, price in zip([*feeds, *seconds], [*PRICES, *PRICES], strict=True):
                data = "0x" + calldata("post(int256)", price).hex()
                rpc.call("eth_sendTransaction", [{"from": who["deployer"], "to": feed, "data": data}])
            setup = replace(setup, sequencer=up)
        vault = deploy(rpc, setup, who["deployer"])
        made = Bench(rpc, tokens, feeds, seconds, router, vault, mandate, decimals)
        for token, digits in zip(tokens, decimals, strict=True):
            for account in (*(who[r] for r in ("investor", "trader", "searcher")), router):
                made.send("deployer", token, "mint(address,uint256)", account, 10**9 * 10**digits)
            for role in ("investor", "trader", "searcher"):
                made.send(role, token, "approve(address,uint256)", vault, HUGE)
        made.send("investor", vault, "deposit(uint256,address)", 100_000 * 10 ** decimals[0], who["investor"])
        if held_s := setup.terms()[0]:
            made.wait(held_s)
        yield made
