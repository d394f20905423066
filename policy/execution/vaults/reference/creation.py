"""Creating a reference vault so that doing it twice does nothing: every contract has one address, known beforehand.

Oracle, vault and the parts that vaults share are made by EIP-2470's factory (CREATE2): the address follows from the
code and its arguments, so what is there was made with exactly them, whoever sent it, and cannot be made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.answers import data, quantity
from lake.errors import ConfigError, ExecutionError, RpcError
from lake.evm import Call, calldata, read
from lake.rpc import Rpc
from lake.units import BPS
from policy.execution.base import UnsignedTx
from policy.execution.submission.reverts import reason_of
from policy.execution.vaults.reference.deployment import (
    REFUSALS,
    VaultSetup,
    auctions_code,
    investors_code,
    oracle_code,
    port_code,
    vault_code,
)
from policy.execution.vaults.singleton import DEPLOY, FACTORY, SALT, made_at

FACTORY_BPS = 12_000
"""Gas limit over the estimate of a creation alone; a sixty-fourth stays with the factory."""
CREATE_GAS, BYTE_GAS, DATA_GAS, SET_UP_GAS = 85_000, 200, 16, 1_100_000
"""What a creation costs where the node cannot be asked yet: base, a byte of code, a byte of calldata, the vault's
storage; EVM prices, the last as measured."""


@dataclass(frozen=True, slots=True)
class Creation:
    """A contract to be made: its creation code, the address that follows from it, the artefact it is compiled from."""

    words: str
    artefact: str
    code: bytes = field(repr=False)
    salt: bytes = SALT

    @property
    def address(self) -> str:
        """Where the factory puts it (EIP-1014)."""
        return made_at(self.code, self.salt)

    def transaction(self, chain_id: int) -> UnsignedTx:
        """Return the factory's call that makes it."""
        return UnsignedTx(chain_id, FACTORY, calldata(DEPLOY, self.code, self.salt))

    @property
    def usual_gas(self) -> int:
        """Gas it takes, roughly, where no node can say."""
        made = SET_UP_GAS if self.artefact == "foredrift_vault" else 0
        return CREATE_GAS + len(self.code) * (BYTE_GAS + DATA_GAS) + made


def creations(setup: VaultSetup, name: str) -> tuple[Creation, ...]:
    """Return what a vault called ``name`` takes, in the order it is made, the vault last.

    Its investors', orders' and port's parts are the same for all vaults of a chain. Raises ConfigError on a set-up the
    contract refuses.
    """
    oracle = Creation("the oracle: prices of the tokens, two sources each", "foredrift_oracle", oracle_code(setup))
    parts = (
        Creation("the investors' part: ERC-4626", "foredrift_investors", investors_code()),
        Creation("the orders' part: auctions", "foredrift_auctions", auctions_code(setup.venues)),
        Creation("the port: routes to other chains", "foredrift_port", port_code()),
    )
    code = vault_code(setup, oracle.address, *(p.address for p in parts))
    salt = keccak(text=f"foredrift vault {name}")
    return (oracle, *parts, Creation(f"the vault {setup.name} ({setup.symbol})", "foredrift_vault", code, salt))


def standing(rpc: Rpc, made: Sequence[Creation]) -> tuple[bool, ...]:
    """Return which of the contracts are there. ConfigError where the chain lacks the factory."""
    asks = [("eth_getCode", [a, "latest"]) for a in (FACTORY, *(c.address for c in made))]
    factory, *codes = [data(raw) for raw in rpc.batch(asks)]
    if not factory:
        raise ConfigError(
            f"there is no code at {FACTORY}, EIP-2470's factory, which makes the contracts: anyone may create it by "
            "the presigned transaction of that EIP; is [chain] the one you mean?"
        )
    return tuple(bool(code) for code in codes)


def gas_limit(rpc: Rpc, creation: Creation, sender: str) -> int:
    """Return the gas to make ``creation`` with: an estimate of its code alone, and room for the factory's call.

    The factory's own call cannot be estimated: it swallows that its creation ran out of gas, so too little passes, too.
    """
    alone = quantity(rpc.call("eth_estimateGas", [{"from": sender, "data": "0x" + creation.code.hex()}]))
    return alone * FACTORY_BPS // BPS + len(creation.code) * DATA_GAS + CREATE_GAS


def would_stand(rpc: Rpc, creation: Creation, sender: str) -> str:
    """Return why ``creation`` would fail now, in the contract's own word and in ours; empty: it would not.

    The factory swallows a constructor's refusal, so the code is executed once by itself where it fails.
    """
    tx = {"from": sender, "to": FACTORY, "data": "0x" + calldata(DEPLOY, creation.code, creation.salt).hex()}
    try:
        answer = data(rpc.call("eth_call", [tx, "latest"]))
    except RpcError as error:
        if error.code is None:
            raise
        answer = b""
    if answer and int.from_bytes(answer, "big") == int(creation.address, 16):
        return ""
    try:
        rpc.call("eth_call", [{"from": sender, "data": "0x" + creation.code.hex()}, "latest"])
    except RpcError as error:
        if error.code is None:
            raise
        said = reason_of(error.data, str(error))
        return f"{said!r}, {REFUSALS[said]}" if said in REFUSALS else said
    return "the factory does not make it; does the node allow so much gas in a call?"


def checked(rpc: Rpc, vault: str, setup: VaultSetup) -> None:
    """Raise ExecutionError unless the vault at ``vault`` answers as ``setup`` describes it: tokens, targets, roles."""
    asks = [
        Call(vault, "tokens()", "address[],uint256[],uint256[]"),
        *(Call(vault, f"{role}()", "address") for role in ("owner", "keeper", "guardian")),
    ]
    (tokens, _, targets), *roles = read(rpc, asks)
    wanted = [s.token for s in setup.sources], [s.target_bps for s in setup.sources]
    told = [to_checksum_address(t) for t in _rows(tokens)], [int(t) for t in _rows(targets)]
    people = [to_checksum_address(str(r[0])) for r in roles]
    named = [to_checksum_address(a) for a in (setup.owner, setup.keeper, setup.guardian)]
    if told != ([to_checksum_address(t) for t in wanted[0]], wanted[1]) or people != named:
        raise ExecutionError(
            f"the vault at {vault} was changed since it was created: it holds {told}, its owner, keeper and guardian "
            f"are {people}; the settings say {wanted} and {named}"
        )


def _rows(value: object) -> Sequence[str]:
    return value if isinstance(value, list | tuple) else ()
