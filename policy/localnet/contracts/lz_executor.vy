# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Local double of LayerZero's executor on the sending side: a flat fee
@notice The published sending library asks it for a price and gives it the job; accounts outside do it.
"""
fee: public(immutable(uint256))


@deploy
def __init__(wei_a_job: uint256):
    fee = wei_a_job


@external
def assignJob(eid: uint32, sender: address, size: uint256, options: Bytes[256]) -> uint256:
    return fee


@external
@view
def getFee(eid: uint32, sender: address, size: uint256, options: Bytes[256]) -> uint256:
    return fee
