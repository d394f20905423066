# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Local double of a LayerZero OFT adapter that burns and mints, for local chains and tests
@notice Same calls, events and message layout as published (recipient 32 | amount in shared decimals 8 bytes), over the
        published endpoint. It can be paused, rate limited in both directions, and keep a fee of what is sent, as OFTs
        with these extensions do.
"""
interface Coin:
    def transferFrom(a: address, b: address, n: uint256) -> bool: nonpayable
    def burn(n: uint256): nonpayable
    def mint(a: address, n: uint256) -> bool: nonpayable
    def decimals() -> uint8: view
    def totalSupply() -> uint256: view

struct SendParam:
    dstEid: uint32
    to: bytes32
    amountLD: uint256
    minAmountLD: uint256
    extraOptions: Bytes[256]
    composeMsg: Bytes[256]
    oftCmd: Bytes[32]

struct MessagingFee:
    nativeFee: uint256
    lzTokenFee: uint256

struct MessagingReceipt:
    guid: bytes32
    nonce: uint64
    fee: MessagingFee

struct OFTReceipt:
    amountSentLD: uint256
    amountReceivedLD: uint256

struct OFTLimit:
    minAmountLD: uint256
    maxAmountLD: uint256

struct OFTFeeDetail:
    feeAmountLD: int256
    description: String[32]

struct MessagingParams:
    dstEid: uint32
    receiver: bytes32
    message: Bytes[40]
    options: Bytes[256]
    payInLzToken: bool

struct Origin:
    srcEid: uint32
    sender: bytes32
    nonce: uint64

interface Endpoint:
    def quote(p: MessagingParams, sender: address) -> MessagingFee: view
    def send(p: MessagingParams, refund: address) -> MessagingReceipt: payable

event OFTSent:
    guid: indexed(bytes32)
    dstEid: uint32
    fromAddress: indexed(address)
    amountSentLD: uint256
    amountReceivedLD: uint256

event OFTReceived:
    guid: indexed(bytes32)
    srcEid: uint32
    toAddress: indexed(address)
    amountReceivedLD: uint256

sharedDecimals: public(immutable(uint8))
token: public(immutable(address))
endpoint: public(immutable(address))
owner: public(address)
paused: public(bool)
fee_bps: public(uint256)
peers: public(HashMap[uint32, bytes32])
_most_out: HashMap[uint32, uint256]  # 0: no limit
_most_in: HashMap[uint32, uint256]
_rate: immutable(uint256)


@deploy
def __init__(coin: address, lz_endpoint: address, shared: uint8):
    token = coin
    endpoint = lz_endpoint
    sharedDecimals = shared
    _rate = 10 ** convert(staticcall Coin(coin).decimals() - shared, uint256)
    self.owner = msg.sender


@external
@pure
def oftVersion() -> (bytes4, uint64):
    return 0x02e49c2c, 1


@external
@pure
def approvalRequired() -> bool:
    return True


@external
def setPeer(eid: uint32, peer: bytes32):
    assert msg.sender == self.owner
    self.peers[eid] = peer


@external
def set_paused(on: bool):
    assert msg.sender == self.owner
    self.paused = on


@external
def set_fee(bps: uint256):
    assert msg.sender == self.owner and bps < 10_000
    self.fee_bps = bps


@external
def set_limits(eid: uint32, out: uint256, inbound: uint256):
    """@notice The most that may still be sent to and received from `eid`, as a spent window leaves it; 0: no limit."""
    assert msg.sender == self.owner
    self._most_out[eid] = out
    self._most_in[eid] = inbound


@external
@view
def getAmountCanBeSent(eid: uint32) -> (uint256, uint256):
    most: uint256 = self._most_out[eid]
    return 0, most if most > 0 else max_value(uint256)


@external
@view
def getAmountCanBeReceived(eid: uint32) -> (uint256, uint256):
    most: uint256 = self._most_in[eid]
    return 0, most if most > 0 else max_value(uint256)


@internal
@view
def _debit_view(amount: uint256, least: uint256) -> (uint256, uint256):
    """@dev What is burnt of an amount and what arrives: dust stays, the fee is kept and cut to whole shared units."""
    sent: uint256 = amount // _rate * _rate
    received: uint256 = (sent - sent * self.fee_bps // 10_000) // _rate * _rate
    assert received >= least, "SlippageExceeded"
    return sent, received


@internal
@view
def _params(p: SendParam, received: uint256) -> MessagingParams:
    assert len(p.composeMsg) == 0 and len(p.oftCmd) == 0, "plain sends only"
    peer: bytes32 = self.peers[p.dstEid]
    assert peer != empty(bytes32), "NoPeer"
    shared: uint64 = convert(received // _rate, uint64)
    message: Bytes[40] = concat(p.to, convert(shared, bytes8))
    return MessagingParams(dstEid=p.dstEid, receiver=peer, message=message, options=p.extraOptions, payInLzToken=False)


@external
@view
def quoteOFT(p: SendParam) -> (OFTLimit, DynArray[OFTFeeDetail, 1], OFTReceipt):
    sent: uint256 = 0
    received: uint256 = 0
    sent, received = self._debit_view(p.amountLD, p.minAmountLD)
    most: uint256 = staticcall Coin(token).totalSupply()
    return OFTLimit(minAmountLD=0, maxAmountLD=most), [], OFTReceipt(amountSentLD=sent, amountReceivedLD=received)


@external
@view
def quoteSend(p: SendParam, inToken: bool) -> MessagingFee:
    sent: uint256 = 0
    received: uint256 = 0
    sent, received = self._debit_view(p.amountLD, p.minAmountLD)
    return staticcall Endpoint(endpoint).quote(self._params(p, received), self)


@external
@payable
def send(p: SendParam, fee: MessagingFee, refund: address) -> (MessagingReceipt, OFTReceipt):
    assert not self.paused, "EnforcedPause"
    assert msg.value == fee.nativeFee, "NotEnoughNative"
    most: uint256 = self._most_out[p.dstEid]
    assert most == 0 or p.amountLD <= most, "RateLimitExceeded"
    sent: uint256 = 0
    received: uint256 = 0
    sent, received = self._debit_view(p.amountLD, p.minAmountLD)
    assert extcall Coin(token).transferFrom(msg.sender, self, sent)
    extcall Coin(token).burn(received)  # the fee stays here
    made: MessagingReceipt = extcall Endpoint(endpoint).send(self._params(p, received), refund, value=msg.value)
    log OFTSent(guid=made.guid, dstEid=p.dstEid, fromAddress=msg.sender, amountSentLD=sent, amountReceivedLD=received)
    return made, OFTReceipt(amountSentLD=sent, amountReceivedLD=received)


@external
@view
def allowInitializePath(origin: Origin) -> bool:
    return self.peers[origin.srcEid] == origin.sender


@external
@view
def nextNonce(eid: uint32, sender: bytes32) -> uint64:
    return 0  # messages need no order


@external
@payable
def lzReceive(origin: Origin, guid: bytes32, message: Bytes[40], executor: address, extra: Bytes[32]):
    assert msg.sender == endpoint, "OnlyEndpoint"
    assert self.peers[origin.srcEid] == origin.sender, "OnlyPeer"
    assert not self.paused, "EnforcedPause"
    to: address = convert(convert(slice(message, 0, 32), uint256), address)
    amount: uint256 = convert(convert(slice(message, 32, 8), uint64), uint256) * _rate
    most: uint256 = self._most_in[origin.srcEid]
    assert most == 0 or amount <= most, "RateLimitExceeded"
    assert extcall Coin(token).mint(to, amount, default_return_value=True)
    log OFTReceived(guid=guid, srcEid=origin.srcEid, toAddress=to, amountReceivedLD=amount)
