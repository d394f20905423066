"""``vault settle`` and ``vault roles``, killed at any crossing and reorganised: each transaction lands once.

``FOREDRIFT_ALL_CASES=1`` runs every crossing x reorganisation of 0 to 2 blocks; the suite a sample of them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest

from lake.errors import ConfigError, ExecutionError
from lake.evm import Call, calldata, read
from pipelines.deployments import deployments
from pipelines.settings import load
from pipelines.stages.vault_roles import roles
from pipelines.stages.vault_settle import settle
from policy.execution.submission.signer import create_keystore, keystore_address
from policy.localnet.lagoon import lagoon_vault
from policy.localnet.market import Localnet, start
from tests.chain_fixtures import CLOCK, fresh
from tests.execution.chain_kit import landed
from tests.execution.vault_kit import need_lagoon
from tests.pipelines.golive_kit import Killed, killed_at, nonce
from tests.pipelines.test_lagoon_settings import USD, asks, toml, valuer_is_the_keeper

pytestmark = pytest.mark.chain
PHRASE = "local"
CROSSINGS = 6
"""Of one transaction: before and after it is written, before and after its bytes go, before and after its end is."""
ROOM = 4


@pytest.fixture(scope="module")
def market() -> Iterator[Localnet]:
    need_lagoon()
    with start(extras=[lagoon_vault()], at=CLOCK) as made:
        yield made


@pytest.fixture
def net(market: Localnet) -> Iterator[Localnet]:
    with fresh(market, ROOM) as made:
        made.node.automine = True
        yield made


@pytest.fixture
def file(net: Localnet, tmp_path, monkeypatch):
    """A project whose keeper is the vault's valuation manager, with a holder who wants to leave."""
    monkeypatch.setenv("FOREDRIFT_PASSPHRASE", PHRASE)
    for role in ("keeper", "owner"):
        create_keystore(tmp_path / f"{role}.json", PHRASE, net.accounts[role].key, iterations=2)
    made = tmp_path / "foredrift.toml"
    made.write_text(toml(net, "sign_nav = true"))
    valuer_is_the_keeper(net)
    net.mine(ROOM)
    return made


def counts(net: Localnet, file) -> tuple[int, int, int]:
    """Numbers used by the keeper's account, the owner's, and the Safe."""
    keeper, owner = (keystore_address(file.parent / f"{r}.json") for r in ("keeper", "owner"))
    ((safe,),) = read(net.rpc, [Call(net.world.extras["lagoon_safe"], "nonce()", "uint256")])
    return nonce(net.rpc, keeper), nonce(net.rpc, owner), safe


def used(net: Localnet, file, before: tuple[int, int, int]) -> tuple[int, ...]:
    return tuple(now - then for now, then in zip(counts(net, file), before, strict=True))


def one_of(file):
    [deployment] = deployments(load(file))
    return deployment


def settled(file) -> list[str | None]:
    """Value and settle as a person would, one run after another, until nothing waits; the hashes of what landed."""
    found = []
    for _ in range(8):
        told = settle(one_of(file), live=True, owner=file.parent / "owner.json")
        if told["step"] == "nothing":
            return found
        found.append(told["transaction"])
    raise AssertionError("it does not come to an end")


def installed(file) -> list[str | None]:
    """Install the role until nothing is left to sign."""
    told = roles(one_of(file), owner=file.parent / "owner.json")
    assert told["calls"] == []
    return [told["transaction"]]


def dies(monkeypatch, at: int, act: Callable[[], object]) -> str:
    """Let ``act`` die at crossing ``at`` and return its name."""
    with killed_at(monkeypatch, at) as seen, pytest.raises(Killed):
        act()
    return seen[-1]


def cases(transactions: int, sample: int) -> list[tuple[int, int]]:
    """Every crossing x reorganisation; a sample of them, the crossings evenly among them, in the suite."""
    every = [(at, depth) for at in range(1, CROSSINGS * transactions + 1) for depth in (0, 1, 2)]
    if os.environ.get("FOREDRIFT_ALL_CASES"):
        return every
    return random.Random(3).sample(every, sample)


@pytest.mark.parametrize(("at", "depth"), cases(2, 4))
def test_a_settlement_killed_anywhere_values_once_and_settles_once(net, file, monkeypatch, at, depth):
    asks(net, 1_000)
    net.mine(ROOM)
    before = counts(net, file)
    dies(monkeypatch, at, lambda: settled(file))
    if depth:
        net.reorg(depth)
    settled(file)
    assert used(net, file, before) == (1, 1, 1)
    after = settle(one_of(file))
    assert (after["step"], after["leaving"], after["nav"]) == ("nothing", "0", str(999_000 * USD))
    assert settled(file) == []
    assert used(net, file, before) == (1, 1, 1)


@pytest.mark.parametrize(("at", "depth"), cases(1, 3))
def test_a_role_killed_anywhere_is_installed_by_one_transaction_of_the_safe(net, file, monkeypatch, at, depth):
    file.write_text(file.read_text().replace("allowance_bps = 10_000", "allowance_bps = 1_000"))
    assert roles(one_of(file))["calls"] != []
    before = counts(net, file)
    dies(monkeypatch, at, lambda: installed(file))
    if depth:
        net.reorg(depth)
    installed(file)
    assert used(net, file, before) == (0, 1, 1)
    assert installed(file) == [None]
    assert used(net, file, before) == (0, 1, 1)


def test_what_changed_while_it_was_on_its_way_is_looked_at_again_and_not_settled_blindly(net, file, monkeypatch):
    """Killed after it valued; then somebody pushes a figure three times as high: it is refused, and valued anew."""
    asks(net, 1_000)
    dies(monkeypatch, CROSSINGS, lambda: settled(file))
    lie = calldata("updateNewTotalAssets(uint256)", 3_000_000 * USD)
    assert landed(net, "keeper", net.world.extras["lagoon"], lie).status == 1
    before = counts(net, file)
    told = settle(one_of(file), live=True, owner=file.parent / "owner.json")
    assert told["step"] == "value"
    assert settle(one_of(file))["pushed"] == str(1_000_000 * USD)
    settled(file)
    assert used(net, file, before) == (1, 1, 1)


def test_another_transaction_of_the_safe_in_between_makes_the_signed_one_void_and_a_new_one_is_signed(
    net, file, monkeypatch
):
    """The owner's signature is for the Safe's number: where that is used, the batch reverts, is told, and made anew."""
    asks(net, 1_000)
    settle(one_of(file), live=True)
    before = counts(net, file)
    dies(monkeypatch, 2, lambda: settled(file))  # written, never sent
    approve = calldata("approve(address,uint256)", net.accounts["trader"].address, 0)
    _by_another_way(net, net.world.token("USDC").address, approve)
    with pytest.raises(ExecutionError, match="reverted"):
        settled(file)
    settled(file)
    keeper, owner, safe = used(net, file, before)
    assert (keeper, safe) == (0, 2)
    assert owner >= 2
    assert settle(one_of(file))["step"] == "nothing"


def _by_another_way(net: Localnet, to: str, data: bytes) -> None:
    """Let the Safe make a call that somebody else pays for: the owner approves its hash, the trader sends it."""
    from policy.execution.vaults.safe.adapter import EXEC, ZERO

    safe, owner = net.world.extras["lagoon_safe"], net.accounts["owner"].address
    ((number,),) = read(net.rpc, [Call(safe, "nonce()", "uint256")])
    args = (to, 0, data, 0, 0, 0, 0, ZERO, ZERO, number)
    kind = "getTransactionHash(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,uint256)"
    ((hashed,),) = read(net.rpc, [Call(safe, kind, "bytes32", args)])
    from eth_account import Account

    signed = Account.unsafe_sign_hash(hashed, net.accounts["owner"].key)
    signature = signed.r.to_bytes(32, "big") + signed.s.to_bytes(32, "big") + bytes([signed.v])
    assert owner
    assert landed(net, "trader", safe, calldata(EXEC, *args[:-1], signature)).status == 1


def test_both_refuse_while_another_process_sends_for_the_same_key(net, file):
    from pipelines.vault_setup.sending import KEEPER, ahead_of
    from pipelines.wiring import rpc_of

    asks(net, 1_000)
    before = counts(net, file)
    one = one_of(file)
    with ahead_of(one, rpc_of(one.chain), KEEPER).held(), pytest.raises(ExecutionError, match="another process sends"):
        settle(one, live=True)
    settle(one, live=True)
    with ahead_of(one, rpc_of(one.chain)).held():
        with pytest.raises(ExecutionError, match="another process sends"):
            settle(one, live=True, owner=file.parent / "owner.json")
        file.write_text(file.read_text().replace("allowance_bps = 10_000", "allowance_bps = 1_000"))
        with pytest.raises((ExecutionError, ConfigError), match="another process sends"):
            roles(one_of(file), owner=file.parent / "owner.json")
    assert used(net, file, before) == (1, 0, 0)
