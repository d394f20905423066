"""``foredrift vault allow | deny | permissioned | holders``: who may hold shares of the vault, and who does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from eth_utils.address import is_address, to_checksum_address
from eth_utils.crypto import keccak

from lake.errors import ConfigError
from lake.evm import Call, calldata, head_of, read
from lake.rpc import Rpc
from pipelines.settlements.mandate.onchain import Senders, holders
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.onchain import keystore_signer
from pipelines.vault_setup.sending import send
from pipelines.wiring import rpc_of
from policy.execution.vaults.reference.changes import EXECUTE, WAIT, OwnerChange, change_of
from policy.execution.vaults.reference.history import VaultLog, at_block, since_creation

Shown = dict[str, Any]
STRANGER = to_checksum_address(keccak(text="foredrift nobody")[:20])
"""An account nobody has: what the vault answers it, it answers every stranger."""


def list_holder(
    deployment: VaultSettings, account: str, *, allowed: bool, owner: Path | None = None,
    on_plan: Callable[[Shown], None] | None = None,
) -> Shown:  # fmt: skip
    """Put ``account`` on the list of holders or strike it off, through the timelock; see :func:`_changed`."""
    rpc, vault = _vault(deployment)
    holder = _account(account, vault)
    ((listed,),) = read(rpc, [Call(vault, "holder_allowed(address)", "bool", (holder,))])
    words = f"{holder} {'may hold' if allowed else 'may no longer receive'} shares"
    data = calldata("set_holder(address,bool)", holder, allowed)
    return _changed(deployment, rpc, (words, data), done=bool(listed) == allowed, owner=owner, on_plan=on_plan)


def set_permissioned(
    deployment: VaultSettings, *, on: bool, owner: Path | None = None, on_plan: Callable[[Shown], None] | None = None
) -> Shown:
    """Let listed accounts alone hold shares (``on``), or anyone, through the timelock; see :func:`_changed`."""
    rpc, vault = _vault(deployment)
    ((now,),) = read(rpc, [Call(vault, "permissioned()", "bool")])
    words = "only listed accounts may hold shares" if on else "anyone may hold shares"
    data = calldata("set_permissioned(bool)", on)
    return _changed(deployment, rpc, (words, data), done=bool(now) == on, owner=owner, on_plan=on_plan)


def _changed(
    deployment: VaultSettings, rpc: Rpc, what: tuple[str, bytes], *, done: bool, owner: Path | None,
    on_plan: Callable[[Shown], None] | None,
) -> Shown:  # fmt: skip
    """Show a change and how far it is, and let ``owner``'s keystore take its next step; return it as it stands then.

    Announced first, made after the delay: run it again to go on. Where it is done already, nothing is sent. Raises
    ConfigError where the key is not the owner's.
    """
    vault = str(to_checksum_address(str(deployment.vault.address)))
    change = change_of(rpc, vault, what[1], head_of(rpc))
    ((permissioned,),) = read(rpc, [Call(vault, "permissioned()", "bool")])
    shown = _shown(change, what[0], done=done) | {"permissioned": bool(permissioned), "transaction": None}
    if on_plan is not None:
        on_plan(shown)
    if owner is None or done or change.step == WAIT:
        return shown
    signer = keystore_signer(owner)
    if signer.address != change.owner:
        raise ConfigError(f"the owner of {vault} is {change.owner}, {owner.name} is the key of {signer.address}")
    receipt = send(deployment, rpc, signer, change.tx(deployment.chain.id))
    after = change_of(rpc, vault, what[1], head_of(rpc, receipt.block_number))
    ((permissioned,),) = read(rpc, [Call(vault, "permissioned()", "bool")])
    shown = _shown(after, what[0], done=change.step == EXECUTE)
    return shown | {"permissioned": bool(permissioned), "transaction": receipt.tx_hash}


def _shown(change: OwnerChange, words: str, *, done: bool) -> Shown:
    ready = None if done or not change.ready_at else datetime.fromtimestamp(change.ready_at, UTC).isoformat()
    return {
        "vault": change.vault, "words": words, "owner": change.owner, "delay_s": change.delay_s,
        "step": "done" if done else change.step, "ready_at": ready, "data": "0x" + change.data.hex(),
    }  # fmt: skip


def holders_of(deployment: VaultSettings, block: int | None = None) -> Shown:
    """Return who holds shares of the vault after ``block`` (None: the newest), and who may.

    {block, at, permissioned, strangers, holders: [{account, shares, share_bp, listed}], list: [{account, allowed, at,
    block, by, tx_hash}]}. ``strangers``: whether the vault lets an account nobody knows deposit, asked of the vault
    itself; None of past blocks. Raises ConfigError where the block is not there yet.
    """
    rpc, vault = _vault(deployment)
    newest = head_of(rpc, fees=False)
    number = newest.number if block is None else block
    if not 0 <= number <= newest.number:
        raise ConfigError(f"--block {number} is not there, the newest is {newest.number}")
    logs = since_creation(rpc, vault, newest.number)
    now, senders = at_block(logs, number), Senders(rpc)
    entered = None
    if block is None:
        ((most,),) = read(rpc, [Call(vault, "maxDeposit(address)", "uint256", (STRANGER,))], newest.hash)
        entered = cast("int", most) > 0
    rows = holders(logs, number).to_dicts()
    return {
        "vault": vault, "block": number, "at": senders.at(number).isoformat(), "permissioned": now.permissioned,
        "strangers": entered, "holders": rows, "list": _list(logs, number, senders),
        "shares": str(sum(int(r["shares"]) for r in rows)),
    }  # fmt: skip


def _list(logs: list[VaultLog], number: int, senders: Senders) -> list[Shown]:
    """Return every change of the list of holders up to a block: what, when, and who made it."""
    own = [g for g in logs if g.name in {"HolderSet", "PermissionedSet"} and g.block <= number]
    senders.know([g.block for g in own])
    return [
        {
            "account": g.args.get("account", "everybody"),
            "allowed": g.args.get("allowed", not g.args.get("permissioned")),
            "at": senders.at(g.block).isoformat(), "block": g.block, "by": senders.by(g.tx_hash), "tx_hash": g.tx_hash,
        }
        for g in own
    ]  # fmt: skip


def _vault(deployment: VaultSettings) -> tuple[Rpc, str]:
    """Return the node and the vault; ConfigError where it is none with a list of holders."""
    if deployment.vault.kind != "reference" or deployment.vault.address is None:
        raise ConfigError('only the reference vault has holders and a list of them: set [vault] kind = "reference"')
    rpc = rpc_of(deployment.chain)
    rpc.expect_chain(deployment.chain.id)
    return rpc, str(to_checksum_address(deployment.vault.address))


def _account(text: str, vault: str) -> str:
    """Return an address in its checksummed form; ConfigError where it is none, or cannot hold shares."""
    if not is_address(text):
        raise ConfigError(f"{text!r} is no address: 0x and 40 hex digits, with its checksum or all in one case")
    account = str(to_checksum_address(text))
    if account == vault or int(account, 16) == 0:
        raise ConfigError(
            f"{account} can never hold shares: it is {'the vault itself' if account == vault else 'nobody'}"
        )
    return account
