"""Plans among the real pools of the local market, for tests of any vault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lake.evm import Call, read
from lake.rpc import Rpc, quantity
from policy.execution.base import Hop, Leg, Plan, Receipt
from policy.execution.routing.calldata import swap
from policy.localnet.market import Localnet

QUOTE = "quoteExactInputSingle((address,address,uint256,uint24,uint160))"
USD = 10**6


def v3_leg(net: Localnet, recipient: str, name: str, sell: str, amount: int, short: int = 0) -> Leg:
    """Sell ``amount`` of ``sell`` in v3 pool ``name``, quoted by the quoter; the router is asked for ``short`` more."""
    pool, token_in = net.world.pools[name], net.world.token(sell).address
    token_out = pool.token1 if token_in == pool.token0 else pool.token0
    given = (token_in, token_out, amount, pool.fee_pips, 0)
    out = int(str(read(Rpc(net.node_url), [Call(net.world.contracts["quoter"], QUOTE, "uint256", (given,))])[0][0]))
    hop = Hop("uniswap_v3", pool.address, token_in, token_out, pool.fee_pips)
    data = swap([hop], amount, out + short, recipient, 2**40)
    return Leg(token_in, token_out, amount, out, out, (hop,), pool.router, data)


def sealed(vault: Any, address: str, legs: Sequence[Leg], floor_bps: int = 9_900, deadline_s: int = 600) -> Plan:
    """A plan of ``legs`` at the newest block, with a NAV floor of ``floor_bps`` of NAV."""
    s = vault.snapshot()
    times = (s.plan_nonce, s.block_time + deadline_s, s.nav * floor_bps // 10_000)
    return vault.seal(Plan("d", address, s.chain_id, *times, tuple(legs), b"", s.block_number, s.block_hash))


def landed(net: Localnet, role: str, to: str, data: bytes) -> Receipt:
    """Mine one transaction, whatever becomes of it."""
    sent = net.send(role, to, data)
    net.mine()
    raw: Any = net.receipt(sent)
    place = (quantity(raw["blockNumber"]), raw["blockHash"], quantity(raw["status"]), quantity(raw["gasUsed"]))
    return Receipt(sent, *place, quantity(raw["effectiveGasPrice"]), raw["logs"])
