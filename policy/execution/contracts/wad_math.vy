# pragma version 0.4.3
"""
@title Logarithm, exponential, normal distribution and N(d1) in fixed point
@notice Numbers are x 1e18. Rounding is towards zero in every step; errors are below 2e-16 of the result for `ln` and
        `exp`, 2e-10 for `normal_cdf` (Hart's rational approximation is below that), so deltas are good to 1e-9.
        Sources: range reduction by powers of two with an atanh series (ln) and a Taylor series (exp); West 2005,
        "Better approximations to cumulative normal functions", after Hart 1968 (normal_cdf).
"""

WAD: constant(int256) = 10**18
LN2: constant(int256) = 693_147_180_559_945_309
FINE: constant(int256) = 10**36
LN2_FINE: constant(int256) = 693_147_180_559_945_309_417_232_121_458_176_568
MOST: constant(int256) = 130 * 10**18  # exp of it is about 3e56, times 1e18 far below 2^255
ROOT_2PI: constant(int256) = 2_506_628_274_631_000_502


@internal
@pure
def _ln(x: int256) -> int256:
    """@dev ln of x > 0."""
    assert x > 0, "ln"
    m: int256 = x * 10**18  # becomes the mantissa, in [1, 2) x 1e36
    k: int256 = 0
    for step: uint256 in [64, 32, 16, 8, 4, 2, 1]:
        size: int256 = convert(1 << step, int256)
        if m >= FINE * size:
            m = m // size
            k += convert(step, int256)
    for step: uint256 in [64, 32, 16, 8, 4, 2, 1]:
        size: int256 = convert(1 << step, int256)
        if m * size < 2 * FINE:
            m = m * size
            k -= convert(step, int256)
    # atanh series of z = (m - 1) / (m + 1), at most 1/3
    z: int256 = (m - FINE) * FINE // (m + FINE)
    square: int256 = z * z // FINE
    term: int256 = z
    total: int256 = z
    for i: int256 in range(1, 40):
        term = term * square // FINE
        if term == 0:
            break
        total += term // (2 * i + 1)
    return (2 * total + k * LN2_FINE) // 10**18


@internal
@pure
def _exp(x: int256) -> int256:
    """@dev e^x; 0 below -41 x 1e18, refused above MOST."""
    if x < -42 * WAD:
        return 0
    assert x <= MOST, "exp"
    fine: int256 = x * 10**18
    k: int256 = fine // LN2_FINE
    if fine < 0 and k * LN2_FINE != fine:
        k -= 1
    r: int256 = fine - k * LN2_FINE  # in [0, ln 2)
    term: int256 = FINE
    total: int256 = FINE
    for i: int256 in range(1, 40):
        term = term * r // FINE // i
        if term == 0:
            break
        total += term
    if k >= 0:
        return total // 10**18 * convert(1 << convert(k, uint256), int256)
    return total // convert(1 << convert(-k, uint256), int256) // 10**18


@internal
@pure
def _normal_cdf(x: int256) -> int256:
    """@dev Probability that a standard normal is below x."""
    a: int256 = abs(x)
    tail: int256 = 0
    if a < 37 * WAD:
        density: int256 = self._exp(-(a * a // WAD) // 2)
        if a < 7_071_067_811_865_475_000:
            b: int256 = 35_262_496_599_891_100
            b = b * a // WAD + 700_383_064_443_688_000
            b = b * a // WAD + 6_373_962_203_531_650_000
            b = b * a // WAD + 33_912_866_078_383_000_000
            b = b * a // WAD + 112_079_291_497_871_000_000
            b = b * a // WAD + 221_213_596_169_931_000_000
            b = b * a // WAD + 220_206_867_912_376_000_000
            c: int256 = 88_388_347_648_318_400
            c = c * a // WAD + 1_755_667_163_182_640_000
            c = c * a // WAD + 16_064_177_579_207_000_000
            c = c * a // WAD + 86_780_732_202_946_100_000
            c = c * a // WAD + 296_564_248_779_674_000_000
            c = c * a // WAD + 637_333_633_378_831_000_000
            c = c * a // WAD + 793_826_512_519_948_000_000
            c = c * a // WAD + 440_413_735_824_752_000_000
            tail = density * b // c
        else:
            b: int256 = a + 650_000_000_000_000_000
            b = a + 4 * WAD * WAD // b
            b = a + 3 * WAD * WAD // b
            b = a + 2 * WAD * WAD // b
            b = a + WAD * WAD // b
            tail = density * WAD // b * WAD // ROOT_2PI
    return tail if x <= 0 else WAD - tail


@internal
@pure
def _d1(spot: int256, strike: int256, vol: int256, tau: int256) -> (int256, int256):
    """@dev d1 and vol x sqrt(tau) of Black-Scholes without interest; `tau` years, all x 1e18, all above zero."""
    root: int256 = convert(isqrt(convert(tau, uint256) * 10**18), int256)
    sd: int256 = max(vol * root // WAD, 1)
    return (self._ln(spot * WAD // strike) * WAD // sd + sd // 2), sd


@internal
@pure
def _option(spot: int256, strike: int256, vol: int256, tau: int256, call: bool) -> (int256, int256):
    """@dev Price in the unit of `spot` and delta of a European option; intrinsic value and its step at expiry."""
    if tau <= 0:
        if call:
            return max(spot - strike, 0), (WAD if spot > strike else 0)
        return max(strike - spot, 0), (-WAD if spot < strike else 0)
    d1: int256 = 0
    sd: int256 = 0
    d1, sd = self._d1(spot, strike, vol, tau)
    above: int256 = self._normal_cdf(d1)
    below: int256 = self._normal_cdf(d1 - sd)
    price: int256 = (spot * above - strike * below) // WAD
    if call:
        return max(price, 0), above
    return max(price - spot + strike, 0), above - WAD
