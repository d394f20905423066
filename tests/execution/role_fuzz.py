"""A thief with a role member's key, against a Safe: random sequences of calls, in simulated blocks, judged by balances.

``python -m tests.execution.role_fuzz --sequences 10000`` prints what the worst sequence took; with ``--vault lagoon``
of the Safe of a Lagoon vault, whose requests and valuation the thief tries as well. A sequence is the thief's own
market moves, the keeper's calls, days in between; nothing is mined (``tests.execution.sequences``).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from lake.evm import calldata, head_of
from lake.rpc import Rpc
from policy.execution.checks.rules import VaultBook
from policy.execution.vaults.lagoon.adapter import LagoonVault
from policy.execution.vaults.lagoon.proof import lagoon_thefts
from policy.execution.vaults.reference.logs import TRANSFER
from policy.execution.vaults.safe.adapter import DELEGATECALL, packed
from policy.execution.vaults.safe.install import MULTISEND
from policy.execution.vaults.safe.proof import FAR, thefts
from policy.execution.vaults.safe.roles import EXEC_ROLE, Allowance, RolesSafe
from policy.execution.vaults.safe.scoping import APPROVE, MANY, ROLE, SINGLE, V2_SWAP, Lane, paired, path_of
from policy.localnet.market import Localnet
from policy.localnet.world import Extra
from tests.execution.sequences import MARK, Sequence, Tally, asking, encoded, left, pushed, simulated

STEPS = 8
DAY_S = 86_400


@dataclass
class Found(Tally):
    """Sales that landed, faults in words, and the largest loss as a share of what may be lost."""

    sales: int = 0
    worst_share: float = 0.0
    worst_usd: float = 0.0
    faults: list[str] = field(default_factory=list)

    def words(self) -> str:
        """Return the figures in a line."""
        return (
            f"{super().words()}; worst loss {self.worst_usd:,.0f} USD of "
            f"1,000,000, {self.worst_share:.1%} of what the allowances let be sold; {len(self.faults)} broken promises"
        )


def run(net: Localnet, vault: RolesSafe, sequences: int, seed: int, *, progress: bool = False) -> Found:
    """Try ``sequences`` random sequences; every one starts from the same block."""
    rng, found = random.Random(seed), Found()
    fund(net, vault)
    book, allowances, head = vault.state().book, vault.allowances("latest"), head_of(vault.rpc)
    keeper = net.accounts["keeper"].address
    tried = thefts(vault, keeper)
    if isinstance(vault, LagoonVault):
        tried += lagoon_thefts(vault, vault.investors, keeper)
    hostile = [(t.to, t.data, t.value) for t in tried]
    made = (_sequence(net, vault, book, hostile, rng, number) for number in range(sequences))
    for one, results in simulated(net.node_url, head, made):
        found.count(one, results, keeper)
        _judge(net, vault, book, allowances, results, one.seconds, found)
        if progress:
            found.shown(sequences)
    return found


def fund(net: Localnet, vault: RolesSafe) -> None:
    """Give the Safe some of every token, so that each can be stolen."""
    for asset, units in (("ETH", 200 * 10**18), ("BTC", 15 * 10**8)):
        data = calldata("transfer(address,uint256)", vault.spec.address, units)
        net.send("investor", net.world.token(asset).address, data)
    net.mine()


def _sequence(
    net: Localnet,
    vault: RolesSafe,
    book: VaultBook,
    hostile: list[tuple[str, bytes, int]],
    rng: random.Random,
    number: int,
) -> Sequence:
    """Return a random sequence of the thief's; its last calls ask what the Safe holds then."""
    keeper, thief = net.accounts["keeper"].address, net.accounts["searcher"].address
    blocks, now = [], 0
    for _ in range(rng.randint(1, STEPS)):
        now += rng.choice((12, 12, 600, DAY_S // 2, DAY_S, 3 * DAY_S))
        blocks.append((now, (*_moves(net, thief, rng), *_tries(vault, keeper, hostile, rng))))
    return asking(number, blocks, vault.spec.address, book.tokens)


def _judge(
    net: Localnet,
    vault: RolesSafe,
    book: VaultBook,
    allowances: Mapping[str, Allowance],
    results: list[dict],
    seconds: int,
    found: Found,
) -> None:
    """Hold a sequence to the promise: only pools are paid, nothing is sold or lost beyond the allowances."""
    safe = vault.spec.address.lower()
    pools = {p.address.lower() for p in net.world.pools.values()}
    after = left(results, book.tokens)
    sold = dict.fromkeys([t.address.lower() for t in book.tokens], 0)
    for result in results:
        for log in result.get("logs", []):
            if log["topics"][0] != TRANSFER or "0x" + log["topics"][1][-40:] != safe:
                continue
            to, amount = "0x" + log["topics"][2][-40:], int(log["data"], 16)
            sold[log["address"].lower()] = sold.get(log["address"].lower(), 0) + amount
            found.sales += to in pools
            if to not in pools and amount:
                found.faults.append(f"{amount} of {log['address']} went to {to}")
    allowed = 0
    for i, token in enumerate(book.tokens):
        given = allowances[token.address]
        most = given.balance + seconds // given.period_s * given.refill
        most += given.refill  # the period that had begun before
        allowed += book.value(i, most)
        if sold[token.address.lower()] > most:
            found.faults.append(f"{sold[token.address.lower()]} of {token.symbol} sold, at most {most} may be")
    lost = sum(
        book.value(i, before) - book.value(i, a) for i, (before, a) in enumerate(zip(book.holdings, after, strict=True))
    )
    if lost > allowed:
        found.faults.append(f"{lost / 1e18:.2f} USD lost, at most {allowed / 1e18:.2f}")
    found.worst_usd = max(found.worst_usd, lost / 1e18)
    found.worst_share = max(found.worst_share, lost / allowed)


def _moves(net: Localnet, thief: str, rng: random.Random) -> Iterator[dict[str, str]]:
    """The thief's own trades, to move the pools before the Safe trades in them."""
    for _ in range(rng.randint(0, 2)):
        name = rng.choice(
            [
                n
                for n in net.world.pools
                if n.startswith("v3:") and "LINK" not in n and "UNI" not in n and "AAVE" not in n
            ]
        )
        pool = net.world.pools[name]
        sell, buy = rng.choice(((pool.token0, pool.token1), (pool.token1, pool.token0)))
        decimals = next(t.decimals for t in net.world.tokens.values() if t.address == sell)
        amount = rng.randint(1, 50_000_000) * 10 ** max(0, decimals - (0 if decimals == 6 else 3))
        yield pushed(pool, sell, buy, thief, amount)


def _tries(
    vault: RolesSafe, keeper: str, hostile: list[tuple[str, bytes, int]], rng: random.Random
) -> Iterator[dict[str, str]]:
    """The thief's calls with the stolen key: lawful ones at bad prices, broken ones, and batches of both."""
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.3:
            to, data, value = rng.choice(hostile)
            if rng.random() < 0.3 and len(data) > 40:  # a byte of it changed
                place = rng.randrange(4, len(data))
                data = data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
            yield {"from": keeper, "to": to, "data": "0x" + data.hex(), "value": hex(value)}
            continue
        calls = [c for _ in range(rng.randint(1, 3)) for c in _swap(vault, keeper, rng)]
        batch = calldata(MULTISEND, packed(calls))
        data = calldata(EXEC_ROLE, vault.spec.multisend, 0, batch, DELEGATECALL, ROLE, True)
        yield {"from": keeper, "to": vault.modifier, "data": "0x" + data.hex()}


def swap_data(venue: str, lane: Lane, amount: int, to: str, fee: int | None = None) -> bytes:
    """The router call that sells ``amount`` along ``lane``, whatever it brings; ``fee`` of the pool where it is one."""
    start = lane[0][0]
    if paired(venue):
        return encoded(V2_SWAP, MARK, 0, (start, *(h[1] for h in lane)), to, FAR, amount=amount)
    if len(lane) == 1:
        pool = (start, lane[0][1], lane[0][2] if fee is None else fee, to, FAR, MARK, 0, 0)
        return encoded(SINGLE, pool, amount=amount)
    return encoded(MANY, (path_of(lane), to, FAR, MARK, 0), amount=amount)


def _swap(vault: RolesSafe, keeper: str, rng: random.Random) -> list[tuple[str, bytes]]:
    (router, venue), lanes = rng.choice(list(vault.scope.lanes.items()))
    lane: Lane = rng.choice(lanes)
    start, most = lane[0][0], vault.scope.refill[lane[0][0]]
    amount = rng.choice((most, most // 3, most // 10, most // 10, most // 30, rng.randint(0, 2 * most)))
    to = vault.spec.address if rng.random() < 0.98 else keeper
    fee = None if rng.random() < 0.98 else rng.choice((100, 500, 3_000, 10_000))
    data = swap_data(venue, lane, amount, to, fee)
    spender = router if rng.random() < 0.98 else keeper
    approval = encoded(APPROVE, spender, MARK, amount=rng.choice((amount, 2**256 - 1)))
    return [(start, approval), (router, data)]


def main() -> int:
    """Run the fuzz on a market of its own; exit 1 where a promise was broken."""
    from policy.localnet.lagoon import lagoon_adapter, lagoon_vault
    from policy.localnet.market import start
    from policy.localnet.portfolio import roles_safe, roles_vault
    from tests.chain_fixtures import CLOCK

    kinds: dict[str, tuple[Callable[..., Extra], Callable[..., RolesSafe]]] = {
        "roles": (roles_safe, roles_vault), "lagoon": (lagoon_vault, lagoon_adapter),
    }  # fmt: skip

    parser = argparse.ArgumentParser()
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vault", choices=kinds, default="roles")
    given = parser.parse_args()
    deploy, adapter = kinds[given.vault]
    with start(extras=[deploy(allowance_usd=100_000)], at=CLOCK) as net:
        vault = adapter(Rpc(net.node_url), net.world, allowance_usd=100_000)
        found = run(net, vault, given.sequences, given.seed, progress=True)
    for words in found.faults[:20]:
        print(words)
    print(f"{found.sequences} sequences, {found.words()}")
    return 1 if found.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
