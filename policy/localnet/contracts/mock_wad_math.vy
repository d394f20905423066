# pragma version 0.4.3
import wad_math
@external
@pure
def option(s: int256, k: int256, v: int256, t: int256, c: bool) -> (int256, int256):
    return wad_math._option(s, k, v, t, c)
@external
@pure
def ln(x: int256) -> int256:
    return wad_math._ln(x)
@external
@pure
def exp(x: int256) -> int256:
    return wad_math._exp(x)
@external
@pure
def cdf(x: int256) -> int256:
    return wad_math._normal_cdf(x)
