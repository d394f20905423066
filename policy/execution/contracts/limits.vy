# pragma version 0.4.3
"""
@title What the keeper may do: limits, allow-listed calls, the loss budgets and the clock of plans
@notice Set by the owner through the timelock. Losses are counted in billionths of NAV, so that nobody widens a budget
        by a deposit. Balances from before every flow of the last ten minutes are kept: a plan that was made on them is
        judged by what it does itself, so that nobody stops it by moving the weights first, or pushes them out.
"""

struct Mandate:
    leg_loss_bps: uint256  # most one leg may lose against the oracle
    turnover_bps: uint256  # most one plan may sell, of NAV
    max_legs: uint256
    cooldown_s: uint256  # between plans
    window_s: uint256  # of the short loss budget
    loss_budget_ppb: uint256  # most that may be lost in ANY short window, billionths of NAV

struct Budgets:
    leg_gain_bps: uint256  # most one leg may beat the oracle: a better fill proves the oracle wrong
    long_window_s: uint256  # of the long loss budget
    long_budget_ppb: uint256  # most that may be lost in ANY long window
    life_budget_ppb: uint256  # most that may be lost until the owner resumes the vault anew
    strikes: uint256  # pause after the short budget was used up so many times within a long window

event MandateSet:
    mandate: Mandate

event BudgetsSet:
    budgets: Budgets

event CallSet:
    target: indexed(address)
    selector: indexed(bytes4)
    allowed: bool

event Doubted:
    by: indexed(address)
    until: uint256

BPS: constant(uint256) = 10_000
MAX_LEGS: constant(uint256) = 8
MAX_TOKENS: constant(uint256) = 8
PPB: constant(uint256) = 10**9
U16: constant(uint256) = 2**16 - 1
U32: constant(uint256) = 2**32 - 1
U64: constant(uint256) = 2**64 - 1
FLOW_AGE_S: constant(uint256) = 600  # older balances judge no plan
FLOWS: constant(uint256) = FLOW_AGE_S + 1  # room for one in every second of it: no flow pushes out what still judges
SHOWN: constant(uint256) = 4
MAX_DOUBT_S: constant(uint256) = 86_400
U40: constant(uint256) = 2**40 - 1
EXPIRY: constant(uint256) = 64
BRIDGE: constant(uint256) = 2**255  # cash leaves the chain there: no plan may call it

call_allowed: public(HashMap[address, HashMap[bytes4, bool]])
_listed: HashMap[address, uint256]  # allowed selectors of a target, or BRIDGE for ever
# leg loss 16 | turnover 16 | legs 8 | cool-down 32 | window 32 | budget 32 | long window 32 | long budget 32 |
# life budget 32 | strikes 8 | leg gain 16 bits
_mandate: uint256
_clock: uint256  # nonce 64 | block of the last plan 64 | its time 64 | next place in flows 16 | block of the last flow 48 bits
# window number 32 | loss before it 32 | in it 32 | the same of the long window 96 | life 32 | strikes 8 bits
_losses: uint256
_flows: uint256[FLOWS]  # balances before a flow, 8 x (mantissa 21 | exponent 7 bits) | its time << 224
doubted_until: public(uint256)
# the armed order: plan nonce + 1 64 | expiry 40 | loss charged 32 | sold 8 | bought 8 | venue 8 | end of the keeper's
# address 96 bits; a change of windows or tokens, and a resume, void it
_offer: uint256
_offer_digest: bytes32
_offer_amounts: uint256  # amount 128 | least 128 bits
_offer_losses: uint256  # `_losses` before its charge; nothing else is booked while it is armed


@internal
def _set_mandate(m: Mandate):
    assert m.leg_loss_bps <= BPS and m.turnover_bps <= BPS and m.loss_budget_ppb <= PPB, "mandate"
    assert m.max_legs > 0 and m.max_legs <= MAX_LEGS and m.cooldown_s <= U32, "mandate"
    assert m.window_s > 0 and m.window_s <= U32, "mandate"
    self._rewindow(0, (self._mandate >> 72) & U32, m.window_s)
    self._mandate = (
        m.leg_loss_bps
        | (m.turnover_bps << 16)
        | (m.max_legs << 32)
        | (m.cooldown_s << 40)
        | (m.window_s << 72)
        | (m.loss_budget_ppb << 104)
        | ((self._mandate >> 136) << 136)
    )
    log MandateSet(mandate=m)


@internal
def _set_budgets(b: Budgets):
    assert b.leg_gain_bps <= BPS and b.long_budget_ppb <= PPB and b.life_budget_ppb <= PPB, "budgets"
    assert b.long_window_s > 0 and b.long_window_s <= U32 and b.strikes > 0 and b.strikes <= 255, "budgets"
    self._rewindow(96, (self._mandate >> 136) & U32, b.long_window_s)
    self._mandate = (
        (self._mandate & (2**136 - 1))
        | (b.long_window_s << 136)
        | (b.long_budget_ppb << 168)
        | (b.life_budget_ppb << 200)
        | (b.strikes << 232)
        | (b.leg_gain_bps << 240)
    )
    log BudgetsSet(budgets=b)


@internal
def _rewindow(place: uint256, old: uint256, new: uint256):
    """@dev What counts now is carried as a whole into the new window: a change never forgives a loss."""
    if old != new:
        lost: uint256 = 0
        if old != 0:
            lost = min(self._lost(self._losses >> place, old), U32)
        row: uint256 = (block.timestamp // new) | (lost << 64)
        self._losses = (self._losses & ~((2**96 - 1) << place)) | (row << place)
        self._offer = 0


@internal
def _set_call(target: address, selector: bytes4, allowed: bool):
    if self.call_allowed[target][selector] != allowed:
        assert self._listed[target] != BRIDGE, "target"
        self._listed[target] = self._listed[target] + 1 if allowed else self._listed[target] - 1
        self.call_allowed[target][selector] = allowed
    log CallSet(target=target, selector=selector, allowed=allowed)


@external
def set_mandate(limits: Mandate):
    """@notice Change the keeper's limits; through the timelock."""
    assert msg.sender == self, "timelock"
    self._set_mandate(limits)


@external
def set_budgets(limits: Budgets):
    """@notice Change the long loss budgets and what a leg may gain; through the timelock."""
    assert msg.sender == self, "timelock"
    self._set_budgets(limits)


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
        loss_budget_ppb=(m >> 104) & U32,
    )


@external
@view
def budgets() -> Budgets:
    """@notice The long loss budgets and what a leg may gain."""
    m: uint256 = self._mandate
    return Budgets(
        leg_gain_bps=m >> 240,
        long_window_s=(m >> 136) & U32,
        long_budget_ppb=(m >> 168) & U32,
        life_budget_ppb=(m >> 200) & U32,
        strikes=(m >> 232) & 255,
    )


@external
@view
def clock() -> (uint256, uint256, uint256, uint256, uint256, uint256, uint256):
    """
    @notice Next plan nonce; block and time of the last plan; block of the last deposit or exit; number of the short
            loss window, the loss in the window before it and in it (billionths of NAV)
    """
    c: uint256 = self._clock
    word: uint256 = self._losses
    return c & U64, (c >> 64) & U64, (c >> 128) & U64, c >> 208, word & U32, (word >> 32) & U32, (word >> 64) & U32


@external
@view
def losses() -> (uint256, uint256, uint256, uint256, uint256):
    """
    @notice Number of the long loss window, the loss in the window before it and in it, the loss since the owner last
            resumed the vault (billionths of NAV), and how often the short budget was used up in the long window
    """
    word: uint256 = self._losses
    return (word >> 96) & U32, (word >> 128) & U32, (word >> 160) & U32, (word >> 192) & U32, word >> 224


@external
@view
def flows() -> uint256[SHOWN]:
    """
    @notice Balances before the last flows, the newest first, 0 where there are no more; packed: 8 x (mantissa 21 |
            exponent 7 bits) | time << 224
    """
    shown: uint256[SHOWN] = empty(uint256[SHOWN])
    for k: uint256 in range(SHOWN):
        shown[k] = self._flows[self._place(self._clock, k)]
        if shown[k] == 0:
            break
    return shown


@internal
@pure
def _place(c: uint256, back: uint256) -> uint256:
    """@dev Where the balances before the last flow are kept, and those before the ones `back` flows earlier."""
    return (((c >> 192) & U16) + FLOWS - 1 - back) % FLOWS


@internal
@view
def _live() -> bool:
    """@dev Whether somebody may be filling an order now: what the vault holds may be half moved."""
    word: uint256 = self._offer
    return word & U64 == (self._clock & U64) + 1 and block.timestamp <= (word >> EXPIRY) & U40


@internal
@view
def _lost(word: uint256, window: uint256) -> uint256:
    """
    @dev Loss counted against a budget, billionths: this calendar window and the whole one before. Any stretch of
         `window` seconds lies inside two neighbouring calendar windows, so no stretch can hold more than the budget.
    """
    number: uint256 = block.timestamp // window
    if word & U32 == number:
        return ((word >> 32) & U32) + ((word >> 64) & U32)
    if (word & U32) + 1 == number:
        return (word >> 64) & U32
    return 0


@internal
@view
def _added(word: uint256, window: uint256, loss: uint256) -> uint256:
    """@dev The 96 bits of one budget with `loss` booked in the present window."""
    number: uint256 = block.timestamp // window
    if word & U32 == number:
        return (word & (2**96 - 1)) + (loss << 64)
    before: uint256 = 0
    if (word & U32) + 1 == number:
        before = (word >> 64) & U32
    return number | (before << 32) | (loss << 64)


@internal
def _spend(m: uint256, loss: uint256) -> bool:
    """@dev Book a plan's loss within all three budgets; whether the vault pauses itself now."""
    if loss == 0:
        return False
    word: uint256 = self._losses
    budget: uint256 = (m >> 104) & U32
    counted: uint256 = self._lost(word, (m >> 72) & U32)
    life: uint256 = ((word >> 192) & U32) + loss
    assert counted + loss <= budget, "loss budget"
    assert self._lost(word >> 96, (m >> 136) & U32) + loss <= (m >> 168) & U32, "loss budget"
    assert life <= (m >> 200) & U32, "loss budget"
    long: uint256 = self._added(word >> 96, (m >> 136) & U32, loss)
    strikes: uint256 = word >> 224
    if (word >> 96) & U32 != long & U32:
        strikes = 0
    if (counted + loss) * 10 >= budget * 9 and counted * 10 < budget * 9:
        strikes += 1
    self._losses = (
        self._added(word, (m >> 72) & U32, loss) | (long << 96) | (life << 192) | (min(strikes, 255) << 224)
    )
    return strikes >= (m >> 232) & 255 or life * 10 >= ((m >> 200) & U32) * 9


@internal
def _forgive():
    """@dev The owner resumes: life and strikes begin anew; what was lost in the windows still counts."""
    self._losses &= 2**192 - 1
    self._offer = 0


@internal
def _note_flow(balances: DynArray[uint256, MAX_TOKENS]):
    """
    @dev Keep the balances from before the first flow of a second. Places are taken in turn, and from the first one on
         again once none of them judges a plan any more
    """
    c: uint256 = self._clock
    if c >> 208 != block.number:
        at: uint256 = (c >> 192) & U16
        newest: uint256 = self._flows[self._place(c, 0)] >> 224
        if newest != block.timestamp:
            if newest != 0 and (newest <= (c >> 128) & U64 or block.timestamp - newest > FLOW_AGE_S):
                at = 0
            word: uint256 = block.timestamp << 224
            for i: uint256 in range(len(balances), bound=MAX_TOKENS):
                m: uint256 = balances[i]
                e: uint256 = 0
                for step: uint256 in [64, 32, 16, 8, 4, 2, 1]:
                    if (m >> step) >= 2**19:
                        m = m >> step
                        e += step
                if (m << e) < balances[i]:
                    m += 1
                word |= (m | (e << 21)) << (28 * i)
            self._flows[at] = word
            at = (at + 1) % FLOWS
        self._clock = (c & (2**192 - 1)) | (at << 192) | (block.number << 208)


@internal
def _forget_flows():
    """@dev The tokens changed: nothing kept so far judges a plan; who looks back stops here."""
    self._flows[self._place(self._clock, 0)] = 0


@internal
@pure
def _unpacked(word: uint256, i: uint256) -> uint256:
    """@dev Balance of token `i` before a flow, rounded up by less than two millionths."""
    return ((word >> (28 * i)) & (2**21 - 1)) << ((word >> (28 * i + 21)) & 127)
