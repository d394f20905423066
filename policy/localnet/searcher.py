"""A sandwich searcher: buys before a pending swap, sells after it, as much as the victim's minimum lets it.

It knows nothing of the victim's contract: it simulates the transaction, sees which pools it trades in, and finds the
largest front-run the victim survives by simulating again. So a plain router swap and a vault's plan look alike to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from eth_account import Account
from eth_utils.crypto import keccak

from lake.errors import RpcError
from lake.evm import Call, calldata, read
from lake.poolstate import Constants, read_ticks
from lake.rpc import quantity
from policy.execution.routing.amm import Pool, V2Pool, V3Pool, quote
from policy.localnet.accounts import dev_accounts
from policy.localnet.bundles import LocalBundle
from policy.localnet.mempool import PooledTx, decode
from policy.localnet.node import LocalNode
from policy.localnet.world import FEED_DECIMALS, TICK_SPACING, PoolRef, World

V3_SWAP = "0x" + keccak(text="Swap(address,address,int256,int256,uint160,uint128,int24)").hex()
V2_SWAP = "0x" + keccak(text="Swap(address,uint256,uint256,uint256,uint256,address)").hex()
_V3_CALL = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
_V2_CALL = "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)"
_GAS = 400_000  # limit of one leg; unused gas is not paid
_TICKS_AROUND = 12_000  # how far the pool is read: a factor of 3.3 in price
_STEPS = 36  # halvings: eleven digits of the size


@dataclass(frozen=True, slots=True)
class Sandwich:
    """An attack on one swap, in raw units of ``token_in`` but for ``front_out``; ``profit`` is before gas."""

    token_in: str
    front_in: int
    front_out: int
    victim_out: int
    back_out: int

    @property
    def profit(self) -> int:
        """What the attacker has more of ``token_in`` afterwards."""
        return self.back_out - self.front_in


@dataclass(frozen=True, slots=True)
class Target:
    """A swap seen in a simulated transaction."""

    ref: PoolRef
    token_in: str
    amount_in: int


def sandwich(pool: Pool, token_in: str, victim_in: int, front_in: int) -> Sandwich | None:
    """Return the exact outcome of front-running ``victim_in`` by ``front_in``; None beyond known liquidity."""
    front = quote(pool, token_in, front_in)
    victim = None if front is None else quote(front.after, token_in, victim_in)
    if front is None or victim is None:
        return None
    token_out = pool.token1 if token_in == pool.token0 else pool.token0
    back = quote(victim.after, token_out, front.out)
    return None if back is None else Sandwich(token_in, front_in, front.out, victim.out, back.out)


def peak(pool: Pool, token_in: str, victim_in: int) -> int:
    """Return the front-run with the highest profit when the victim accepts anything."""

    def profit(size: int) -> int:
        found = sandwich(pool, token_in, victim_in, size)
        return -(2**200) if found is None else found.profit

    return summit(profit, victim_in)


def summit(profit: Callable[[int], int], first: int) -> int:
    """Return where ``profit`` (rising, then falling) is highest, by golden sections; ``first`` is a likely size."""
    low, high = 1, first
    while high < 2**112 and profit(2 * high) > profit(high):
        high *= 2
    high *= 2
    ratio = (5**0.5 - 1) / 2
    a, b = high - int(ratio * (high - low)), low + int(ratio * (high - low))
    at_a, at_b = profit(a), profit(b)
    while high - low > max(2, high >> 20):  # the peak is flat: six digits of the size are enough
        if at_a >= at_b:
            high, b, at_b = b, a, at_a
            a = high - int(ratio * (high - low))
            at_a = profit(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + int(ratio * (high - low))
            at_b = profit(b)
    return (low + high) // 2


def largest(holds: Callable[[int], bool], top: int) -> int:
    """Return the largest size up to ``top`` for which ``holds`` (true below some size), to eleven digits; 0 if none."""
    if holds(top):
        return top
    low, high = 0, top
    for _ in range(_STEPS):
        if high - low <= 1:
            break
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@dataclass
class SandwichSearcher:
    """Attacks the public pool, one sandwich a block, where it pays more than its gas. Appends to ``node.searchers``.

    ``tip_wei`` per gas goes to the block's builder; ``done`` lists (victim's hash, sandwich) of bundles it sent.
    """

    node: LocalNode
    world: World
    tip_wei: int = 2 * 10**9
    done: list[tuple[str, Sandwich]] = field(default_factory=list)

    def bundles(self, pending: Sequence[PooledTx], base_fee_wei: int, block: int) -> Sequence[LocalBundle]:
        """Return the best attack on ``pending`` as a bundle, if any pays."""
        me = dev_accounts()["searcher"].address
        found: list[tuple[int, PooledTx, Target, Sandwich]] = []
        for victim in pending:
            if victim.sender == me:
                continue
            for target in self._targets(victim):
                attack = self._best(victim, target)
                if attack is None:
                    continue
                played = self._play(victim, target, attack)
                if played is not None and (gain := self._gain_wei(*played, base_fee_wei)) > 0:
                    found.append((gain, victim, target, played[0]))
        if not found:
            return []
        _, victim, target, attack = max(found, key=lambda f: f[0])
        self.done.append((victim.hash, attack))
        return [self._bundle(victim, target, attack, base_fee_wei, block)]

    def _targets(self, victim: PooledTx) -> list[Target]:
        results = simulate(self.node, [_as_call(victim)])
        if results is None or results[0]["status"] != "0x1":
            return []
        refs = {p.address.lower(): p for p in self.world.pools.values()}
        targets = []
        for log in results[0]["logs"]:
            ref, topic = refs.get(str(log["address"]).lower()), str(log["topics"][0])
            if ref is None or topic not in {V3_SWAP, V2_SWAP}:
                continue
            gains = words(str(log["data"]))[:2]
            if topic == V3_SWAP:  # the pool's gain of each token, signed
                gains = [w - 2**256 if w >> 255 else w for w in gains]
            token_in, amount = (ref.token0, gains[0]) if gains[0] > 0 else (ref.token1, gains[1])
            targets.append(Target(ref, token_in, amount))
        return targets

    def _best(self, victim: PooledTx, target: Target) -> Sandwich | None:
        pool = load_pool(self.node, target.ref)
        top = peak(pool, target.token_in, target.amount_in)

        def survives(size: int) -> bool:
            front = swap_call(target.ref, target.token_in, size)
            results = simulate(self.node, [front, _as_call(victim)])
            return results is not None and all(r["status"] == "0x1" for r in results)

        size = largest(survives, top)
        best = sandwich(pool, target.token_in, target.amount_in, size) if size else None
        return best if best is not None and best.profit > 0 else None

    def _play(self, victim: PooledTx, target: Target, attack: Sandwich) -> tuple[Sandwich, int] | None:
        """Return the attack as the chain would settle it, and the gas of its two legs; None if it fails there."""
        token_out = target.ref.token1 if target.token_in == target.ref.token0 else target.ref.token0
        front = swap_call(target.ref, target.token_in, attack.front_in)
        first = simulate(self.node, [front])
        if first is None or first[0]["status"] != "0x1":
            return None
        got = _last_word(first[0])
        all_three = simulate(self.node, [front, _as_call(victim), swap_call(target.ref, token_out, got)])
        if all_three is None or any(r["status"] != "0x1" for r in all_three):
            return None
        gas = sum(quantity(all_three[i]["gasUsed"]) for i in (0, 2))
        return replace(attack, front_out=got, back_out=_last_word(all_three[2])), gas

    def _gain_wei(self, attack: Sandwich, gas: int, base_fee_wei: int) -> int:
        """Return profit, at the feeds' prices, less gas, in wei."""
        token = next(t for t in self.world.tokens.values() if t.address == attack.token_in)
        feeds = [token.feed, self.world.tokens["ETH"].feed]
        views = [Call(str(f), "latestRoundData()", "uint80,int256") for f in feeds]
        answers = [int(str(a[1])) for a in read(self.node.admin, views)]
        usd = attack.profit * answers[0] / 10 ** (token.decimals + FEED_DECIMALS)
        return int(usd / (answers[1] / 10**FEED_DECIMALS) * 1e18) - gas * (base_fee_wei + self.tip_wei)

    def _bundle(self, victim: PooledTx, target: Target, attack: Sandwich, base_fee_wei: int, block: int) -> LocalBundle:
        token_out = target.ref.token1 if target.token_in == target.ref.token0 else target.ref.token0
        legs = [
            swap_call(target.ref, target.token_in, attack.front_in),
            swap_call(target.ref, token_out, attack.front_out),
        ]
        txs = [swap_tx(self.node, leg, base_fee_wei, self.tip_wei, place) for place, leg in enumerate(legs)]
        return LocalBundle((txs[0], victim, txs[1]), block, block)


def swap_call(ref: PoolRef, token_in: str, amount: int) -> dict[str, str]:
    """Return the searcher's call that sells ``amount`` of ``token_in`` in the pool."""
    me = dev_accounts()["searcher"].address
    token_out = ref.token1 if token_in == ref.token0 else ref.token0
    if ref.venue == "uniswap_v3":
        data = calldata(_V3_CALL, (token_in, token_out, ref.fee_pips, me, 2**40, amount, 0, 0))
    else:
        data = calldata(_V2_CALL, amount, 0, [token_in, token_out], me, 2**40)
    return {"from": me, "to": ref.router, "data": "0x" + data.hex(), "gas": hex(_GAS)}


def swap_tx(node: LocalNode, call: Mapping[str, str], base_fee_wei: int, tip_wei: int, place: int = 0) -> PooledTx:
    """Return ``call`` signed by the searcher, at its next nonce but ``place``."""
    me = dev_accounts()["searcher"]
    fields = {
        "type": 2,
        "chainId": node.chain.chain_id,
        "nonce": quantity(node.admin.call("eth_getTransactionCount", [me.address, "latest"])) + place,
        "to": call["to"],
        "value": 0,
        "data": call["data"],
        "gas": _GAS,
        "maxFeePerGas": base_fee_wei + tip_wei,
        "maxPriorityFeePerGas": tip_wei,
    }
    return decode(bytes(Account.sign_transaction(fields, me.key).raw_transaction), private=True)


def simulate(node: LocalNode, calls: Sequence[Mapping[str, str]]) -> list[dict[str, Any]] | None:
    """Return the outcome of each call, one after the other on the newest block; None if it cannot even start."""
    ask = {"blockStateCalls": [{"calls": list(calls)}], "validation": False}
    try:
        answer = node.admin.call("eth_simulateV1", [ask, "latest"])
    except RpcError as error:
        if error.code is None:
            raise
        return None  # for example for lack of gas money
    return answer[0]["calls"] if isinstance(answer, list) else None


def words(data: str) -> list[int]:
    """Return the 32-byte words of a log's data, unsigned."""
    return [int(data[i : i + 64], 16) for i in range(2, len(data), 64)]


def load_pool(node: LocalNode, ref: PoolRef) -> Pool:
    """Return the pool as it is in the newest block, v3 ticks within a factor of 3.3 of the price."""
    rpc, block = node.admin, node.head().hash
    if ref.venue == "uniswap_v2":
        x, y = (int(str(v)) for v in read(rpc, [Call(ref.address, "getReserves()", "uint112,uint112")], block)[0])
        return V2Pool(ref.address, ref.token0, ref.token1, x, y, ref.fee_pips, ref.router)
    views = [Call(ref.address, "slot0()", "uint160,int24"), Call(ref.address, "liquidity()", "uint128")]
    (root, tick), (liquidity,) = ((int(str(v)) for v in values) for values in read(rpc, views, block))
    spacing = TICK_SPACING[ref.fee_pips]
    info = Constants(ref.address, ref.venue, ref.token0, ref.token1, ref.fee_pips, spacing)
    known = (tick - _TICKS_AROUND, tick + _TICKS_AROUND)
    ticks = read_ticks(rpc, info, *known, block)
    ends = (ref.token0, ref.token1, ref.fee_pips, spacing)
    return V3Pool(ref.address, *ends, root, tick, liquidity, ticks, known, ref.router)


def shortfall(clean_out: int, got_out: int) -> float:
    """Return how much less the victim got than without the attack, as a fraction."""
    return 1 - got_out / clean_out


def _last_word(result: Mapping[str, Any]) -> int:
    """Return what a swap paid: the only word of v3's answer, the last of v2's list of amounts."""
    return int(str(result["returnData"])[-64:], 16)


def _as_call(tx: PooledTx) -> dict[str, str]:
    call = {"from": tx.sender, "data": "0x" + tx.data.hex(), "value": hex(tx.value), "gas": hex(tx.gas)}
    return call if tx.to is None else {**call, "to": tx.to}
