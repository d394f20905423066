# pragma version 0.4.3
"""
@title What the keeper may do: limits, allow-listed calls, the loss budget and the clock of plans
@notice Set by the owner through the timelock. Losses are counted in billionths of NAV, so that nobody widens the
        budget by a deposit.
"""

struct Mandate:
    leg_loss_bps: uint256  # most one leg may lose against the oracle
    turnover_bps: uint256  # most one plan may sell, of NAV
    max_legs: uint256
    cooldown_s: uint256  # between plans
    window_s: uint256  # of the loss budget
    loss_budget_ppb: uint256  # most that may be lost in ANY window, billionths of NAV

event MandateSet:
    mandate: Mandate

event CallSet:
    target: indexed(address)
    selector: indexed(bytes4)
    allowed: bool

BPS: constant(uint256) = 10_000
MAX_LEGS: constant(uint256) = 8
PPB: constant(uint256) = 10**9
U16: constant(uint256) = 2**16 - 1
U32: constant(uint256) = 2**32 - 1
U64: constant(uint256) = 2**64 - 1
U96: constant(uint256) = 2**96 - 1

call_allowed: public(HashMap[address, HashMap[bytes4, bool]])
_mandate: uint256  # leg loss 16 | turnover 16 | legs 8 | cool-down 32 | window 32 | budget 32 bits
_clock: uint256  # nonce 64 | block of the last plan 64 | its time 64 | block of the last deposit or exit 64 bits
_losses: uint256  # window number 64 | loss in the window before 96 | loss in this window 96 bits, billionths of NAV


@internal
def _set_mandate(m: Mandate):
    assert m.leg_loss_bps <= BPS and m.turnover_bps <= BPS and m.loss_budget_ppb <= PPB, "mandate"
    assert m.max_legs > 0 and m.max_legs <= MAX_LEGS and m.cooldown_s <= U32, "mandate"
    assert m.window_s > 0 and m.window_s <= U32, "mandate"
    old_window: uint256 = (self._mandate >> 72) & U32
    if old_window != m.window_s:
        # carried as a whole into the new window: a change never forgives a loss
        lost: uint256 = 0
        if old_window != 0:
            lost = self._lost(old_window)
        self._losses = ((block.timestamp // m.window_s) << 192) | lost
    self._mandate = (
        m.leg_loss_bps
        | (m.turnover_bps << 16)
        | (m.max_legs << 32)
        | (m.cooldown_s << 40)
        | (m.window_s << 72)
        | (m.loss_budget_ppb << 104)
    )
    log MandateSet(mandate=m)


@internal
def _set_call(target: address, selector: bytes4, allowed: bool):
    self.call_allowed[target][selector] = allowed
    log CallSet(target=target, selector=selector, allowed=allowed)


@external
def set_mandate(limits: Mandate):
    """@notice Change the keeper's limits; through the timelock."""
    assert msg.sender == self, "timelock"
    self._set_mandate(limits)


@external
def set_call(target: address, selector: bytes4, allowed: bool):
    """@notice Allow or forbid a (target, selector) pair; through the timelock."""
    assert msg.sender == self, "timelock"
    self._set_call(target, selector, allowed)


@external
@view
def mandate() -> Mandate:
    """@notice The keeper's limits."""
    m: uint256 = self._mandate
    return Mandate(
        leg_loss_bps=m & U16,
        turnover_bps=(m >> 16) & U16,
        max_legs=(m >> 32) & 255,
        cooldown_s=(m >> 40) & U32,
        window_s=(m >> 72) & U32,
        loss_budget_ppb=m >> 104,
    )


@external
@view
def clock() -> (uint256, uint256, uint256, uint256, uint256, uint256, uint256):
    """
    @notice Next plan nonce; block and time of the last plan; block of the last deposit or exit; number of the loss
            window, the loss in the window before it and in it (billionths of NAV)
    """
    c: uint256 = self._clock
    word: uint256 = self._losses
    return c & U64, (c >> 64) & U64, (c >> 128) & U64, c >> 192, word >> 192, (word >> 96) & U96, word & U96


@internal
@view
def _lost(window: uint256) -> uint256:
    """
    @dev Loss counted against the budget, billionths: this calendar window and the whole one before. Any stretch of
         `window` seconds lies inside two neighbouring calendar windows, so no stretch can hold more than the budget.
    """
    word: uint256 = self._losses
    number: uint256 = block.timestamp // window
    if word >> 192 == number:
        return ((word >> 96) & U96) + (word & U96)
    if (word >> 192) + 1 == number:
        return word & U96
    return 0


@internal
def _add_loss(window: uint256, loss: uint256):
    word: uint256 = self._losses
    number: uint256 = block.timestamp // window
    if word >> 192 == number:
        self._losses = word + loss
    else:
        before: uint256 = 0
        if (word >> 192) + 1 == number:
            before = word & U96
        self._losses = (number << 192) | (before << 96) | loss
