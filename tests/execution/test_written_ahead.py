"""A person's transactions: written before they are sent, looked up, never sent twice, whatever goes wrong between."""

from __future__ import annotations

import pytest

from lake.errors import ExecutionError, RpcError
from lake.evm import Call, calldata, read
from lake.universe import chain
from policy.execution.base import UnsignedTx
from policy.execution.records.hashlog import HashLog
from policy.execution.submission.channels import PublicChannel
from policy.execution.submission.gas import fee_rules
from policy.execution.submission.node import JsonNode
from policy.execution.submission.signer import KeystoreSigner, create_keystore
from policy.execution.submission.written_ahead import StillPending, WrittenAhead

pytestmark = pytest.mark.chain


class Desk:
    """An owner's key on the local market, with a token to approve: what lands shows in the allowance."""

    def __init__(self, net, folder, *, mines=True):
        self.net, self.folder = net, folder
        path = folder / "owner.json"
        if not path.exists():
            create_keystore(path, "x", iterations=2)
        self.signer = KeystoreSigner(path, lambda: "x")
        net.anvil.rpc.call("anvil_setBalance", [self.signer.address, hex(10**19)])
        self.token = net.world.token("USDC").address
        self.mines = mines

    def ahead(self, patience=8):
        tick = (lambda: self.net.mine()) if self.mines else (lambda: None)
        log = HashLog(self.folder / "owner.log")
        return WrittenAhead(log, JsonNode(self.net.rpc), fee_rules(chain(31_337)), tick, patience=patience)

    def approve(self, amount):
        spender = self.net.world.contracts["v3_router"]
        return UnsignedTx(31_337, self.token, calldata("approve(address,uint256)", spender, amount))

    def allowance(self):
        ask = Call(
            self.token,
            "allowance(address,address)",
            "uint256",
            (self.signer.address, self.net.world.contracts["v3_router"]),
        )
        return read(self.net.rpc, [ask])[0][0]

    def nonce(self):
        return self.ahead().node.account_nonce(self.signer.address)

    def events(self):
        return [line.body["event"] for line in HashLog(self.folder / "owner.log").lines()]


@pytest.fixture
def desk(localnet, tmp_path):
    return Desk(localnet, tmp_path)


def test_what_is_sent_is_in_the_log_before_and_its_end_after(desk):
    ahead = desk.ahead()
    with ahead.held():
        receipt = ahead.send("approve", desk.approve(7), desk.signer)
        assert ahead.open() is None
        assert ahead.settle() is None
    assert receipt.status == 1
    assert (desk.allowance(), desk.nonce(), desk.events()) == (7, 1, ["signed", "landed"])


def test_an_answer_that_is_lost_is_looked_up_and_nothing_is_signed_again(desk, monkeypatch):
    """The node takes the bytes and the answer never comes; the next run finds the receipt."""
    real = PublicChannel.send

    def lost(self, *given):
        real(self, *given)
        raise ConnectionError("the line broke")

    with monkeypatch.context() as patch:
        patch.setattr(PublicChannel, "send", lost)
        ahead = desk.ahead()
        with pytest.raises(ConnectionError), ahead.held():
            ahead.send("approve", desk.approve(7), desk.signer)
    again = desk.ahead()
    with again.held():
        with pytest.raises(ExecutionError, match="not settled"):
            again.send("approve", desk.approve(8), desk.signer)
        assert again.settle().status == 1
    assert (desk.allowance(), desk.nonce(), desk.events()) == (7, 1, ["signed", "landed"])


def test_bytes_that_never_left_are_offered_again_as_they_are(desk, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(PublicChannel, "send", lambda *_: (_ for _ in ()).throw(RpcError("no node")))
        ahead = desk.ahead()
        with pytest.raises(RpcError), ahead.held():
            ahead.send("approve", desk.approve(7), desk.signer)
    assert desk.nonce() == 0
    again = desk.ahead()
    with again.held():
        first = again.open().hashes
        assert again.settle().tx_hash == first[0]
    assert (desk.allowance(), desk.nonce(), desk.events()) == (7, 1, ["signed", "landed"])


def test_a_fee_that_the_market_left_behind_is_raised_at_the_same_nonce_only(desk, monkeypatch):
    monkeypatch.setattr(PublicChannel, "send", _only_above(10**11))
    slow = Desk(desk.net, desk.folder, mines=True)
    ahead = slow.ahead(patience=3)
    with pytest.raises(StillPending), ahead.held():
        ahead.send("approve", desk.approve(7), desk.signer)
    desk.net.mine(base_fee_wei=10**11)
    again = slow.ahead(patience=20)
    monkeypatch.undo()
    with again.held():
        receipt = again.settle(lambda _: desk.signer)
    assert receipt is not None
    assert desk.allowance() == 7
    assert desk.nonce() == 1
    nonces = {line.body["nonce"] for line in HashLog(desk.folder / "owner.log").lines()}
    assert nonces == {0}
    assert desk.events().count("signed") >= 2


def _only_above(wei):
    """A channel that holds back whatever bids less than ``wei``: nothing is sent, the answer says nothing."""
    from policy.execution.submission.channels import Reply

    return lambda *_: Reply(None, f"held back below {wei}")


def test_another_transaction_at_its_number_voids_it(desk, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(PublicChannel, "send", _only_above(10**18))
        ahead = desk.ahead(patience=2)
        with pytest.raises(StillPending, match="sends nothing anew"), ahead.held():
            ahead.send("approve", desk.approve(7), desk.signer)
    other = WrittenAhead(
        HashLog(desk.folder / "other.log"), JsonNode(desk.net.rpc), fee_rules(chain(31_337)), lambda: desk.net.mine()
    )
    with other.held():
        other.send("approve something else", desk.approve(9), desk.signer)
    again = desk.ahead()
    with again.held():
        assert again.settle() is None
        assert again.open() is None
    assert (desk.allowance(), desk.nonce(), desk.events()) == (9, 1, ["signed", "void"])


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_block_that_is_replaced_reopens_it_and_it_lands_once(desk, depth):
    ahead = desk.ahead()
    with ahead.held():
        receipt = ahead.send("approve", desk.approve(7), desk.signer)
    desk.net.mine(depth - 1)
    desk.net.reorg(depth, drop=[receipt.tx_hash])
    assert desk.nonce() == 0
    again = desk.ahead()
    with again.held():
        assert again.open() is not None
        with pytest.raises(ExecutionError, match="not settled"):
            again.send("approve", desk.approve(8), desk.signer)
        assert again.settle().status == 1
    assert (desk.allowance(), desk.nonce()) == (7, 1)


def test_what_the_chain_would_refuse_is_not_signed(desk):
    tx = UnsignedTx(31_337, desk.token, calldata("transfer(address,uint256)", desk.token, 10**30))
    ahead = desk.ahead()
    with pytest.raises(ExecutionError, match=r"the chain would refuse it .*nothing was signed"), ahead.held():
        ahead.send("transfer", tx, desk.signer)
    assert desk.events() == []


def test_foreign_transactions_on_their_way_are_waited_for(desk):
    from eth_account import Account

    ahead = desk.ahead()
    head = ahead.node.head()
    tx = {"to": desk.token, "value": 0, "data": b"", "gas": 30_000, "maxFeePerGas": head.base_fee_wei * 3,
          "maxPriorityFeePerGas": 10**8, "nonce": 0, "chainId": 31_337, "type": 2}  # fmt: skip
    raw = desk.signer._do(lambda account: Account.sign_transaction(tx, account.key), "x").raw_transaction
    desk.net.rpc.call("eth_sendRawTransaction", ["0x" + bytes(raw).hex()])
    with pytest.raises(ExecutionError, match="1 transactions on their way"), ahead.held():
        ahead.send("approve", desk.approve(7), desk.signer)
    assert desk.events() == []


def test_one_process_at_a_time_and_a_damaged_log_stops_everything(desk):
    ahead = desk.ahead()
    with ahead.held():
        ahead.send("approve", desk.approve(7), desk.signer)
        with pytest.raises(BlockingIOError), desk.ahead().held():
            raise AssertionError("two at once")
    path = desk.folder / "owner.log"
    path.write_bytes(path.read_bytes().replace(b'"nonce":0', b'"nonce":1', 1))
    with pytest.raises(ExecutionError, match="was changed after it was written"):
        desk.ahead().open()
