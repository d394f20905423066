"""Two simulated chains with a vault of ours on each and a bridge between them; faults and other people's acts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lake.universe import chain
from policy.execution.base import Token
from policy.execution.bridges.base import Departure, PortRoute, Side, Transfer, converted
from policy.execution.bridges.sim_book import BridgeBook, SimDeparture, SimMessage, fill, refund
from policy.execution.bridges.simulated import SimAttester, SimEnds, SimulatedBridge
from policy.execution.submission.signer import TxRequest
from policy.execution.vaults.simulated.adapter import SimulatedVault, VaultSpec, executor
from policy.execution.vaults.simulated.chain import Genesis, SimChain, SimSigner
from policy.execution.vaults.simulated.port import credited
from policy.execution.vaults.simulated.world import SimWorld

KEEPER = "0x00000000000000000000000000000000000000aa"
STRANGER = "0x00000000000000000000000000000000000000cc"
CHAINS = (31_337, 31_338, 31_339)
VAULTS = tuple(f"0x00000000000000000000000000000000000000{x}" for x in ("a1", "b2", "c3"))
USDC = tuple(f"0x100000000000000000000000000000000000000{n}" for n in (1, 2, 3))
KINDS = ("simulated-mint", "simulated-fill", "simulated-message")
START, ETHER, FILL_S = 1_700_000_400, 10**18, 3_600
HELD = 1_000_000


@dataclass
class Attesting:
    """The attester with its faults, each struck so many times: down, expired, garbage, equivocating."""

    honest: SimAttester
    faults: dict[str, int] = field(default_factory=dict)

    def strike(self, name: str) -> bool:
        left = self.faults.get(name, 0)
        self.faults[name] = max(0, left - 1)
        return left > 0

    def attest(self, transfer: Transfer, made: SimDeparture, expires_block: int) -> SimMessage | None:
        if self.strike("down"):
            return None
        expired = self.strike("expired") and made.kind == "simulated-mint"
        message = self.honest.attest(transfer, made, 1 if expired else expires_block)
        if message is None:
            return None
        if self.strike("garbage"):
            return replace(message, proof="00" * 32)
        if self.strike("equivocating"):
            return replace(message, amount=message.amount * 10).signed()
        return message


class TwoChains:
    """The chains ``a`` and ``b``, and a third where ``decimals`` names one for it; amounts here are whole dollars.

    Route 1 of a port leads to the next chain of the ring, route 2 to the one after it.
    """

    def __init__(self, kind: str = "simulated-mint", decimals: tuple[int, ...] = (6, 6), fee_pips: int = 0) -> None:
        self.kind, self.decimals = kind, decimals
        self.specs = tuple(
            VaultSpec(v, KEEPER, (Token("USDC", t, d),), heartbeat_s=10**9)
            for v, t, d in zip(VAULTS, USDC, decimals, strict=False)
        )
        self.all = range(len(decimals))
        self.chains = tuple(self._chain(i, fee_pips) for i in self.all)
        self.vaults = tuple(SimulatedVault(s, c) for s, c in zip(self.specs, self.chains, strict=True))
        self.rows = (chain(CHAINS[0]), chain(CHAINS[1]), replace(chain(CHAINS[1]), chain_id=CHAINS[2]))
        self.attesters = tuple(Attesting(SimAttester(self.chains[i], self.rows[i])) for i in self.all)
        self.start = self.value()
        self._sagas = 0
        self.mine(6)  # a look back at a final block finds one

    @property
    def a(self) -> SimChain:
        return self.chains[0]

    @property
    def b(self) -> SimChain:
        return self.chains[1]

    def to(self, origin: int, route: int = 1) -> int:
        """Where a route leads."""
        return (origin + route) % len(self.decimals)

    def _chain(self, i: int, fee_pips: int) -> SimChain:
        one = 10 ** self.decimals[i]
        rows = {}
        for route in range(1, len(self.decimals)):
            other = self.to(i, route)
            rows[route] = PortRoute(
                route, self.kind, "0x" + "b1" * 20, USDC[i], CHAINS[other], VAULTS[other], USDC[other],
                200_000 * one, 400_000 * one, 100,
            )  # fmt: skip
        book = BridgeBook(
            routes=rows,
            decimals=dict(zip(USDC, self.decimals, strict=False)),
            peers=tuple((self.kind, CHAINS[o]) for o in self.all if o != i),
            fee_pips=fee_pips,
            moves=((100, "start", HELD * one),),
        )
        world = SimWorld(
            balances={USDC[i]: HELD * one}, pools={}, prices={USDC[i]: (10**8, START - 60, 7)},
            targets_bps=(10_000,), bridges=book,
        )  # fmt: skip
        wei = {KEEPER: 10 * ETHER, STRANGER: 10 * ETHER}
        return SimChain(world, executor(self.specs[i]), Genesis(CHAINS[i], START, 100), wei=wei)

    def bridge(self, origin: int = 0, route: int = 1) -> SimulatedBridge:
        order = (origin, self.to(origin, route))
        ends = SimEnds(tuple(self.chains[i] for i in order), tuple(self.rows[i] for i in order))
        return SimulatedBridge(self.kind, ends, self.attesters[origin])

    def transfer(self, dollars: int = 1_000, origin: int = 0, **changes) -> Transfer:
        """A transfer as a planner makes it: least received by the bridge's own quote."""
        self._sagas += 1
        sides = tuple(Side(CHAINS[i], VAULTS[i], USDC[i], self.decimals[i]) for i in (origin, self.to(origin)))
        amount = changes.pop("amount", dollars * 10 ** self.decimals[origin])
        head = self.chains[origin].head()
        deadline = self.chains[self.to(origin)].head().time + FILL_S if self.kind == "simulated-fill" else 0
        fee = -(-amount * self.chains[origin].world.bridges.fee_pips // 1_000_000)
        least, _ = converted(max(0, amount - fee), *(s.decimals for s in sides))
        made = Transfer(
            f"0x{self._sagas:064x}", self.kind, "USDC", *sides, 1, amount, fee, least,
            self.vaults[origin].snapshot().plan_nonce, head.time + 1_800,
            (head.number, self.chains[self.to(origin)].head().number), fill_deadline=deadline,
        )  # fmt: skip
        return replace(made, **changes)

    def send(self, i: int, tx, sender: str = KEEPER, gas: int = 400_000) -> str:
        """Sign and hand over ``tx``; it is not mined yet."""
        c = self.chains[i]
        waiting = sum(t.sender == sender for t in c.public.values())
        nonce = c.account_nonce(sender) + waiting
        signed = SimSigner(sender).sign(TxRequest(tx.chain_id, tx.to, tx.data, 0, nonce, gas, 10**10, 10**9))
        return c.send_raw(signed.raw)

    def depart(self, transfer: Transfer, origin: int = 0) -> str:
        wanted = Departure(
            transfer.route, transfer.amount, transfer.max_fee, transfer.nonce, transfer.deadline, transfer.saga_id,
            transfer.speed, transfer.fill_deadline,
        )  # fmt: skip
        return self.send(origin, self.vaults[origin].build_departure(wanted))

    def mine(self, blocks: int = 1, skip_s: int = 0) -> None:
        for c in self.chains:
            for _ in range(blocks):
                c.mine(skip_s=skip_s)

    def relay(self, transfer: Transfer, origin: int = 0) -> str:
        """A relayer fills on the other chain; returns why it is denied, empty where it paid."""
        made, to = self.departure(transfer, origin), CHAINS.index(transfer.destination.chain_id)
        far = self.chains[to]
        done = fill(far.world.bridges, made, far.head().number, far.head().time) if made else "no deposit seen"
        if isinstance(done, str):
            return done
        book, credit = done
        world = credited(self.specs[to], far.world, credit.recipient, credit.token, credit.amount)
        far.set_world(replace(world, bridges=book))
        return ""

    def come_home(self, transfer: Transfer, origin: int = 0) -> str:
        """The bundle pays an expired deposit back; refused as the bundle's proposers do while it may be filled."""
        made, near = self.departure(transfer, origin), self.chains[origin]
        far = self.chains[CHAINS.index(transfer.destination.chain_id)]
        if made is None:
            return "no deposit"
        if far.head().time <= made.fill_deadline or made.message_id in far.world.bridges.received:
            return "not expired"
        done = refund(near.world.bridges, made.message_id, near.head().number)
        if isinstance(done, str):
            return done
        book, credit = done
        world = credited(self.specs[origin], near.world, credit.recipient, credit.token, credit.amount)
        near.set_world(replace(world, bridges=book))
        return ""

    def departure(self, transfer: Transfer, origin: int = 0) -> SimDeparture | None:
        made = self.chains[origin].world.bridges.departed.values()
        return next((d for d in made if d.saga_id == transfer.saga_id), None)

    def pause(self, i: int, paused: bool) -> None:
        c = self.chains[i]
        c.set_world(replace(c.world, bridges=replace(c.world.bridges, paused=paused)))

    def balance(self, i: int) -> int:
        return self.chains[i].world.balances[USDC[i]]

    def value(self) -> int:
        """What the vaults hold, in units of 18 decimals."""
        return sum(converted(self.balance(i), self.decimals[i], 18)[0] for i in self.all)

    def _journeys(self):
        """Every departure with the credit at either end of it, in units of 18 decimals: (left, arrived or returned)."""
        for i in self.all:
            near = self.chains[i].world.bridges
            for m, d in near.departed.items():
                to = CHAINS.index(d.destination)
                there, home = self.chains[to].world.bridges.received.get(m), near.returned.get(m)
                left = converted(d.amount, self.decimals[i], 18)[0]
                paid = [(there, self.decimals[to]), (home, self.decimals[i])]
                yield left, [converted(c.amount, n, 18)[0] for c, n in paid if c is not None]

    def transit(self) -> int:
        """What left and is nowhere, fee included: the truth, by all chains' heads."""
        return sum(left for left, paid in self._journeys() if not paid)

    def fees(self) -> int:
        """What the bridge kept of what was credited once; a second credit of one departure makes it negative."""
        return sum(left - paid[0] for left, paid in self._journeys() if paid)

    def flow(self, i: int, dollars: int) -> None:
        """People bring cash to a chain, or take it (negative)."""
        c, raw = self.chains[i], dollars * 10 ** self.decimals[i]
        kind = "deposit" if raw > 0 else "withdrawal"
        book = c.world.bridges
        moved = replace(book, moves=(*book.moves, (c.head().number, kind, raw)))
        c.set_world(replace(c.world, balances={USDC[i]: self.balance(i) + raw}, bridges=moved))
        self.start += converted(abs(raw), self.decimals[i], 18)[0] * (1 if raw > 0 else -1)
