"""The pool rules of a real node: without a chain where possible, over the front where it matters."""

from __future__ import annotations

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import RpcError
from lake.rpc import Rpc, quantity
from policy.localnet.accounts import dev_accounts
from policy.localnet.faults import Fault, FaultKind
from policy.localnet.mempool import Mempool, PooledTx, decode, outbids, validate

GWEI = 10**9
NAMES = ["a", "b", "c"]


def tx(sender="a", nonce=0, cap=100, tip=10, gas=21_000, private=False, max_block=None, tag=""):
    name = f"{sender}{nonce}:{cap}:{tip}:{private}{tag}"
    return PooledTx(name, b"", sender, nonce, cap, tip, gas, "0x", 0, b"", 1, private, max_block)


orders = st.lists(
    st.builds(tx, st.sampled_from(NAMES), st.integers(0, 4), st.integers(50, 200), st.integers(1, 50)), max_size=14
)


@given(orders, st.integers(60, 150))
def test_a_block_is_ordered_by_tip_with_nonces_in_sequence(txs, fee):
    pool = Mempool()
    for t in txs:
        try:
            pool.add(t)
        except RpcError:
            continue
    block = pool.choose(fee, dict.fromkeys(NAMES, 0), 30_000_000, 1)
    seen = dict.fromkeys(NAMES, 0)
    for position, t in enumerate(block):
        assert t.nonce == seen[t.sender]
        seen[t.sender] += 1
        assert t.cap_wei >= fee
        later = [u for u in block[position + 1 :] if u.nonce == seen.get(u.sender, 0) and u.sender != t.sender]
        assert all(u.effective_tip(fee) <= t.effective_tip(fee) for u in later if u.nonce == 0)
    waiting = {k for k in pool.public if k not in {t.key for t in block}}
    for sender, nonce in waiting:  # left out only for its price or a gap below it
        payable = pool.public[sender, nonce].cap_wei >= fee
        assert not payable or nonce > seen[sender]


@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(1, 1200), st.integers(1, 1200))
def test_a_replacement_needs_ten_percent_on_both_caps(cap, tip, new_cap, new_tip):
    wanted = new_cap >= cap * 1.1 - 1e-9 and new_tip >= tip * 1.1 - 1e-9 and new_cap > cap and new_tip > tip
    assert outbids(tx(cap=new_cap, tip=new_tip), tx(cap=cap, tip=tip)) == wanted


def test_replacing_in_the_pool():
    pool = Mempool()
    pool.add(tx(cap=100, tip=10))
    for cap, tip in ((109, 20), (200, 10), (100, 11)):
        with pytest.raises(RpcError, match="replacement transaction underpriced"):
            pool.add(tx(cap=cap, tip=tip))
    with pytest.raises(RpcError, match="already known"):
        pool.add(tx(cap=100, tip=10))
    pool.add(tx(cap=110, tip=11))
    assert [t.cap_wei for t in pool.public.values()] == [110]
    assert pool.pending_nonce("a", 0) == 1


def test_a_private_pool_never_answers_underpriced_and_expires():
    pool = Mempool()
    pool.add(tx(cap=100, tip=10, private=True, max_block=5))
    pool.add(tx(cap=101, tip=10, private=True, max_block=5))
    assert len(pool.private) == 2
    assert pool.pending_nonce("a", 0) == 0  # nobody sees it
    assert len(pool.choose(50, {"a": 0}, 10**7, 5)) == 1
    assert pool.choose(50, {"a": 0}, 10**7, 6) == []
    assert pool.cancel_private(tx(cap=100, tip=10, private=True).hash)
    assert not pool.cancel_private("0x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chain_id": 2}, "invalid chain id"),
        ({"tip": 101}, "priority fee per gas higher"),
        ({"gas": 20_999}, "intrinsic gas too low"),
        ({"gas": 10**8}, "exceeds block gas limit"),
        ({"nonce": 3}, "nonce too low"),
        ({"cap": 10**9}, "insufficient funds"),
    ],
)
def test_a_node_refuses_in_geths_words(change, words):
    chain = change.pop("chain_id", 1)
    with pytest.raises(RpcError, match=words):
        validate(tx(**{"nonce": 4, **change}), chain, 4, 10**10, 30_000_000)
    validate(tx(nonce=4), 1, 4, 10**10, 30_000_000)


@pytest.mark.parametrize("raw", ["0x", "0x02", "0x02c0", "0xf86c", "0x02f8ff00"])
def test_garbage_is_refused_not_raised(raw):
    with pytest.raises(RpcError):
        decode(raw)


def signed(role="trader", nonce=0, tip=GWEI, cap=50 * GWEI, to="keeper", value=1):
    accounts = dev_accounts()
    fields = {"type": 2, "chainId": 31337, "nonce": nonce, "to": accounts[to].address, "value": value, "data": b""}
    fields |= {"gas": 21_000, "maxFeePerGas": cap, "maxPriorityFeePerGas": tip}
    made = Account.sign_transaction(fields, accounts[role].key)
    return "0x" + bytes(made.raw_transaction).hex(), "0x" + bytes(made.hash).hex()


def nonce_of(net, role, tag="latest"):
    return quantity(net.rpc.call("eth_getTransactionCount", [net.accounts[role].address, tag]))


def block_hashes(net):
    return net.rpc.call("eth_getBlockByNumber", ["latest", False])["transactions"]


@pytest.mark.chain
class TestFront:
    def test_ordering_and_pending_nonce(self, localnet):
        net = localnet
        base = {r: nonce_of(net, r) for r in ("trader", "keeper", "investor")}
        low, low_hash = signed("trader", base["trader"], tip=GWEI)
        high, high_hash = signed("keeper", base["keeper"], tip=5 * GWEI)
        capped, capped_hash = signed(
            "investor", base["investor"], tip=3 * GWEI, cap=3 * GWEI
        )  # earns the rest over the base fee
        after, after_hash = signed("trader", base["trader"] + 1, tip=20 * GWEI)
        for raw in (low, high, capped, after):
            net.rpc.call("eth_sendRawTransaction", [raw])
        assert nonce_of(net, "trader") == base["trader"]
        assert nonce_of(net, "trader", "pending") == base["trader"] + 2
        assert net.rpc.call("eth_getTransactionByHash", [low_hash])["blockNumber"] is None
        net.mine()
        assert block_hashes(net) == [high_hash, capped_hash, low_hash, after_hash]

    def test_underpriced_waits_until_the_base_fee_falls(self, localnet):
        net = localnet
        raw, sent = signed(nonce=nonce_of(net, "trader"), tip=1, cap=2 * GWEI)
        net.mine(base_fee_wei=4 * GWEI)
        net.rpc.call("eth_sendRawTransaction", [raw])
        fees = []
        for _ in range(20):
            fees.append(net.mine().base_fee_wei)
            if net.receipt(sent):
                break
        assert fees[-1] <= 2 * GWEI < fees[-2]

    def test_replacement_over_the_front(self, localnet):
        net = localnet
        nonce = nonce_of(net, "trader")
        first, first_hash = signed(nonce=nonce, tip=GWEI, cap=10 * GWEI)
        net.rpc.call("eth_sendRawTransaction", [first])
        with pytest.raises(RpcError, match="already known"):
            net.rpc.call("eth_sendRawTransaction", [first])
        with pytest.raises(RpcError, match="replacement transaction underpriced") as caught:
            net.rpc.call("eth_sendRawTransaction", [signed(nonce=nonce, tip=GWEI + 1, cap=10 * GWEI + 1)[0]])
        assert caught.value.code == -32000
        bump, bump_hash = signed(nonce=nonce, tip=GWEI * 11 // 10, cap=11 * GWEI)
        net.rpc.call("eth_sendRawTransaction", [bump])
        net.mine()
        assert net.receipt(bump_hash)["status"] == "0x1"
        assert net.receipt(first_hash) is None
        with pytest.raises(RpcError, match="nonce too low"):
            net.rpc.call("eth_sendRawTransaction", [signed(nonce=nonce, tip=9 * GWEI)[0]])

    def test_private_transactions_are_unseen_and_can_be_taken_back(self, localnet):
        net = localnet
        raw, sent = signed(nonce=nonce_of(net, "trader"))
        assert net.rpc.call("eth_sendPrivateTransaction", [{"tx": raw}]) == sent
        assert net.rpc.call("eth_getTransactionByHash", [sent]) is None
        assert nonce_of(net, "trader", "pending") == nonce_of(net, "trader")
        assert net.rpc.call("eth_cancelPrivateTransaction", [{"txHash": sent}]) is True
        net.mine()
        assert net.receipt(sent) is None
        top = hex(net.node.head().number + 1)
        net.rpc.call("eth_sendPrivateTransaction", [{"tx": raw, "maxBlockNumber": top}])
        net.mine()
        assert net.receipt(sent)["status"] == "0x1"

    def test_a_leaky_relay_mines_what_it_reported_cancelled_and_expired(self, localnet):
        net = localnet
        net.node.leaky_relay = True
        raw, sent = signed(nonce=nonce_of(net, "trader"), cap=2 * GWEI, tip=1)
        net.mine(base_fee_wei=3 * GWEI)
        last = hex(net.node.head().number + 1)
        net.rpc.call("eth_sendPrivateTransaction", [{"tx": raw, "maxBlockNumber": last}])
        net.mine()
        assert net.rpc.call("eth_cancelPrivateTransaction", [{"txHash": sent}]) is True
        net.mine(10)
        assert quantity(net.receipt(sent)["blockNumber"]) > int(last, 16)

    @pytest.mark.parametrize("good", [True, False])
    def test_a_bundle_lands_whole_or_not_at_all(self, localnet, good):
        net = localnet
        first, first_hash = signed("trader", nonce_of(net, "trader"), tip=GWEI)
        weth = net.world.contracts["weth"]
        fields = {"type": 2, "chainId": 31337, "nonce": nonce_of(net, "keeper"), "to": weth, "value": 0, "gas": 60_000}
        wad = 1 if good else 2**200  # WETH9.withdraw of more than one has reverts
        fields |= {"maxFeePerGas": 50 * GWEI, "maxPriorityFeePerGas": GWEI}
        fields["data"] = bytes.fromhex("2e1a7d4d") + wad.to_bytes(32, "big")
        made = Account.sign_transaction(fields, net.accounts["keeper"].key)
        second, second_hash = "0x" + bytes(made.raw_transaction).hex(), "0x" + bytes(made.hash).hex()
        block = hex(net.node.head().number + 1)
        net.rpc.call("eth_sendBundle", [{"txs": [first, second], "blockNumber": block}])
        bystander, bystander_hash = signed("investor", nonce_of(net, "investor"), tip=30 * GWEI)
        net.rpc.call("eth_sendRawTransaction", [bystander])
        net.mine()
        assert block_hashes(net) == ([first_hash, second_hash, bystander_hash] if good else [bystander_hash])
        net.mine()
        assert (net.receipt(first_hash) is not None) == good  # a bundle is for its block only

    def test_a_reorg_sets_transactions_free_again(self, localnet):
        net = localnet
        raw, sent = signed(nonce=nonce_of(net, "trader"))
        lost, lost_hash = signed("keeper", nonce_of(net, "keeper"))
        net.mine()
        for each in (raw, lost):
            net.rpc.call("eth_sendRawTransaction", [each])
        before = net.mine()
        net.mine()
        freed = net.reorg(2, drop=[lost_hash])
        assert set(freed) == {sent, lost_hash}
        assert net.receipt(sent) is None
        assert net.node.head().number == before.number + 1
        header = net.rpc.call("eth_getBlockByNumber", [hex(before.number), False])
        assert header["hash"] != before.hash
        net.mine(2)
        assert net.receipt(sent)["status"] == "0x1"
        assert net.receipt(lost_hash) is None

    def test_reads_pass_at_a_block_hash_and_errors_keep_their_data(self, localnet):
        net = localnet
        head = net.node.head()
        found = net.rpc.call("eth_getBlockByHash", [head.hash, False])
        assert quantity(found["number"]) == head.number
        with pytest.raises(RpcError) as caught:  # transferFrom without allowance
            net.rpc.call(
                "eth_call", [{"to": net.world.tokens["USDC"].address, "data": "0x23b872dd" + "11" * 96}, "latest"]
            )
        assert caught.value.code == 3
        with pytest.raises(RpcError, match="invalid params"):
            net.rpc.call("eth_sendRawTransaction", [])


@pytest.mark.chain
class TestFaults:
    @pytest.mark.parametrize("kind", [FaultKind.TIMEOUT, FaultKind.HTTP_429, FaultKind.HTTP_502, FaultKind.TRUNCATED])
    def test_reads_get_over_passing_faults(self, localnet, kind):
        rpc = Rpc(localnet.url, timeout=60, sleep=lambda _: None)
        fault = localnet.faults.add(Fault(kind, times=2, hold_s=0.05))
        assert quantity(rpc.call("eth_blockNumber")) == localnet.node.head().number
        assert fault.struck == 2

    def test_a_lost_reply_has_acted_a_timeout_has_not(self, localnet):
        net = localnet
        rpc = Rpc(net.url, timeout=60, sleep=lambda _: None)
        nonce = nonce_of(net, "trader")
        for kind, acted in ((FaultKind.TIMEOUT, False), (FaultKind.LOST_REPLY, True)):
            raw, sent = signed(nonce=nonce)
            net.faults.add(Fault(kind, ["eth_sendRawTransaction"], hold_s=0.02))
            with pytest.raises(RpcError, match="look it up"):
                rpc.call("eth_sendRawTransaction", [raw])
            assert (rpc.call("eth_getTransactionByHash", [sent]) is not None) == acted

    def test_a_lagging_node_knows_nothing_new(self, localnet):
        net = localnet
        raw, sent = signed(nonce=nonce_of(net, "trader"))
        before = nonce_of(net, "trader")
        net.rpc.call("eth_sendRawTransaction", [raw])
        head = net.mine()
        net.faults.add(Fault(FaultKind.LAGGING, times=None, blocks=2))
        assert quantity(net.rpc.call("eth_blockNumber")) == head.number - 2
        assert nonce_of(net, "trader") == before
        assert net.receipt(sent) is None
        assert net.rpc.call("eth_getTransactionByHash", [sent])["blockNumber"] is None
        net.faults.clear()
        assert net.receipt(sent) is not None
        assert nonce_of(net, "trader") == before + 1

    def test_wrong_chain_lies_and_errors(self, localnet):
        net = localnet
        net.faults.add(Fault(FaultKind.WRONG_CHAIN, times=None, chain_id=5))
        with pytest.raises(RpcError, match="serves chain id 5"):
            Rpc(net.url).expect_chain(31337)
        net.faults.clear()
        double = Fault(FaultKind.LYING, ["eth_getBalance"], change=lambda _m, _p, r: hex(2 * int(r, 16)))
        me = net.accounts["trader"].address
        truth = quantity(net.rpc.call("eth_getBalance", [me, "latest"]))
        net.faults.add(double)
        assert quantity(net.rpc.call("eth_getBalance", [me, "latest"])) == 2 * truth
        net.faults.add(Fault(FaultKind.ERROR, ["eth_getBalance"], skip=1, code=-32_000, message="not for you"))
        assert quantity(net.rpc.call("eth_getBalance", [me, "latest"])) == truth
        with pytest.raises(RpcError, match="not for you"):
            net.rpc.call("eth_getBalance", [me, "latest"])


@pytest.mark.chain
def test_relay_signatures_are_checked(localnet):
    import httpx
    from eth_account.messages import encode_defunct
    from eth_utils.crypto import keccak

    identity = localnet.accounts["identity"]
    body = b'{"jsonrpc":"2.0","id":1,"method":"eth_cancelPrivateTransaction","params":[{"txHash":"0x00"}]}'
    made = Account.sign_message(encode_defunct(text="0x" + keccak(body).hex()), identity.key)
    good = {"X-Flashbots-Signature": f"{identity.address}:0x{bytes(made.signature).hex()}"}
    localnet.front.signed_relay = True
    try:
        assert httpx.post(localnet.url, content=body, headers=good).json()["result"] is False
        stolen = {"X-Flashbots-Signature": good["X-Flashbots-Signature"].replace(identity.address, "0x" + "11" * 20)}
        for headers in ({}, stolen, {"X-Flashbots-Signature": "0x:0xzz"}):
            assert "signature" in httpx.post(localnet.url, content=body, headers=headers).json()["error"]["message"]
    finally:
        localnet.front.signed_relay = False


class Identity:
    """Signs relay requests with the account that holds nothing."""

    def __init__(self, account):
        self.address, self.key = account.address, account.key

    def sign_message(self, text):
        from eth_account.messages import encode_defunct

        return "0x" + bytes(Account.sign_message(encode_defunct(text=text), self.key).signature).hex()


@pytest.mark.chain
@pytest.mark.parametrize("kind", ["public", "private", "signed", "bundle", "share"])
def test_every_channel_of_the_execution_path_lands_here(localnet, kind):
    from policy.execution.submission import channels

    net = localnet
    signed_relay = channels.SignedRelay(net.url, Identity(net.accounts["identity"]))
    channel = {
        "public": lambda: channels.PublicChannel(net.rpc),
        "private": lambda: channels.PrivateChannel(net.rpc),
        "signed": lambda: channels.PrivateChannel(signed_relay),
        "bundle": lambda: channels.BundleChannel(signed_relay),
        "share": lambda: channels.ShareChannel(signed_relay),
    }[kind]()
    net.front.signed_relay = kind in {"signed", "bundle", "share"}
    try:
        raw, sent = signed(nonce=nonce_of(net, "trader"))
        data, first = bytes.fromhex(raw[2:]), net.node.head().number + 1
        assert channel.send(data, sent, first, first + 3).taken
        assert (net.node.pool.find(sent) is None) == channel.private
        if kind in {"private", "signed", "bundle"}:
            assert channel.cancel(sent).taken
            net.mine(5)
            assert net.receipt(sent) is None
            assert channel.send(data, sent, first + 5, first + 8).taken
        net.mine(4)
        assert net.receipt(sent)["status"] == "0x1"
    finally:
        net.front.signed_relay = False


@pytest.mark.chain
def test_web3_works_through_the_front(automining):
    from web3 import Web3

    w3 = Web3(Web3.HTTPProvider(automining.url))
    assert w3.eth.chain_id == 31337
    me, other = automining.accounts["trader"].address, automining.accounts["keeper"].address
    sent = w3.eth.send_transaction({"from": me, "to": other, "value": 7})
    receipt = w3.eth.wait_for_transaction_receipt(sent, poll_latency=0.005)
    assert receipt["status"] == 1
    assert w3.eth.get_transaction(sent)["value"] == 7
