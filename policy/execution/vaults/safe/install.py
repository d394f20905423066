"""What a Safe's owners sign to give the keeper its role: only what the chain does not hold yet, so it is repeatable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from eth_utils.address import to_checksum_address

from lake.errors import ConfigError
from lake.evm import Call, calldata, head_of, read, selector
from lake.rpc import Rpc
from policy.execution.vaults.safe.register import DEPLOY, FACTORY, SALT, creation, register_address
from policy.execution.vaults.safe.role_state import CONDITIONS, Role, RoleBook, read_roles
from policy.execution.vaults.safe.roles import Allowance, RolesSafe
from policy.execution.vaults.safe.scoping import ROLE, Flat, Permission, Scope, allowance_key

UNWRAPPER = "0x93B7fCbc63ED8a3a24B59e1C3e6649D50B7427c0"
"""MultiSendUnwrapper, the same address on every chain Zodiac supports (npm zodiac-roles-deployments 3.3.0)."""
MULTISEND = "multiSend(bytes)"
SET_ALLOWANCE = "setAllowance(bytes32,uint128,uint128,uint128,uint64,uint64)"
UINT128 = 2**128


@dataclass(frozen=True, slots=True)
class OwnerCall:
    """One call the Safe itself makes, with what it does in words."""

    to: str
    data: bytes
    words: str


def wanted_functions(scope: Scope) -> dict[tuple[str, bytes], tuple[tuple[Flat, ...], int]]:
    """Return the functions of the role as :meth:`Role.effective` tells them: conditions, and no options."""
    return {(p.target, p.selector): (p.conditions, 0) for p in scope.permissions()}


def missing_calls(vault: RolesSafe, keeper: str, unwrapper: str) -> list[OwnerCall]:
    """Return the calls that lead from what the chain holds to what the settings ask for; empty: nothing is to do.

    Raises ConfigError where the modifier is another Safe's, RpcError where the node does not tell its history.
    """
    rpc, safe, modifier = vault.rpc, vault.spec.address, vault.modifier
    _require_own(vault)
    found: list[OwnerCall] = []
    head = head_of(rpc)
    if not _has_code(rpc, register_address()):
        if not _has_code(rpc, FACTORY):
            raise ConfigError(f"this chain lacks the singleton factory {FACTORY} (EIP-2470), which Roles needs as well")
        data = calldata(DEPLOY, creation(), SALT)
        found.append(OwnerCall(FACTORY, data, f"create the register of plans at {register_address()}"))
    enabled = read(rpc, [Call(safe, "isModuleEnabled(address)", "bool", (modifier,))], head.hash)[0][0]
    if not enabled:
        found.append(OwnerCall(safe, calldata("enableModule(address)", modifier), f"let Roles {modifier} act"))
    book = read_roles(rpc, modifier)
    found += _unwrapping(book, modifier, vault.spec.multisend, unwrapper)
    found += _membership(book, modifier, keeper)
    found += _allowances(vault, vault.allowances(head.hash))
    return found + _functions(book.roles.get(ROLE, Role()), modifier, vault.scope)


def _has_code(rpc: Rpc, address: str) -> bool:
    return len(str(rpc.call("eth_getCode", [address, "latest"]))) > len("0x")


def _require_own(vault: RolesSafe) -> None:
    safe, modifier = vault.spec.address, vault.modifier
    if not _has_code(vault.rpc, modifier):
        raise ConfigError(f"[vault] roles: there is no contract at {modifier} on this chain")
    views = [Call(modifier, f"{name}()", "address") for name in ("owner", "avatar", "target")]
    for name, (told,) in zip(("owner", "avatar", "target"), read(vault.rpc, views), strict=True):
        if to_checksum_address(cast("str", told)) != safe:
            raise ConfigError(f"[vault] roles: the {name} of {modifier} is {told}, it must be the Safe {safe}")


def _unwrapping(book: RoleBook, modifier: str, multisend: str, unwrapper: str) -> list[OwnerCall]:
    place = (to_checksum_address(multisend), selector(MULTISEND))
    if book.unwrappers.get(place) == to_checksum_address(unwrapper):
        return []
    data = calldata("setTransactionUnwrapper(address,bytes4,address)", *place, unwrapper)
    return [OwnerCall(modifier, data, f"take batches of {multisend} apart, call by call")]


def _membership(book: RoleBook, modifier: str, keeper: str) -> list[OwnerCall]:
    """Return the calls that give ``keeper`` this role and no other, and nobody else this role."""
    changes: dict[str, dict[bytes, bool]] = {}
    for account, keys in book.members.items():
        drop = {k: False for k in keys if account == to_checksum_address(keeper) and k != ROLE}
        drop |= {ROLE: False} if ROLE in keys and account != to_checksum_address(keeper) else {}
        if drop:
            changes[account] = drop
    if ROLE not in book.of(keeper):
        changes.setdefault(to_checksum_address(keeper), {})[ROLE] = True
    signature = "assignRoles(address,bytes32[],bool[])"
    return [
        OwnerCall(
            modifier,
            calldata(signature, account, list(keys), list(keys.values())),
            f"{account}: " + ", ".join(f"{'give' if on else 'take'} role {name_of(k)}" for k, on in keys.items()),
        )
        for account, keys in changes.items()
    ]


def name_of(key: bytes) -> str:
    """Return a role's key as text where it is one, else as hex."""
    text = key.rstrip(b"\0")
    return text.decode() if text.isascii() and text.decode().isprintable() else "0x" + key.hex()


def _allowances(vault: RolesSafe, held: Mapping[str, Allowance]) -> list[OwnerCall]:
    """Return the calls that set each token's allowance; one within a tenth of what is wanted is left as it is."""
    found = []
    for token in vault.spec.tokens:
        want, have = vault.scope.refill[token.address], held[token.address]
        if want >= UINT128:
            raise ConfigError(f"the allowance of {token.symbol} would be {want} units, Roles holds less than 2^128")
        close = abs(have.refill - want) * 10 <= want and have.refill == have.most
        if close and have.period_s == vault.scope.period_s:
            continue
        data = calldata(SET_ALLOWANCE, allowance_key(token.address), want, want, want, vault.scope.period_s, 0)
        amount = f"{want / 10**token.decimals:,.6g} {token.symbol}"
        found.append(OwnerCall(vault.modifier, data, f"sell at most {amount} in {vault.scope.period_s} s"))
    return found


def _functions(role: Role, modifier: str, scope: Scope) -> list[OwnerCall]:
    """Return the calls that open what the scope lists and close all else."""
    permissions, wanted = scope.permissions(), wanted_functions(scope)
    targets = dict.fromkeys(p.target for p in permissions)
    found = []
    for target in sorted({*role.whole, *role.scoped} - set(targets)):
        data = calldata("revokeTarget(bytes32,address)", ROLE, target)
        found.append(OwnerCall(modifier, data, f"close {target}"))
    for target in targets:
        if target not in role.scoped:
            data = calldata("scopeTarget(bytes32,address)", ROLE, target)
            found.append(OwnerCall(modifier, data, f"open {target} by function"))
    for (target, sel), _ in sorted(role.functions.items()):
        if target in targets and (target, sel) not in wanted:
            data = calldata("revokeFunction(bytes32,address,bytes4)", ROLE, target, sel)
            found.append(OwnerCall(modifier, data, f"close function 0x{sel.hex()} of {target}"))
    have = role.functions
    return found + [_open(modifier, p) for p in permissions if have.get((p.target, p.selector)) != (p.conditions, 0)]


def _open(modifier: str, permission: Permission) -> OwnerCall:
    place: Sequence[object] = (ROLE, permission.target, permission.selector)
    if not permission.conditions:
        data = calldata("allowFunction(bytes32,address,bytes4,uint8)", *place, 0)
    else:
        data = calldata(
            f"scopeFunction(bytes32,address,bytes4,{CONDITIONS},uint8)", *place, list(permission.conditions), 0
        )
    return OwnerCall(modifier, data, permission.words)
