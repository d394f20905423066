"""A Safe traded by role, on the published bytecode of Safe 1.5 and Zodiac Roles v2: what a keeper can and cannot do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from eth_utils.crypto import keccak

from lake.errors import ConfigError, RpcError
from lake.evm import Call, calldata, read
from lake.rpc import Rpc
from policy.execution.base import Plan
from policy.execution.checks.rules import PPB
from policy.execution.records.anchors import carrying
from policy.execution.vaults.anchored import Known
from policy.execution.vaults.safe.adapter import APPROVE, DELEGATECALL, EXEC, ZERO, packed
from policy.execution.vaults.safe.builder_file import builder_file, checksum
from policy.execution.vaults.safe.install import MULTISEND, missing_calls
from policy.execution.vaults.safe.proof import state_faults, thefts, thefts_that_work
from policy.execution.vaults.safe.register import FACTORY, register_address
from policy.execution.vaults.safe.roles import EXEC_ROLE, RolesSafe
from policy.execution.vaults.safe.scoping import ROLE, lanes_of
from policy.execution.vaults.trades import disagreements, registered_trades
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import roles_safe, roles_vault, vouched
from policy.localnet.zodiac import singleton_factory
from tests.chain_fixtures import CLOCK, fresh
from tests.execution.chain_kit import USD, landed, sealed, v3_leg
from tests.execution.role_fuzz import fund, run, swap_data
from tests.needs import need_node

pytestmark = pytest.mark.chain
DAY_S = 86_400


@pytest.fixture(scope="module")
def market() -> Iterator[Localnet]:
    need_node()
    with start(extras=[roles_safe(allowance_usd=200_000)], at=CLOCK) as net:
        yield net


@pytest.fixture
def net(market: Localnet) -> Iterator[Localnet]:
    with fresh(market, 1) as made:
        yield made


@pytest.fixture
def vault(net: Localnet) -> RolesSafe:
    return roles_vault(Rpc(net.node_url), net.world, allowance_usd=200_000)


@pytest.fixture
def keeper(net: Localnet) -> str:
    return net.accounts["keeper"].address


def plan_of(net: Localnet, vault: RolesSafe, usd: int) -> Plan:
    return sealed(vault, vault.spec.address, [v3_leg(net, vault.spec.address, "v3:ETH/USDC:500", "USDC", usd * USD)])


def by_owner(net: Localnet, to: str, data: bytes) -> None:
    """Let the Safe make a call, sent by its owner."""
    args = (to, 0, data, 0, 0, 0, 0, ZERO, ZERO, vouched("owner"))
    assert landed(net, "owner", net.world.extras["roles_safe"], calldata(EXEC, *args)).status == 1


def test_every_theft_is_refused_and_the_role_works(net, vault, keeper):
    assert state_faults(vault, keeper, net.world.extras["unwrapper"]) == []
    assert len(thefts(vault, keeper)) > 70
    assert thefts_that_work(vault, keeper) == []
    nobody = thefts_that_work(vault, net.accounts["trader"].address)
    assert "nothing is proven" in nobody[0]


def test_a_chain_without_the_register_is_said_and_the_roles_calls_begin_with_it(net, vault, keeper):
    """Where nobody has created it: what the Safe holds is told, nothing is planned, the owners get the remedy."""
    before, worth = vault.describe().stolen_key, vault.book()
    net.anvil.rpc.call("anvil_setCode", [register_address(), "0x"])
    net.mine()
    for act in (vault.state, vault.snapshot):
        with pytest.raises(RpcError, match="register of plans is not at .* `foredrift vault roles` creates it"):
            act()
    assert vault.book() == worth
    assert vault.describe().stolen_key == before
    calls = missing_calls(vault, keeper, net.world.extras["unwrapper"])
    assert [(c.to, c.words.split(" at ")[0]) for c in calls] == [(FACTORY, "create the register of plans")]


ASSIGN = "assignRoles(address,bytes32[],bool[])"
PAY = keccak(text="transfer(address,uint256)")[:4]


def on_roles(signature: str, *args: object):
    """A call of the modifier; ``args`` may hold "keeper" and "token"."""

    def made(vault: RolesSafe, keeper: str) -> tuple[str, bytes]:
        names = {"keeper": keeper, "token": vault.spec.tokens[0].address}
        return vault.modifier, calldata(signature, *(names.get(a, a) if isinstance(a, str) else a for a in args))

    return made


def test_every_listed_way_can_be_traded(net, vault, keeper):
    fund(net, vault)
    ways = [(router, venue, lane) for (router, venue), lanes in vault.scope.lanes.items() for lane in lanes]
    assert {(venue, len(lane)) for _, venue, lane in ways} == {("uniswap_v2", 1), ("uniswap_v3", 1), ("uniswap_v3", 2)}
    for router, venue, lane in ways:
        start, amount = lane[0][0], vault.scope.refill[lane[0][0]] // 50
        calls = [
            (start, calldata(APPROVE, router, amount)),
            (router, swap_data(venue, lane, amount, vault.spec.address)),
        ]
        inner = calldata(MULTISEND, packed(calls))
        data = calldata(EXEC_ROLE, vault.spec.multisend, 0, inner, DELEGATECALL, ROLE, True)
        call = {"from": keeper, "to": vault.modifier, "data": "0x" + data.hex()}
        vault.rpc.call("eth_call", [call, "latest"])  # raises where it is refused


LOOSENED = {
    "a whole token": on_roles("allowTarget(bytes32,address,uint8)", ROLE, "token", 0),
    "a transfer": on_roles("allowFunction(bytes32,address,bytes4,uint8)", ROLE, "token", PAY, 0),
    "an owner": lambda v, k: (v.spec.address, calldata("addOwnerWithThreshold(address,uint256)", k, 1)),
    "a module": lambda v, k: (v.spec.address, calldata("enableModule(address)", k)),
    "another role": on_roles(ASSIGN, "keeper", [b"x" * 32], [True]),
    "another member": on_roles(ASSIGN, FACTORY, [ROLE], [True]),
    "an unwrapper": on_roles("setTransactionUnwrapper(address,bytes4,address)", FACTORY, b"abcd", FACTORY),
}


@pytest.mark.parametrize("what", LOOSENED)
def test_whatever_the_chain_gives_beyond_the_role_is_found(net, vault, keeper, what):
    by_owner(net, *LOOSENED[what](vault, keeper))
    assert state_faults(vault, keeper, net.world.extras["unwrapper"]) != []
    if what in {"a whole token", "a transfer"}:
        assert "transfer USDC" in thefts_that_work(vault, keeper)


def test_the_calls_that_are_missing_restore_the_role(net, vault, keeper):
    unwrapper = net.world.extras["unwrapper"]
    for what in ("a whole token", "a transfer", "another role", "another member"):
        by_owner(net, *LOOSENED[what](vault, keeper))
    by_owner(net, vault.modifier, calldata(ASSIGN, keeper, [ROLE], [False]))
    for call in missing_calls(vault, keeper, unwrapper):
        by_owner(net, call.to, call.data)
    assert missing_calls(vault, keeper, unwrapper) == []
    assert state_faults(vault, keeper, unwrapper) == []
    assert thefts_that_work(vault, keeper) == []


def test_fewer_pools_narrow_the_role(net, vault, keeper):
    few = {k: v[:2] for k, v in vault.scope.lanes.items() if k[1] == "uniswap_v3"}
    narrow = RolesSafe(vault.rpc, vault.spec, vault.modifier, replace(vault.scope, lanes=few))
    words = [c.words for c in missing_calls(narrow, keeper, net.world.extras["unwrapper"])]
    assert any(w.startswith("close ") for w in words)
    assert any("swap to the Safe itself" in w for w in words)


def test_an_allowance_is_used_up_refills_and_python_knows_it_to_the_unit(net, vault, keeper):
    plan = plan_of(net, vault, 150_000)
    assert list(vault.check(plan)) == []
    assert landed(net, "keeper", vault.build(plan).to, vault.build(plan).data).status == 1
    net.mine(seconds=600)
    left = vault.allowances("latest")[plan.legs[0].token_in]
    assert left.balance == 50_000 * USD
    for usd, fits in ((50_000, True), (50_001, False)):
        more = plan_of(net, vault, usd)
        assert [v.check for v in vault.check(more) if v.check == "allowance"] == ([] if fits else ["allowance"])
        dry = vault.simulate(vault.build(more), keeper)
        assert dry.ok == fits
        assert fits or "allowance" in str(dry.revert)
    assert vault.snapshot().max_turnover_bps < 600  # what is left of the way to the targets is cut to the allowance
    net.mine(seconds=DAY_S)
    assert vault.allowances("latest")[plan.legs[0].token_in].at(net.node.head().time) == 200_000 * USD


def test_a_revoked_role_is_a_verdict_in_words(net, vault, keeper):
    plan = plan_of(net, vault, 1_000)
    by_owner(net, vault.modifier, calldata(ASSIGN, keeper, [ROLE], [False]))
    dry = vault.simulate(vault.build(plan), keeper)
    assert not dry.ok
    assert "it was revoked" in str(dry.revert)


def test_a_leg_outside_the_role_is_refused_by_both_sides(net, vault, keeper):
    plan = plan_of(net, vault, 1_000)
    leg = plan.legs[0]
    foreign = replace(leg, path=(replace(leg.path[0], fee_pips=100),))
    assert [v.check for v in vault.check(vault.seal(replace(plan, legs=(foreign,))))] == ["target"]


def test_the_exposure_is_that_of_the_allowances(vault):
    bound = vault.describe().stolen_key
    assert bound is not None
    assert bound.ever_ppb == PPB
    day = 3 * 2 * 200_000 / 1_000_000  # three tokens, filled once more within the day
    assert bound.day_ppb == pytest.approx(min(1, day + 0.6) * PPB, rel=0.01)


def test_another_safes_modifier_is_refused(net, vault, keeper):
    other = RolesSafe(vault.rpc, replace(vault.spec, address=net.world.contracts["weth"]), vault.modifier, vault.scope)
    with pytest.raises(ConfigError, match="owner of"):
        missing_calls(other, keeper, net.world.extras["unwrapper"])
    bare = RolesSafe(vault.rpc, vault.spec, keeper, vault.scope)
    with pytest.raises(ConfigError, match="no contract"):
        missing_calls(bare, keeper, net.world.extras["unwrapper"])


def test_too_many_pools_for_one_role_are_refused(vault):
    from policy.execution.routing.pool_reader import TradedPool

    def pool(i: int, a: str, b: str) -> TradedPool:
        return TradedPool(f"0x{i:040x}", "uniswap_v3", a, b, 100 + i, 1, vault.spec.calls[0][0])

    tokens = [t.address for t in vault.spec.tokens]
    pools = [pool(i, tokens[i % 3], tokens[(i + 1) % 3]) for i in range(40)]
    scope = replace(vault.scope, lanes=lanes_of(pools, vault.spec.tokens))
    with pytest.raises(ConfigError, match="list fewer pools"):
        scope.permissions()


def test_the_file_for_safe_wallet_has_its_checksum(vault, net, keeper):
    calls = [(vault.modifier, b"\x01\x02")]
    made = builder_file(1, vault.spec.address, "name", calls, datetime(2024, 5, 1, tzinfo=UTC))
    assert json.loads(json.dumps(made)) == made
    assert made["transactions"][0]["data"] == "0x0102"
    assert made["meta"]["checksum"] == checksum(made) == checksum(made | {"meta": made["meta"] | {"name": "other"}})
    assert checksum(made | {"chainId": "2"}) != made["meta"]["checksum"]


def test_the_register_is_at_one_address_and_counts_each_account(net, vault, keeper):
    assert len(str(net.rpc.call("eth_getCode", [register_address(), "latest"]))) > 100
    for nonce, status in ((0, 1), (0, 0), (2, 0), (1, 1)):
        land = calldata("land(uint256,uint256,bytes32)", nonce, 2**40, b"\7" * 32)
        assert landed(net, "trader", register_address(), land).status == status
    counts = [Call(register_address(), "nonces(address)", "uint256", (a,)) for a in (keeper, vault.spec.address)]
    assert read(vault.rpc, counts) == [(0,), (0,)]


def test_a_stolen_key_loses_at_most_the_allowances_and_sends_nothing_away(net, vault):
    found = run(net, vault, sequences=60, seed=3)
    assert found.faults == []
    assert found.landed > 100  # the thief does trade, or nothing is tested
    assert found.sales > 100
    assert 0 < found.worst_share <= 1


def test_what_the_role_trades_is_found_with_its_plan_and_without_one(net, vault):
    """A plan that carries the record's head lands and is found by its hash; a trade beside the register by its lack."""
    first, safe = net.node.head().number + 1, vault.spec.address
    bare = plan_of(net, vault, 1_000)
    plan = vault.seal(replace(bare, legs=carrying(bare.legs, b"\xab" * 32)))
    tx = vault.build(plan)
    done = landed(net, "keeper", tx.to, tx.data)
    assert done.status == 1, "Zodiac Roles takes what follows a call's data"
    router, token = net.world.contracts["v3_router"], vault.spec.tokens[0].address
    data = swap_data("uniswap_v3", [(token, net.world.token("ETH").address, 500)], 1_000 * USD, safe)
    calls = [(token, calldata(APPROVE, router, 1_000 * USD)), (router, data)]
    inner = calldata(MULTISEND, packed(calls))
    sent = calldata(EXEC_ROLE, vault.spec.multisend, 0, inner, DELEGATECALL, ROLE, True)
    stolen = landed(net, "keeper", vault.modifier, sent)
    assert stolen.status == 1
    head = net.node.head().number
    trades = registered_trades(Rpc(net.node_url), safe, vault.modifier)(first, head)
    assert [(t.tx_hash, t.plan_hash) for t in trades] == [
        (done.tx_hash, "0x" + plan.plan_hash.hex()), (stolen.tx_hash, ""),
    ]  # fmt: skip
    record = Known(0, plan.nonce, "0x" + plan.plan_hash.hex(), first, "landed")
    (found,) = disagreements([record], trades, first, head)
    assert (found.kind, found.tx_hash) == ("no_record", stolen.tx_hash)
    assert "without a plan" in found.words


def test_the_factory_that_was_signed_at_100_gwei_is_made_however_dear_gas_is(localnet):
    on = localnet.deployer
    on.rpc.call("anvil_setNextBlockBaseFeePerGas", [hex(500 * 10**9)])
    on.rpc.call("evm_mine")
    singleton_factory(on)
    assert on.rpc.call("eth_getCode", [FACTORY, "latest"]) != "0x"
