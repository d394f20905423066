"""Adapter of an Enzyme v4 fund: one swap a call through its Uniswap v3 adapter, by an asset manager of the fund.

On chain the fund enforces its policies: as a rule a cumulative slippage tolerance that refills over its period, the
list of adapters and of assets, and that only dust is left untracked. A call is one leg (``max_legs`` 1), so a rebalance
is a sequence of plans, each decided anew on what the fund then holds: half-done is what the next run starts from.
Targets and oracle rules are enforced on this side before signing. The fund counts no plans: the events of its
integration manager are counted instead, and a plan's hash travels behind its call's data. Source:
enzymefinance/protocol v4 (ComptrollerLib.callOnExtension, IntegrationManager, UniswapV3Adapter,
CumulativeSlippageTolerancePolicy).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address

from lake.errors import ConfigError
from lake.evm import Call, calldata, head_of, read, selector
from lake.rpc import Rpc
from policy.execution.base import Capabilities, Exposure, Leg, Plan, Receipt, UnsignedTx, Verdict
from policy.execution.checks.rules import PPB, broken
from policy.execution.vaults.enzyme.events import calls_made, carried, is_call
from policy.execution.vaults.reference.adapter import plan_hash
from policy.execution.vaults.safe.adapter import SafeAccount, SafeSpec

TAKE_ORDER = "takeOrder(address,bytes,bytes)"
CALL = "callOnExtension(address,uint256,bytes)"
ON_INTEGRATION = 0
"""IntegrationManagerActions.CallOnIntegration."""
SLIPPAGE, ADAPTERS, INCOMING, DUST = (
    "CUMULATIVE_SLIPPAGE_TOLERANCE", "ALLOWED_ADAPTERS", "ALLOWED_ADAPTER_INCOMING_ASSETS",
    "ONLY_UNTRACK_DUST_OR_PRICELESS_ASSETS",
)  # fmt: skip
NEEDED = {
    SLIPPAGE: "losses of its managers are bounded by nothing",
    ADAPTERS: "a manager may trade through a contract of his own",
    INCOMING: "a manager may buy any asset",
    DUST: "a manager may hide assets from the fund's value",
}
"""Policies without which a stolen manager's key is not bounded, with what is missing then."""
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Fund:
    """Addresses of one fund: its comptroller and vault proxy, its release's integration manager, the swap adapter."""

    comptroller: str
    vault: str
    manager: str
    swapper: str
    router: str
    policies: str


def fund_of(rpc: Rpc, comptroller: str, swapper: str) -> Fund:
    """Return the fund of a comptroller that trades through ``swapper``; ConfigError where they do not fit together."""
    views = [
        Call(comptroller, "getVaultProxy()", "address"),
        Call(comptroller, "getIntegrationManager()", "address"),
        Call(comptroller, "getPolicyManager()", "address"),
        Call(swapper, "getIntegrationManager()", "address"),
        Call(swapper, "getUniswapV3Router()", "address"),
    ]
    told = [str(to_checksum_address(cast("str", row[0]))) for row in read(rpc, views)]
    vault, manager, policies, theirs, router = told
    if manager != theirs:
        raise ConfigError(f"[vault] swapper {swapper} is of integration manager {theirs}, the fund's is {manager}")
    return Fund(str(to_checksum_address(comptroller)), vault, manager, swapper, router, policies)


class EnzymeFund(SafeAccount):
    """An Enzyme v4 fund, traded by ``spec.sender``, one of its asset managers; ``spec.address`` is its vault proxy."""

    def __init__(self, rpc: Rpc, spec: SafeSpec, fund: Fund) -> None:
        if spec.mandate.max_legs != 1:
            raise ConfigError("an Enzyme fund trades one leg a call: its mandate needs max_legs 1")
        super().__init__(rpc, spec)
        self.fund = fund

    def describe(self) -> Capabilities:
        """Return what the fund's policies enforce now; the exposure is that of its slippage tolerance."""
        known = self.policies()
        bounded = not set(NEEDED) - set(known)
        return Capabilities(
            kind="enzyme",
            atomic_legs=False,  # one leg a call
            onchain_price_bound=False,  # each leg's own minimum, and the tolerance in sum
            loss_budget=bounded,
            progress_rule=False,
            plan_nonce=False,
            deadline=False,
            async_exit=False,
            in_kind_exit=True,
            pausable=False,
            permissioned=False,
            stolen_key=self._exposure(known[SLIPPAGE]) if bounded else None,
        )

    def policies(self) -> dict[str, str]:
        """Return the fund's enabled policies: identifier -> address."""
        ask = Call(self.fund.policies, "getEnabledPoliciesForFund(address)", "address[]", (self.fund.comptroller,))
        ((listed,),) = read(self.rpc, [ask])
        found = [str(to_checksum_address(a)) for a in cast("Sequence[str]", listed)]
        names = read(self.rpc, [Call(a, "identifier()", "string") for a in found]) if found else []
        return {str(name): address for (name,), address in zip(names, found, strict=True)}

    def policy_faults(self) -> list[str]:
        """Return the policies a stolen manager's key would need, and that are not enabled, with what that allows."""
        known = self.policies()
        return [f"policy {name} is not enabled: {words}" for name, words in NEEDED.items() if name not in known]

    def _exposure(self, policy: str) -> Exposure:
        """Return what the tolerance lets be lost: all of it at once, and again as it refills over its period."""
        asks = [
            Call(policy, "getPolicyInfoForFund(address)", "uint64", (self.fund.comptroller,)),
            Call(policy, "getTolerancePeriodDuration()", "uint256"),
        ]
        (tolerance,), (period_s,) = cast("list[tuple[int]]", read(self.rpc, asks))

        def within(seconds: int) -> int:
            return min(PPB, tolerance * (period_s + seconds) // period_s * PPB // 10**18)

        return Exposure(within(DAY_S), within(90 * DAY_S), PPB)

    def check(self, plan: Plan, *, now: int | None = None) -> Sequence[Verdict]:
        """Return the rules ``plan`` breaks, and whether the keeper still manages the fund."""
        failed = list(super().check(plan, now=now))
        ask = Call(self.fund.vault, "canManageAssets(address)", "bool", (self.spec.sender,))
        if not read(self.rpc, [ask])[0][0]:
            words = f"{self.spec.sender} is no asset manager of the fund: its owner adds it (addAssetManagers)"
            failed.append(broken("keeper", words))
        return failed

    def build(self, plan: Plan) -> UnsignedTx:
        """Encode the one leg; the plan's hash follows the call's data, where the fund does not look."""
        if len(plan.legs) != 1:
            raise ConfigError(f"an Enzyme fund trades one leg a call, the plan has {len(plan.legs)}")
        (leg,) = plan.legs
        hops = leg.path
        route = [hops[0].token_in, *(h.token_out for h in hops)]
        order = [route, [h.fee_pips for h in hops], leg.amount_in, leg.min_out]
        action = encode(["address[]", "uint24[]", "uint256", "uint256"], order)
        args = encode(["address", "bytes4", "bytes"], [self.fund.swapper, selector(TAKE_ORDER), action])
        data = calldata(CALL, self.fund.manager, ON_INTEGRATION, args) + self._hash(plan)
        return UnsignedTx(plan.chain_id, self.fund.comptroller, data)

    def _hash(self, plan: Plan) -> bytes:
        return plan_hash(plan)

    def _allowed(self, leg: Leg) -> bool:
        return leg.target == self.fund.router and super()._allowed(leg)

    def _nonce(self, block_hash: str) -> int:
        """Return how many integration calls the fund has made: the number its next one bears."""
        head = head_of(self.rpc, block_hash)
        return len(self._events(0, head.number))

    def _done(self, since: int, until: int | str) -> list[tuple[int, str, str]]:
        found = []
        for log in self._events(since, until):
            sent = str(log["transactionHash"])
            found.append((cast("int", log["blockNumber"]), sent, carried(self.rpc, sent)))
        return sorted(found)

    def _recorded(self, receipt: Receipt, plan: Plan) -> bool:
        mine = [log for log in receipt.logs if is_call(log, self.fund.manager, self.fund.comptroller)]
        return len(mine) == 1 and carried(self.rpc, receipt.tx_hash) == "0x" + plan.plan_hash.hex()

    def _events(self, since: int, until: int | str) -> list[dict[str, Any]]:
        return calls_made(self.rpc, self.fund.manager, self.fund.comptroller, since, until)
