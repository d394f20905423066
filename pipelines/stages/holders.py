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
from pipelines.vault_setup.sending import ahead_of, send_due
from pipelines.wiring import rpc_of
from policy.execution.base import UnsignedTx
from policy.execution.vaults.reference.history import VaultLog, at_block, since_creation
from policy.execution.vaults.reference.timelock import LAPSED, NEW, READY, WAITING, TimelockedCall, announced

Shown = dict[str, Any]
STRANGER = to_checksum_address(keccak(text="foredrift nobody")[:20])
"""An account nobody has: what the vault answers it, it answers every stranger."""
STEPS = {NEW: "announce", LAPSED: "announce", WAITING: "wait", READY: "execute"}
"""What is next of a change, by where it stands in the timelock."""


def list_holder(
    deployment: VaultSettings, account: str, *, allowed: bool, owner: Path | None = None,
    on_plan: Callable[[Shown], None] | None = None,
) -> Shown:  # fmt: skip
    """Put ``account`` on the list of holders or strike it off, through the timelock; see :func:`_changed`."""
    rpc, vault = _vault(deployment)
    holder = _account(account, vault)
    asks = Call(vault, "holder_allowed(address)", "bool", (holder,))
    words = f"{holder} {'may hold' if allowed else 'may no longer receive'} shares"
    change = TimelockedCall(words, calldata("set_holder(address,bool)", holder, allowed))
    return _changed(deployment, rpc, change, (asks, allowed), owner=owner, on_plan=on_plan)


def set_permissioned(
    deployment: VaultSettings, *, on: bool, owner: Path | None = None, on_plan: Callable[[Shown], None] | None = None
) -> Shown:
    """Let listed accounts alone hold shares (``on``), or anyone, through the timelock; see :func:`_changed`."""
    rpc, vault = _vault(deployment)
    words = "only listed accounts may hold shares" if on else "anyone may hold shares"
    change = TimelockedCall(words, calldata("set_permissioned(bool)", on))
    return _changed(deployment, rpc, change, (_permissioned(vault), on), owner=owner, on_plan=on_plan)


def _changed(
    deployment: VaultSettings, rpc: Rpc, change: TimelockedCall, wanted: tuple[Call, bool], *, owner: Path | None,
    on_plan: Callable[[Shown], None] | None,
) -> Shown:  # fmt: skip
    """Show a change and how far it is, and let ``owner``'s keystore take its next step; return it as it stands then.

    ``wanted``: what is asked of the vault, and the answer by which the change is made. Announced first, made after the
    delay: run it again to go on. Where it is made already, nothing is sent. Raises ConfigError where the key is not
    the owner's.
    """
    vault = wanted[0].to
    shown = _shown(rpc, vault, change, wanted)
    if on_plan is not None:
        on_plan(shown)
    if owner is None:
        return shown
    ahead, signer = ahead_of(deployment, rpc), keystore_signer(owner)
    if shown["step"] not in {"done", STEPS[WAITING]} and signer.address != shown["owner"]:
        raise ConfigError(f"the owner of {vault} is {shown['owner']}, {owner.name} is the key of {signer.address}")

    def due() -> UnsignedTx | None:
        if _done(rpc, wanted):
            return None
        return announced(rpc, vault, [change])[0].next(vault, deployment.chain.id)

    if shown["step"] in {"done", STEPS[WAITING]} and ahead.open() is None:
        return shown
    receipt = send_due(ahead, signer, f"{change.words} ({vault})", due)
    return _shown(rpc, vault, change, wanted) | {"transaction": None if receipt is None else receipt.tx_hash}


def _done(rpc: Rpc, wanted: tuple[Call, bool]) -> bool:
    ((told,),) = read(rpc, [wanted[0]])
    return bool(told) == wanted[1]


def _permissioned(vault: str) -> Call:
    return Call(vault, "permissioned()", "bool")


def _shown(rpc: Rpc, vault: str, change: TimelockedCall, wanted: tuple[Call, bool]) -> Shown:
    """Return how far a change is at the newest block."""
    head = head_of(rpc)
    asks = [Call(vault, "owner()", "address"), Call(vault, "delay()", "uint256"), _permissioned(vault), wanted[0]]
    (owner,), (delay_s,), (permissioned,), (told,) = read(rpc, asks, head.hash)
    (place,) = announced(rpc, vault, [change], head)
    done = bool(told) == wanted[1]
    ready = None if done or not place.ready_at else datetime.fromtimestamp(place.ready_at, UTC).isoformat()
    return {
        "vault": vault, "words": change.words, "owner": str(to_checksum_address(str(owner))), "delay_s": delay_s,
        "step": "done" if done else STEPS[place.state], "ready_at": ready, "data": "0x" + change.data.hex(),
        "permissioned": bool(permissioned), "transaction": None,
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
