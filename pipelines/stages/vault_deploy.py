"""``foredrift vault deploy``: the reference vault and its oracle, shown first, then made; safe to run again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from eth_utils.address import to_checksum_address

from lake.errors import ConfigError, ExecutionError, ForedriftError
from lake.evm import Call, calldata, read
from lake.rpc import Rpc
from pipelines.deploy_section import DeploySection
from pipelines.stages.start import PLACE
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.ownership import owner_key, setup_of, verification_folder
from pipelines.vault_setup.sending import BUSY, OWNER, ahead_of, only
from pipelines.wiring import rpc_of
from policy.execution.base import UnsignedTx
from policy.execution.contracts.compile import contract
from policy.execution.contracts.verification import write_inputs
from policy.execution.probes.preflight import Listed, tokens_and_feeds
from policy.execution.records.hashlog import write_whole
from policy.execution.submission.signer import Signer
from policy.execution.submission.written_ahead import WrittenAhead
from policy.execution.vaults.reference.birth import unfit
from policy.execution.vaults.reference.creation import Creation, checked, creations, gas_limit, standing, would_stand
from policy.execution.vaults.reference.deployment import VaultSetup

Shown = dict[str, Any]
MOST = Decimal(10**15)
"""Units of a dollar coin beyond which an amount is a slip of the hand."""
FLOW_GAS = {"approve": 60_000, "deposit": 320_000}
"""Gas of the first deposit's two transactions, as measured."""


def deploy(
    deployment: VaultSettings,
    given: DeploySection,
    file: Path,
    *,
    live: bool = False,
    deposit: Decimal | None = None,
    on_plan: Callable[[Shown], None] | None = None,
) -> Shown:
    """Return the plan of the configured vault, and what became of it where ``live``.

    {vault, chain_id, sender, steps: [{words, address, done, gas}], cost_wei, written, verification}. ``deposit``: in
    units of the accounting asset, put into an empty vault by its owner. What was made is found by its address, what is
    on its way by the log; so the same command finishes what was interrupted, and repeated does nothing. Raises
    ConfigError where the settings, ExecutionError where the chain stands against it.
    """
    rpc = rpc_of(deployment.chain)
    rpc.expect_chain(deployment.chain.id)
    setup = setup_of(deployment, given, rpc)
    made = creations(setup, deployment.name)
    other = deployment.vault.address
    if other is not None and to_checksum_address(other) != made[-1].address:
        raise ConfigError(
            f"[vault] address is {other}, but these settings make {made[-1].address}: the vault that is there "
            "is changed by vault set-targets and set-mandate; for a new one take the address out"
        )
    ahead = ahead_of(deployment, rpc)
    plan = _plan(rpc, ahead, setup, made, deposit)
    if not plan["steps"][-1 if deposit is None else len(made) - 1]["done"]:
        _fit(rpc, deployment.portfolio.assets, setup, made)
    if on_plan is not None:
        on_plan(plan)
    if not live:
        return plan
    signer = owner_key(deployment, given)
    if signer.address != setup.owner:
        raise ConfigError(f"{given.owner} says {setup.owner}, its key is {signer.address}'s: the file was changed")
    try:
        with ahead.held():
            ahead.settle(only(signer))
            _make(rpc, ahead, made, signer)
            checked(rpc, made[-1].address, setup)
            _first_deposit(rpc, ahead, setup, made[-1].address, deposit, signer)
    except BlockingIOError:
        raise ExecutionError(BUSY.format(who=OWNER)) from None
    done = _plan(rpc, ahead, setup, made, deposit)
    done["written"] = str(_enter(file, made[-1].address))
    done["verification"] = [str(p) for p in write_inputs(verification_folder(deployment), _inputs(made))]
    return done


def amount_of(text: str | None) -> Decimal | None:
    """Return an amount given on the command line (``100000``, ``2_500.50``); ConfigError where it is none."""
    if text is None:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(0)
    if not value.is_finite() or not 0 < value < MOST:
        raise ConfigError(f"an amount is a positive number of units, such as 100000 or 2500.50, got {text!r}")
    return value


def _plan(rpc: Rpc, ahead: WrittenAhead, setup: VaultSetup, made: Sequence[Creation], deposit: Decimal | None) -> Shown:
    stands = standing(rpc, made)
    steps = [
        {"words": c.words, "address": c.address, "done": done, "gas": 0 if done else c.usual_gas}
        for c, done in zip(made, stands, strict=True)
    ]
    if deposit is not None:
        full = stands[-1] and _supply(rpc, made[-1].address) > 0
        steps += [
            {"words": f"{name} {deposit} of {setup.sources[0].token}", "address": made[-1].address, "done": full,
             "gas": 0 if full else gas}
            for name, gas in FLOW_GAS.items()
        ]  # fmt: skip
    gas = sum(int(str(s["gas"])) for s in steps)
    return {
        "vault": made[-1].address, "chain_id": ahead.chain_id, "sender": setup.owner, "keeper": setup.keeper,
        "guardian": setup.guardian, "delay_s": setup.delay_s, "mandate": repr(setup.mandate), "steps": steps,
        "gas": gas, "cost_wei": gas * ahead.fee_wei() if gas else 0, "balance_wei": ahead.node.balance(setup.owner),
        "terms": dict(zip(("hold_s", "entry_bps", "exit_bps"), setup.terms(), strict=True)),
        "written": None, "verification": [],
    }  # fmt: skip


def _fit(rpc: Rpc, assets: Sequence[str], setup: VaultSetup, made: Sequence[Creation]) -> None:
    """Raise ConfigError naming what stands against the vault: other or stale feeds, tokens that do not come back."""
    wrong = tokens_and_feeds(rpc, [
        Listed(asset, s.token, s.feed, s.decimals, s.feed_decimals, s.heartbeat_s, asset)
        for asset, s in zip(assets, setup.sources, strict=True)
    ])  # fmt: skip
    if not wrong:
        wrong = unfit(rpc, [(s.token, s.decimals, s.feed, s.feed_decimals) for s in setup.sources], setup.pools)
    if not wrong and not standing(rpc, made[:1])[0]:
        said = would_stand(rpc, made[0], setup.owner)
        wrong = [f"its oracle would be refused: {said}"] if said else []
    if wrong:
        raise ConfigError(f"the vault is not created: {'; '.join(wrong)}")


def _make(rpc: Rpc, ahead: WrittenAhead, made: Sequence[Creation], signer: Signer) -> None:
    """Make what is not there, one after the other."""
    for creation in made:
        if standing(rpc, [creation])[0]:
            continue
        said = would_stand(rpc, creation, signer.address)
        if said:
            raise ExecutionError(f"{creation.words} would be refused: {said}; nothing was signed for it")
        gas = gas_limit(rpc, creation, signer.address)
        ahead.send(creation.words, creation.transaction(ahead.chain_id), signer, gas)
        if not standing(rpc, [creation])[0]:
            raise ExecutionError(f"{creation.words} was sent, and there is no code at {creation.address}; run it again")


def _first_deposit(
    rpc: Rpc, ahead: WrittenAhead, setup: VaultSetup, vault: str, deposit: Decimal | None, signer: Signer
) -> None:
    """Put ``deposit`` into a vault that nobody has put anything into; an unknown outcome was looked up before."""
    if deposit is None or _supply(rpc, vault) > 0:
        return
    cash = setup.sources[0]
    amount = int(deposit * 10**cash.decimals)
    asks = [
        Call(cash.token, "balanceOf(address)", "uint256", (signer.address,)),
        Call(cash.token, "allowance(address,address)", "uint256", (signer.address, vault)),
    ]
    held, allowed = (int(str(r[0])) for r in read(rpc, asks))
    if amount <= 0 or held < amount:
        raise ExecutionError(
            f"{signer.address} holds {Decimal(held) / 10**cash.decimals} of {cash.token}, asked is a deposit of "
            f"{deposit}; the vault stands, send the owner the rest and run it again"
        )
    if allowed < amount:
        data = calldata("approve(address,uint256)", vault, amount)
        ahead.send(f"approve {deposit}", UnsignedTx(ahead.chain_id, cash.token, data), signer)
    data = calldata("deposit(uint256,address)", amount, signer.address)
    ahead.send(f"deposit {deposit}", UnsignedTx(ahead.chain_id, vault, data), signer)


def _supply(rpc: Rpc, vault: str) -> int:
    return int(str(read(rpc, [Call(vault, "totalSupply()", "uint256")])[0][0]))


def _inputs(made: Sequence[Creation]) -> list[tuple[str, str, bytes]]:
    return [(c.artefact, c.address, c.code[len(contract(c.artefact).bytecode) :]) for c in made]


def _enter(file: Path, address: str) -> Path | None:
    """Put the vault's address into the settings file at its place; None where it has none and does not need one."""
    text = file.read_text(encoding="utf-8")
    line = f'address = "{address}"'
    if address.lower() in text.lower():
        return file
    if PLACE not in text:
        raise ForedriftError(f"the vault stands at {address}: put {line} under [vault] of {file.name}")
    write_whole(file, text.replace(PLACE, line, 1).encode())
    return file
