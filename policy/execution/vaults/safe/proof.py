"""Proof on the chain that a keeper can do what its role lists and nothing else: its state, and calls that must fail.

The state is replayed from the history of Roles and compared with what the settings ask for, function by function; then
a thief's calls are executed (not sent) from the keeper's account, and each must revert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eth_utils.address import to_checksum_address

from lake.errors import RpcError
from lake.evm import BlockHeader, Call, calldata, head_of, read
from policy.execution.base import Token
from policy.execution.routing.yields import DEPOSIT, REDEEM, VENUE
from policy.execution.vaults.safe.adapter import DELEGATECALL, packed
from policy.execution.vaults.safe.install import MULTISEND, SET_ALLOWANCE, missing_calls, name_of, wanted_functions
from policy.execution.vaults.safe.register import LAND, next_nonce, register_address
from policy.execution.vaults.safe.role_state import read_roles
from policy.execution.vaults.safe.roles import EXEC_ROLE, RolesSafe
from policy.execution.vaults.safe.scoping import APPROVE, MANY, ROLE, SINGLE, V2_SWAP, Lane, paired, path_of

THIEF = "0x000000000000000000000000000000000000bEEF"
FAR = 2**40
"""A deadline of a thief: the year 36812."""
TRANSFER, TRANSFER_FROM = "transfer(address,uint256)", "transferFrom(address,address,uint256)"
AS_MODULE = "execTransactionFromModule(address,uint256,bytes,uint8)"
SENTINEL = "0x0000000000000000000000000000000000000001"


@dataclass(frozen=True, slots=True)
class Theft:
    """A call a thief with the keeper's key might try: ``data`` sent to ``to`` from the keeper's account."""

    words: str
    to: str
    data: bytes
    value: int = 0


def state_faults(vault: RolesSafe, keeper: str, unwrapper: str) -> list[str]:
    """Return what the chain gives the keeper beyond its role, or not yet, in words; RpcError as it comes."""
    rpc, safe, modifier = vault.rpc, vault.spec.address, vault.modifier
    views = [
        Call(safe, "isOwner(address)", "bool", (keeper,)),
        Call(safe, "isModuleEnabled(address)", "bool", (keeper,)),
        Call(safe, "getModulesPaginated(address,uint256)", "address[]", (SENTINEL, 20)),
    ]
    (owner,), (module,), (modules,) = read(rpc, views, head_of(rpc).hash)
    found = []
    if owner:
        found.append(
            f"the keeper {keeper} is an owner of the Safe: its key signs for everything; remove it as an owner"
        )
    if module:
        found.append(f"the keeper {keeper} is a module of the Safe itself: it may do everything; disable it")
    others = [m for m in modules if to_checksum_address(m) not in {modifier, to_checksum_address(keeper)}]  # type: ignore[attr-defined]
    if others:
        found.append(f"the Safe has further modules, which this does not bound: {', '.join(others)}")
    book = read_roles(rpc, modifier)
    found += [f"the keeper also holds the role {name_of(key)}" for key in sorted(book.of(keeper) - {ROLE})]
    members = [a for a, keys in book.members.items() if ROLE in keys and a != to_checksum_address(keeper)]
    if members:
        found.append(f"others hold the keeper's role: {', '.join(members)}")
    role = book.roles.get(ROLE)
    if role is not None:
        found += [f"the role may call anything of {target}" for target in role.whole]
        wanted = wanted_functions(vault.scope)
        found += [
            f"the role may call function 0x{key[1].hex()} of {key[0]} otherwise than the settings ask for"
            for key, how in role.effective().items()
            if wanted.get(key) != how
        ]
    multisend = to_checksum_address(vault.spec.multisend)
    others = [to for to, _ in book.unwrappers if to != multisend]
    found += [f"batches through {to} are taken apart too" for to in others]
    missing = missing_calls(vault, keeper, unwrapper)
    return found + [f"not installed: {call.words}" for call in missing]


def thefts(vault: RolesSafe, keeper: str) -> list[Theft]:
    """Return calls that must all fail: everything a thief tries first, through the role, beside it and around it."""
    safe, modifier = vault.spec.address, vault.modifier

    def through(to: str, data: bytes, operation: int = 0, value: int = 0) -> bytes:
        return calldata(EXEC_ROLE, to, value, data, operation, ROLE, True)

    def role(words: str, to: str, data: bytes, operation: int = 0, value: int = 0) -> Theft:
        return Theft(words, modifier, through(to, data, operation, value))

    found = [role(f"{words}", to, data) for words, to, data in _inner(vault, keeper)]
    for words, to, data in _inner(vault, keeper):
        batch = calldata(MULTISEND, packed([(to, data)]))
        found.append(role(f"{words}, in a batch", vault.spec.multisend, batch, DELEGATECALL))
    nothing = calldata(MULTISEND, packed([]))
    nested = calldata(MULTISEND, packed([(vault.spec.multisend, nothing)]))
    token = vault.spec.tokens[0].address
    pay = calldata(TRANSFER, keeper, 1)
    found += [
        role("send the Safe's native coins", THIEF, b"", 0, 1),
        role("a batch within a batch", vault.spec.multisend, nested, DELEGATECALL),
        role("run foreign code as the Safe", THIEF, b"\0\0\0\0", DELEGATECALL),
        role("run a token's code as the Safe", token, pay, DELEGATECALL),
        Theft("act as a module of the Safe", safe, calldata(AS_MODULE, token, 0, pay, 0)),
        Theft("act without a role", modifier, calldata(AS_MODULE, token, 0, pay, 0)),
        Theft("use another role", modifier, calldata(EXEC_ROLE, token, 0, pay, 0, b"\1" * 32, True)),
    ]
    return found + [Theft(words, modifier, data) for words, data in _of_the_modifier(keeper, vault.spec.tokens[0])]


def _inner(vault: RolesSafe, keeper: str) -> list[tuple[str, str, bytes]]:
    """Return calls the Safe must not be brought to make: (words, contract, data)."""
    safe, found = vault.spec.address, list[tuple[str, str, bytes]]()
    for token in vault.spec.tokens:
        name = token.symbol
        found += [
            (f"transfer {name}", token.address, calldata(TRANSFER, keeper, 1)),
            (f"transferFrom {name}", token.address, calldata(TRANSFER_FROM, safe, keeper, 1)),
            (f"approve {name} to the keeper", token.address, calldata(APPROVE, keeper, 2**256 - 1)),
            (f"approve {name} to nobody known", token.address, calldata(APPROVE, THIEF, 1)),
        ]
    for (router, venue), lanes in vault.scope.lanes.items():
        start = lanes[0][0][0]
        over = vault.scope.refill.get(start, 2**127) * 1_000
        for words, data in _swaps(venue, lanes, keeper, safe, over):
            found.append((f"{venue}: {words}", router, data))
        found += [
            (f"{router}: multicall", router, calldata("multicall(bytes[])", [b""])),
            (f"{router}: sweepToken", router, calldata("sweepToken(address,uint256,address)", start, 0, keeper)),
            (f"{router}: unwrapWETH9", router, calldata("unwrapWETH9(uint256,address)", 0, keeper)),
        ]
    for words, data in (
        ("add an owner", calldata("addOwnerWithThreshold(address,uint256)", keeper, 1)),
        ("enable a module", calldata("enableModule(address)", keeper)),
        ("set a guard", calldata("setGuard(address)", keeper)),
        ("set the fallback handler", calldata("setFallbackHandler(address)", keeper)),
    ):
        found.append((words, safe, data))
    return [
        *found,
        ("open the role further", vault.modifier, calldata("allowTarget(bytes32,address,uint8)", ROLE, keeper, 3)),
    ]


def _swaps(venue: str, lanes: Sequence[Lane], keeper: str, safe: str, over: int) -> list[tuple[str, bytes]]:
    """Return swaps that must fail: paid to the keeper, beyond the allowance, of foreign tokens, by other pools."""
    start, end, fee = lanes[0][0]
    if venue == VENUE:
        return [
            ("shares made for the keeper", calldata(DEPOSIT, 1, keeper)),
            ("shares turned back for the keeper", calldata(REDEEM, 1, keeper, safe)),
            ("shares beyond the allowance", calldata(DEPOSIT, over, safe)),
            ("withdraw to the keeper", calldata("withdraw(uint256,address,address)", 1, keeper, safe)),
            ("mint for the keeper", calldata("mint(uint256,address)", 1, keeper)),
        ]
    if paired(venue):
        path = [start, end]
        return [
            ("paid to the keeper", calldata(V2_SWAP, 1, 0, path, keeper, FAR)),
            ("beyond the allowance", calldata(V2_SWAP, over, 0, path, safe, FAR)),
            ("into a foreign token", calldata(V2_SWAP, 1, 0, [start, THIEF], safe, FAR)),
            ("by way of a foreign token", calldata(V2_SWAP, 1, 0, [start, THIEF, end], safe, FAR)),
        ]

    def single(*, sell: str = start, buy: str = end, pips: int = fee, to: str = safe, amount: int = 1) -> bytes:
        return calldata(SINGLE, (sell, buy, pips, to, FAR, amount, 0, 0))

    found = [
        ("paid to the keeper", single(to=keeper)),
        ("beyond the allowance", single(amount=over)),
        ("into a foreign token", single(buy=THIEF)),
        ("of a foreign token", single(sell=THIEF)),
        ("in a pool that is not configured", single(pips=100 if fee != 100 else 10_000)),
    ]
    way = next((lane for lane in lanes if len(lane) > 1), lanes[0])
    foreign = path_of(((start, THIEF, fee), (THIEF, end, fee)))
    return [
        *found,
        ("two pools, paid to the keeper", calldata(MANY, (path_of(way), keeper, FAR, 1, 0))),
        ("by way of a foreign token", calldata(MANY, (foreign, safe, FAR, 1, 0))),
    ]


def _of_the_modifier(keeper: str, token: Token) -> list[tuple[str, bytes]]:
    key = ROLE
    return [
        ("take the role for somebody", calldata("assignRoles(address,bytes32[],bool[])", THIEF, [key], [True])),
        ("open a contract", calldata("allowTarget(bytes32,address,uint8)", key, token.address, 3)),
        ("open a function", calldata("allowFunction(bytes32,address,bytes4,uint8)", key, token.address, b"\1" * 4, 0)),
        ("raise the allowance", calldata(SET_ALLOWANCE, key, 1, 1, 1, 1, 0)),
        ("act on another Safe", calldata("setAvatar(address)", keeper)),
        ("own the modifier", calldata("transferOwnership(address)", keeper)),
        ("enable a member", calldata("enableModule(address)", keeper)),
    ]  # fmt: skip


def thefts_that_work(vault: RolesSafe, keeper: str, more: Sequence[Theft] = ()) -> list[str]:
    """Return the thefts the chain allows, in words; also where the role does not work at all, so nothing is proven.

    ``more``: what to try besides. Executed by eth_call at one block from the keeper's account. RpcError where the node
    fails.
    """
    head, tries = head_of(vault.rpc), [*thefts(vault, keeper), *more]
    control = _control(vault, head)
    calls = [
        {"from": keeper, "to": t.to, "data": "0x" + t.data.hex(), "value": hex(t.value)} for t in (control, *tries)
    ]
    answers = vault.rpc.batch([("eth_call", [c, hex(head.number)]) for c in calls], errors=True)
    first, *rest = answers
    if isinstance(first, RpcError):
        return [f"nothing is proven: the keeper {keeper} cannot use the role at all ({first})"]
    return [t.words for t, answer in zip(tries, rest, strict=True) if not isinstance(answer, RpcError)]


def _control(vault: RolesSafe, head: BlockHeader) -> Theft:
    """Return a call the role must allow: without it, failing thefts would prove nothing."""
    nonce = next_nonce(vault.rpc, vault.spec.address, head.hash)
    land = calldata(LAND, nonce, FAR, b"\1" * 32)
    data = calldata(EXEC_ROLE, register_address(), 0, land, 0, ROLE, True)
    return Theft("record a plan", vault.modifier, data)
