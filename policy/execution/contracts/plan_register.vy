# pragma version 0.4.3
"""
Numbers and records the plans of accounts that keep no number of their own, such as a Safe whose keeper is a role member.

An account calls ``land`` as the first call of a plan's batch: the batch then lands once, in order and in time, or not
at all, and its hash stands in the log. Nothing is owned, held or decided here; each account has its own count.
"""

event Landed:
    account: indexed(address)
    nonce: indexed(uint256)
    plan_hash: indexed(bytes32)


nonces: public(HashMap[address, uint256])  # by account: number of the plan it lands next


@external
def land(nonce: uint256, deadline: uint256, plan_hash: bytes32):
    """
    @notice Record that the caller executes this plan now; reverts for another number, or late.
    @param nonce The caller's next plan number
    @param deadline Last second at which the plan may land
    @param plan_hash Hash over the whole plan
    """
    assert nonce == self.nonces[msg.sender], "nonce"
    assert block.timestamp <= deadline, "deadline"
    self.nonces[msg.sender] = nonce + 1
    log Landed(account=msg.sender, nonce=nonce, plan_hash=plan_hash)
