# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Local double of a CCTP v2 TokenMessenger with its TokenMinter, for local chains and tests
@notice Same calls, events and burn layout as published. The body of its message: version 4 | burnt token 32 | recipient
        32 | amount 32 | sender 32 | most fee 32 | fee 32 | block of expiry 32 bytes, then the hook's data.
"""
interface Coin:
    def transferFrom(a: address, b: address, n: uint256) -> bool: nonpayable
    def burn(n: uint256): nonpayable
    def mint(a: address, n: uint256) -> bool: nonpayable

interface Transmitter:
    def sendMessage(d: uint32, r: bytes32, c: bytes32, f: uint32, b: Bytes[1024]): nonpayable

event DepositForBurn:
    burnToken: indexed(address)
    amount: uint256
    depositor: indexed(address)
    mintRecipient: bytes32
    destinationDomain: uint32
    destinationTokenMessenger: bytes32
    destinationCaller: bytes32
    maxFee: uint256
    minFinalityThreshold: indexed(uint32)
    hookData: Bytes[256]

event MintAndWithdraw:
    mintRecipient: indexed(address)
    amount: uint256
    mintToken: indexed(address)
    feeCollected: uint256

localMessageTransmitter: public(immutable(address))
messageBodyVersion: public(constant(uint32)) = 1
owner: public(address)
feeRecipient: public(address)
remoteTokenMessengers: public(HashMap[uint32, bytes32])
burnLimitsPerMessage: public(HashMap[address, uint256])
_local: HashMap[uint32, HashMap[bytes32, address]]


@deploy
def __init__(transmitter: address, fee_to: address):
    localMessageTransmitter = transmitter
    self.owner = msg.sender
    self.feeRecipient = fee_to


@external
@view
def localMinter() -> address:
    return self


@external
@view
def getLocalToken(domain: uint32, token: bytes32) -> address:
    return self._local[domain][token]


@external
def connect(domain: uint32, messenger: bytes32, remote: bytes32, local: address, most: uint256):
    assert msg.sender == self.owner
    self.remoteTokenMessengers[domain] = messenger
    self._local[domain][remote] = local
    self.burnLimitsPerMessage[local] = most


@external
def depositForBurn(amount: uint256, destinationDomain: uint32, mintRecipient: bytes32, burnToken: address, destinationCaller: bytes32, maxFee: uint256, minFinalityThreshold: uint32):
    assert amount > 0, "Amount must be nonzero"
    assert mintRecipient != empty(bytes32), "Mint recipient must be nonzero"
    assert maxFee < amount, "Max fee must be less than amount"
    there: bytes32 = self.remoteTokenMessengers[destinationDomain]
    assert there != empty(bytes32), "No TokenMessenger for domain"
    most: uint256 = self.burnLimitsPerMessage[burnToken]
    assert most > 0, "Burn token not supported"
    assert amount <= most, "Burn amount exceeds per tx limit"
    assert extcall Coin(burnToken).transferFrom(msg.sender, self, amount)
    extcall Coin(burnToken).burn(amount)
    body: Bytes[228] = concat(
        convert(messageBodyVersion, bytes4), convert(convert(burnToken, uint256), bytes32), mintRecipient, convert(amount, bytes32),
        convert(convert(msg.sender, uint256), bytes32), convert(maxFee, bytes32), empty(bytes32), empty(bytes32))
    extcall Transmitter(localMessageTransmitter).sendMessage(destinationDomain, there, destinationCaller, minFinalityThreshold, body)
    log DepositForBurn(burnToken=burnToken, amount=amount, depositor=msg.sender, mintRecipient=mintRecipient, destinationDomain=destinationDomain,
        destinationTokenMessenger=there, destinationCaller=destinationCaller, maxFee=maxFee, minFinalityThreshold=minFinalityThreshold, hookData=b"")


@external
def handleReceiveFinalizedMessage(remoteDomain: uint32, sender: bytes32, finality: uint32, messageBody: Bytes[1280]) -> bool:
    return self._mint(remoteDomain, sender, messageBody)


@external
def handleReceiveUnfinalizedMessage(remoteDomain: uint32, sender: bytes32, finality: uint32, messageBody: Bytes[1280]) -> bool:
    assert finality >= 500, "Unsupported finality threshold"
    return self._mint(remoteDomain, sender, messageBody)


@internal
def _mint(domain: uint32, sender: bytes32, body: Bytes[1280]) -> bool:
    assert msg.sender == localMessageTransmitter, "Invalid message transmitter"
    assert sender != empty(bytes32) and sender == self.remoteTokenMessengers[domain], "Remote TokenMessenger unsupported"
    expires: uint256 = convert(extract32(body, 196), uint256)
    assert expires == 0 or expires > block.number, "Message expired and must be re-signed"
    amount: uint256 = convert(extract32(body, 68), uint256)
    fee: uint256 = convert(extract32(body, 164), uint256)
    assert fee == 0 or fee < amount, "Fee equals or exceeds amount"
    assert fee <= convert(extract32(body, 132), uint256), "Fee exceeds max fee"
    token: address = self._local[domain][extract32(body, 4)]
    assert token != empty(address), "Mint token not supported"
    to: address = convert(convert(extract32(body, 36), uint256), address)
    assert extcall Coin(token).mint(to, amount - fee, default_return_value=True)
    if fee > 0:
        assert extcall Coin(token).mint(self.feeRecipient, fee, default_return_value=True)
    log MintAndWithdraw(mintRecipient=to, amount=amount - fee, mintToken=token, feeCollected=fee)
    return True
