# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Local double of a CCTP v2 MessageTransmitter, for local chains and tests
@notice Same calls, events and message layout as published, none of its administration. Its header: version 4 | source 4
        | destination 4 | nonce 32 | sender 32 | recipient 32 | caller 32 | least finality 4 | finality 4 bytes, then
        the body. On the source chain nonce and finality are empty: the attestation service fills them in.
"""
interface Handler:
    def handleReceiveFinalizedMessage(domain: uint32, sender: bytes32, finality: uint32, body: Bytes[1280]) -> bool: nonpayable
    def handleReceiveUnfinalizedMessage(domain: uint32, sender: bytes32, finality: uint32, body: Bytes[1280]) -> bool: nonpayable

event MessageSent:
    message: Bytes[1280]

event MessageReceived:
    caller: indexed(address)
    sourceDomain: uint32
    nonce: indexed(bytes32)
    sender: bytes32
    finalityThresholdExecuted: indexed(uint32)
    messageBody: Bytes[1280]

version: public(constant(uint32)) = 1
FINALIZED: constant(uint32) = 2000
localDomain: public(immutable(uint32))
owner: public(address)
paused: public(bool)
signatureThreshold: public(uint256)
isEnabledAttester: public(HashMap[address, bool])
usedNonces: public(HashMap[bytes32, uint256])


@deploy
def __init__(domain: uint32, attesters: DynArray[address, 4], threshold: uint256):
    localDomain = domain
    self.owner = msg.sender
    assert threshold > 0 and threshold <= len(attesters)
    self.signatureThreshold = threshold
    for x: address in attesters:
        self.isEnabledAttester[x] = True
    self.usedNonces[empty(bytes32)] = 1


@external
def set_paused(on: bool):
    assert msg.sender == self.owner
    self.paused = on


@external
def rotate(old: address, new: address):
    assert msg.sender == self.owner
    self.isEnabledAttester[old] = False
    self.isEnabledAttester[new] = True


@external
def sendMessage(destinationDomain: uint32, recipient: bytes32, destinationCaller: bytes32, minFinalityThreshold: uint32, messageBody: Bytes[1024]):
    assert not self.paused, "Pausable: paused"
    assert destinationDomain != localDomain, "Domain is local domain"
    assert recipient != empty(bytes32), "Recipient must be nonzero"
    head: Bytes[148] = concat(
        convert(version, bytes4), convert(localDomain, bytes4), convert(destinationDomain, bytes4), empty(bytes32),
        convert(convert(msg.sender, uint256), bytes32), recipient, destinationCaller, convert(minFinalityThreshold, bytes4), empty(bytes4))
    log MessageSent(message=concat(head, messageBody))


@external
def receiveMessage(message: Bytes[1280], attestation: Bytes[260]) -> bool:
    assert not self.paused, "Pausable: paused"
    assert len(attestation) == 65 * self.signatureThreshold, "Invalid attestation length"
    digest: bytes32 = keccak256(message)
    latest: uint256 = 0
    for i: uint256 in range(self.signatureThreshold, bound=4):
        signer: address = ecrecover(digest, convert(slice(attestation, i * 65 + 64, 1), uint8), extract32(attestation, i * 65), extract32(attestation, i * 65 + 32))
        assert convert(signer, uint256) > latest, "Invalid signature order or dupe"
        assert self.isEnabledAttester[signer], "Invalid signature: not attester"
        latest = convert(signer, uint256)
    assert len(message) >= 148, "Invalid message: too short"
    assert convert(slice(message, 0, 4), uint32) == version, "Invalid message version"
    assert convert(slice(message, 8, 4), uint32) == localDomain, "Invalid destination domain"
    caller: bytes32 = extract32(message, 108)
    assert caller == empty(bytes32) or caller == convert(convert(msg.sender, uint256), bytes32), "Invalid caller for message"
    nonce: bytes32 = extract32(message, 12)
    assert self.usedNonces[nonce] == 0, "Nonce already used"
    self.usedNonces[nonce] = 1
    source: uint32 = convert(slice(message, 4, 4), uint32)
    sender: bytes32 = extract32(message, 44)
    finality: uint32 = convert(slice(message, 144, 4), uint32)
    recipient: address = convert(convert(extract32(message, 76), uint256), address)
    body: Bytes[1280] = slice(message, 148, len(message) - 148)
    ok: bool = False
    if finality < FINALIZED:
        ok = extcall Handler(recipient).handleReceiveUnfinalizedMessage(source, sender, finality, body)
    else:
        ok = extcall Handler(recipient).handleReceiveFinalizedMessage(source, sender, finality, body)
    assert ok
    log MessageReceived(caller=msg.sender, sourceDomain=source, nonce=nonce, sender=sender, finalityThresholdExecuted=finality, messageBody=body)
    return True
