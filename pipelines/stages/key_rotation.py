"""``foredrift keys rotate``: a new key for the keeper's or the guardian's role, by the timelock of every vault it has.

A run takes the step that is due: it makes the new keystore beside the old one and announces it; after the delay it
gives it the role; and once every vault says that the new key has the role, and not before, the old file is named void
and the new one takes its name. Killed anywhere, the same command goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_utils.address import to_checksum_address

from lake.errors import ConfigError
from lake.evm import Call, calldata, read
from lake.rpc import Rpc, quantity
from pipelines.deploy_section import DeploySection
from pipelines.settlements.reconcile import journal_of
from pipelines.stages.keys import files_of
from pipelines.stages.vault_changes import bring, is_owner, reference_vault
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.onchain import keystore_signer
from pipelines.vault_setup.ownership import owner_key
from pipelines.vault_setup.sending import ahead_of, send_due
from policy.execution.base import UnsignedTx
from policy.execution.records.hashlog import sync_folder
from policy.execution.submission.signer import create_keystore, keystore_address
from policy.execution.vaults.reference.timelock import GUARDIAN, KEEPER, READY, WAITING, TimelockedCall, to_role

Shown = dict[str, Any]
ROLES = {"keeper": KEEPER, "guardian": GUARDIAN}
NOBODY = "0x" + "0" * 40


@dataclass(frozen=True, slots=True)
class Rotation:
    """A role on its way to another key: ``file`` is the keystore that settings name, ``vaults`` all that it serves."""

    role: str
    file: Path
    vaults: tuple[VaultSettings, ...]

    @property
    def next(self) -> Path:
        """The new keystore until it takes the name of the old one."""
        return self.file.with_name(f"{self.file.stem}.next{self.file.suffix}")

    def void(self, address: str) -> Path:
        """The name of a keystore whose key has the role no longer."""
        return self.file.with_name(f"{self.file.stem}.void-{address}{self.file.suffix}")

    def voids(self) -> tuple[str, ...]:
        """The addresses of the keys that had the role before."""
        found = sorted(self.file.parent.glob(self.void("*").name))
        return tuple(p.name.removesuffix(p.suffix).rpartition("-")[2] for p in found)

    def holder(self, one: VaultSettings) -> str:
        """Return who has the role in a vault now; NOBODY where it was taken away."""
        rpc, vault = reference_vault(one)
        return str(to_checksum_address(str(read(rpc, [Call(vault.address, f"{self.role}()", "address")])[0][0])))


def rotate(
    vaults: Sequence[VaultSettings],
    given: DeploySection,
    role: str,
    phrase_of: Callable[[], str],
    *,
    live: bool = False,
    stolen: bool = False,
    again: bool = False,
    on_plan: Callable[[Shown], None] | None = None,
) -> Shown:
    """Take the next step towards another key of ``role`` in every vault that the first one's keystore serves.

    {role, file, old, new, void, vaults: [{vault, had, revoked, changes}], do}: ``new`` is None before it is made, and
    ``void`` names the old keystore once no vault gives its key the role. ``stolen``: the role is taken from the old key
    at once, before the new one waits out the delay. ``again``: begin anew though the role was rotated before. Raises
    ConfigError where the settings, the keys and the vaults do not fit; nothing is written then.
    """
    it = _rotation(vaults, given, role)
    old, voids = keystore_address(it.file), it.voids()
    new = _new_address(it)
    had = [it.holder(one) for one in it.vaults]
    over = new is None and bool(voids) and not again and NOBODY not in had
    new = old if over else new
    _require_known(it, had, {old, new or old, NOBODY, *(voids if over else ())})
    plan = _told(it, old, new, [_plan(it, one, new, had[i], given) for i, one in enumerate(it.vaults)], over=over)
    if on_plan is not None:
        on_plan(plan)
    if not live:
        return plan
    signer = owner_key(it.vaults[0], given)
    for one in it.vaults:
        is_owner(*reference_vault(one), signer.address)
    revoked = [stolen and not over and _revoked(it, one, given, old) for one in it.vaults]
    if new is None:
        new = create_keystore(it.next, phrase_of())
    _opens(it.file if over else it.next, new)
    rows = [_step(it, one, given, old, new) | {"revoked": revoked[i]} for i, one in enumerate(it.vaults)]
    void = None
    if not over and all(it.holder(one) == new for one in it.vaults):
        void = _swap(it, old)
    return _told(it, old, new, rows, over=over, void=void)


def _rotation(vaults: Sequence[VaultSettings], given: DeploySection, role: str) -> Rotation:
    """Return whose keystore it is and which vaults it serves; ConfigError where it cannot be rotated from here."""
    if role == "owner":
        raise ConfigError(
            "the owner's key is not rotated: the new owner has to accept; see the runbook, The owner's key is stolen"
        )
    if role not in ROLES:
        raise ConfigError(f"keys rotate takes keeper or guardian, got {role!r}")
    file = files_of(vaults[0], given).get(role)
    if file is None or not file.exists():
        raise ConfigError(f"there is no keystore of a {role} to replace ({file or 'not set'}): foredrift keys new")
    served = [d for d in vaults if d.vault.address is not None and files_of(d, given).get(role) == file]
    if role == "keeper":
        other = [f"{d.name} ({d.vault.kind})" for d in served if d.vault.kind != "reference"]
        if other:
            raise ConfigError(
                f"{file.name} is also the keeper of {', '.join(other)}, where its owners name the keeper (vault roles)"
            )
    served = [d for d in served if d.vault.kind == "reference"]
    if not served:
        raise ConfigError(f"no vault on a chain knows {file.name} yet: move it aside and run foredrift keys new")
    return Rotation(role, file, tuple(served))


def _new_address(it: Rotation) -> str | None:
    if not it.next.exists():
        return None
    try:
        return keystore_address(it.next)
    except ConfigError as error:
        raise ConfigError(
            f"{error}: it was not written to its end and no vault knows it; remove it, then run the same command"
        ) from None


def _require_known(it: Rotation, had: Sequence[str], known: set[str]) -> None:
    for one, holder in zip(it.vaults, had, strict=True):
        if holder not in known:
            raise ConfigError(
                f"the {it.role} of {one.name} is {holder}; the keystore {it.file.name} is the key of "
                f"{keystore_address(it.file)}: is it this vault? Nothing was changed"
            )


def _plan(it: Rotation, one: VaultSettings, new: str | None, had: str, given: DeploySection) -> Shown:
    """Return where the change stands in one vault; nothing is sent."""
    if new is None:
        words = f"{it.role}: a new key, which --live makes"
        changes = [{"words": words, "state": "new", "ready_at": None, "did": "nothing", "tx": None}]
        return {"vault": str(one.vault.address), "changes": changes, "had": had, "revoked": False}
    return bring(one, given, lambda _: _wanted(it, one, new)) | {"had": had, "revoked": False}


def _wanted(it: Rotation, one: VaultSettings, new: str) -> list[TimelockedCall]:
    return [] if it.holder(one) == new else [to_role(ROLES[it.role], new)]


def _revoked(it: Rotation, one: VaultSettings, given: DeploySection, old: str) -> bool:
    """Take the role away from ``old`` at once, where it has it; return whether this was done."""
    rpc, vault = reference_vault(one)

    def due() -> UnsignedTx | None:
        if it.holder(one) != old:
            return None
        return UnsignedTx(one.chain.id, vault.address, calldata(f"revoke_{it.role}()"))

    words = f"take the {it.role}'s role from {old} in {vault.address}"
    return send_due(ahead_of(one, rpc), owner_key(one, given), words, due) is not None


def _step(it: Rotation, one: VaultSettings, given: DeploySection, old: str, new: str) -> Shown:
    """Announce the new key in one vault, or give it the role; no plan of the old one may be on its way then."""
    had = it.holder(one)
    before = bring(one, given, lambda _: _wanted(it, one, new))
    states = {c["state"] for c in before["changes"]}
    if states == {WAITING}:
        return before | {"had": had}
    with _idle(it, one, needed=had == old and states == {READY}):
        done = bring(one, given, lambda _: _wanted(it, one, new), live=True)
    return done | {"had": had}


@contextmanager
def _idle(it: Rotation, one: VaultSettings, *, needed: bool = True) -> Iterator[None]:
    """Hold a keeper's vault, in which no plan is on its way; ConfigError where one is."""
    if not needed or it.role != "keeper":
        yield
        return
    journal = journal_of(one)
    with journal.lease():
        flight = journal.in_flight()
        if flight is not None:
            raise ConfigError(
                f"plan {flight.plan.decision_id} of {one.name} is on its way with the old key: foredrift rebalance "
                "--live finds out what became of it, then run the same command"
            )
        yield


def _opens(file: Path, address: str) -> None:
    """Raise ConfigError where the new keystore does not open to the address it names: no vault is given such a key."""
    found = keystore_signer(file).address
    if found != address:
        raise ConfigError(f"{file.name} says {address}, its key is {found}'s: the file was changed")


def _swap(it: Rotation, old: str) -> str:
    """Name the old keystore void and give the new one its name; at every moment there is a keystore of that name."""

    def moved(vaults: Sequence[VaultSettings]) -> None:
        if vaults:
            with _idle(it, vaults[0]):
                moved(vaults[1:])
            return
        if not it.void(old).exists():
            os.link(it.file, it.void(old))
        it.next.replace(it.file)
        sync_folder(it.file.parent)

    moved(it.vaults)
    return str(it.void(old))


def _told(it: Rotation, old: str, new: str | None, rows: list[Shown], *, over: bool, void: str | None = None) -> Shown:
    """Return what is shown, with what a person has to do besides."""
    do = []
    ready = [str(c["ready_at"]) for r in rows for c in r["changes"] if c["ready_at"] and c["did"] != "made"]
    if over and not any(r["changes"] for r in rows):
        do.append(f"nothing is open: {old} has the role since the last rotation; --again begins another one")
    if ready:
        do.append(f"run the same command again at {max(ready)}")
    if new is not None and new != old and it.role == "keeper" and not _money(it, new):
        do.append(f"send the new keeper {new} gas money")
    pinned = [d.name for d in it.vaults if d.vault.keeper and new and d.vault.keeper.lower() != new.lower()]
    if void is not None:
        do += [f"{name}: set [vault] keeper to {new}" for name in pinned if it.role == "keeper"]
        do.append(f"copy {it.file.name} to the machine that uses it, and take what is left of the gas money from {old}")
    return {
        "role": it.role, "file": str(it.file), "old": old, "new": new, "void": void, "vaults": rows, "do": do,
    }  # fmt: skip


def _money(it: Rotation, address: str) -> bool:
    def some(rpc: Rpc) -> bool:
        return quantity(rpc.call("eth_getBalance", [address, "latest"])) > 0

    return all(some(reference_vault(one)[0]) for one in it.vaults)
