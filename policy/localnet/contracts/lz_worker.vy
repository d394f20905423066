# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Local double of LayerZero's paid workers on the sending side: a verifier network and an executor, a flat fee each
@notice The published sending library asks them for a price and gives them the job; what they do about it is done by
        accounts outside.
"""
struct Job:
    dstEid: uint32
    header: Bytes[256]
    payload: bytes32
    confirmations: uint64
    sender: address

owner: address
fee: public(uint256)


@deploy
def __init__(wei_a_job: uint256):
    self.owner = msg.sender
    self.fee = wei_a_job


@external
def set_fee(wei_a_job: uint256):
    assert msg.sender == self.owner
    self.fee = wei_a_job


@external
@payable
def assignJob(job: Job, options: Bytes[256]) -> uint256:
    """@dev The verifiers' job."""
    return self.fee


@external
@view
def getFee(eid: uint32, confirmations: uint64, sender: address, options: Bytes[256]) -> uint256:
    """@dev The verifiers' price."""
    return self.fee
