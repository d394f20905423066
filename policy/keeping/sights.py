"""All vaults of a process at one block: weights, distances and reservation prices as arrays, one look-up for all.

Rows are vaults, columns their tokens, padded to the widest vault. Holdings and terms of a row are set when the vault is
read; prices are set by feed, so that one answer of one feed moves every vault that holds its token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policy.base import Matrix, Vector
from policy.keeping.terms import LookTerms
from policy.realtime import reserve
from policy.strategies.surface_rule import at_node

FAR = 1e9  # tolerance of a column that is no token's


@dataclass(frozen=True, slots=True)
class Reserves:
    """Highest gas paid, fraction of NAV, by distance: ``table`` (nodes,) of one vault at the present state of gas.

    It is the gas of a rebalance of ``legs`` swaps.
    """

    table: Vector
    node: float
    legs: float = 1.0


@dataclass(frozen=True, slots=True)
class Glance:
    """One look at all vaults, (N,) each: distance in the rule's measure, deviation in tolerances, reservation gwei."""

    distance: Vector
    in_tolerances: Vector
    reserve_gwei: Vector


class Sights:
    """``vaults`` rows of at most ``width`` tokens; nothing is known of a row until :meth:`read` was called for it."""

    def __init__(self, vaults: int, width: int) -> None:
        shape = vaults, width
        self.holdings, self.target = np.zeros(shape), np.zeros(shape)
        self.tolerance = np.full(shape, FAR)
        self.M = np.zeros((vaults, width, width))
        self.feed: npt.NDArray[np.int64] = np.zeros(shape, dtype=np.int64)
        self.k, self.m, self.usual, self.value, self.fixed, self.usual_gwei = (np.zeros(vaults) for _ in range(6))
        self.B, self.slope = np.ones(vaults), np.ones(vaults)
        self.hard: npt.NDArray[np.bool_] = np.zeros(vaults, dtype=np.bool_)
        self.known: npt.NDArray[np.bool_] = np.zeros(vaults, dtype=np.bool_)
        self.terms: list[LookTerms | None] = [None] * vaults
        self._tables: dict[int, Reserves] = {}
        self._place: dict[str, int] = {}
        self.price = np.zeros(1)

    def read(
        self, row: int, terms: LookTerms, feeds: Sequence[str], holdings: Vector, prices: Mapping[str, float]
    ) -> None:
        """Set vault ``row`` as it was read: whole tokens held, by feed name, and the feeds' prices in USD."""
        n = len(feeds)
        for name in feeds:
            if name not in self._place:
                self._place[name] = len(self._place)
        if len(self._place) > self.price.size:
            self.price = np.concatenate([self.price, np.zeros(len(self._place) - self.price.size)])
        self.reprice(prices)
        self.feed[row, :n] = [self._place[f] for f in feeds]
        self.holdings[row], self.target[row], self.tolerance[row], self.M[row] = 0.0, 0.0, FAR, 0.0
        self.holdings[row, :n], self.target[row, :n], self.tolerance[row, :n] = holdings, terms.target, terms.tolerance
        self.M[row, :n, :n] = terms.M
        self.k[row], self.m[row], self.B[row], self.value[row] = terms.k, terms.m, terms.B, terms.value
        self.usual[row], self.usual_gwei[row] = terms.usual, terms.usual_gwei
        self.fixed[row], self.slope[row] = terms.gas_fixed, terms.gas_slope
        self.hard[row], self.known[row], self.terms[row] = terms.hard, True, terms

    def forget(self, row: int) -> None:
        """Know nothing of vault ``row`` until it is read again."""
        self.known[row] = False

    def reprice(self, prices: Mapping[str, float]) -> None:
        """Set prices by feed; a feed that no vault reads is left out."""
        for name, usd in prices.items():
            place = self._place.get(name)
            if place is not None:
                self.price[place] = usd

    def table(self, row: int, found: Reserves | None) -> None:
        """Let vault ``row`` be looked up in a surface's column; None: in the closed form."""
        if found is None:
            self._tables.pop(row, None)
        else:
            self._tables[row] = found

    def weights(self) -> Matrix:
        """Return (N, width) weights at the present prices; nan where a vault is worth nothing or is not known."""
        value = self.holdings * self.price[self.feed]
        total = np.where(self.known, value.sum(axis=1), np.nan)
        return np.asarray(value / np.where(total > 0.0, total, np.nan)[:, None])

    def look(self) -> Glance:
        """Return the look at every vault; nan where one is not known."""
        x = self.weights() - self.target
        risk = np.sqrt(np.maximum(np.einsum("vi,vij,vj->v", x, self.M, x), 0.0))
        box = np.max(np.abs(x) / self.tolerance, axis=1)
        r = np.where(self.hard, box, risk)
        with np.errstate(invalid="ignore", divide="ignore"):
            soft, _ = reserve.soft(r, self.k, self.m, self.B)
            paid = np.where(self.hard, reserve.hard(box, self.usual, self.k, self.value), soft)
        for row, found in self._tables.items():
            terms = self.terms[row]
            if terms is None or not np.isfinite(r[row]):
                continue
            more = found.legs - 1.0
            told = at_node(found.table, r[row] / found.node)
            gwei_of = (told - terms.gas_fixed - more * terms.leg_fixed) / (terms.gas_slope + more * terms.leg_slope)
            paid[row] = np.inf if self.hard[row] and box[row] >= 1.0 else terms.gas_fixed + terms.gas_slope * gwei_of
        gwei = np.where(np.isnan(r), np.nan, np.maximum((paid - self.fixed) / self.slope, 0.0))
        return Glance(r, box, np.asarray(gwei))
