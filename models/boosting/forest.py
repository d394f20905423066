"""LightGBM's trees as arrays, evaluated in one compiled loop: a decision asks for one row of dozens of boosters.

``Booster.predict`` spends a tenth of a millisecond a call on its way into the library, whatever the size of the trees.
The answer here is the same to the bit: thresholds and leaves are read from the model text, which holds all 17 digits,
and leaves are added up in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import lightgbm as lgb
import numba
import numpy as np
import numpy.typing as npt

from lake.errors import ModelError

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_SPLITS = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_CATEGORICAL, _LEFT = 1, 2  # bits of LightGBM's decision_type; what counts as missing follows in the next two
_ZERO_MISSING, _NAN_MISSING = 1, 2
_ZERO = float(np.float32(1e-35))  # LightGBM's kZeroThreshold: values this near to zero are zero


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _evaluate(
    x: Array, feature: Ints, threshold: Array, decision: Ints, child: Ints, leaf: Array, root: Ints, end: Ints
) -> Array:
    """Follow LightGBM's ``Tree::NumericalDecision``; a negative child ~k is leaf k."""
    out = np.zeros((len(x), len(end)))
    for i in range(len(x)):
        tree = 0
        for b in range(len(end)):
            total = 0.0
            while tree < end[b]:
                node = root[tree]
                while node >= 0:
                    value, missing = x[i, feature[node]], decision[node] >> 2
                    if abs(value) <= _ZERO or (np.isnan(value) and missing != _NAN_MISSING):
                        value = 0.0
                    if np.isnan(value) or (missing == _ZERO_MISSING and value == 0.0):
                        left = decision[node] & _LEFT != 0
                    else:
                        left = value <= threshold[node]
                    node = child[node, 0] if left else child[node, 1]
                total += leaf[~node]
                tree += 1
            out[i, b] = total
    return out


@dataclass(frozen=True, slots=True)
class Forest:
    """Boosters of the same features with their trees as arrays, all nodes and all leaves behind one another.

    ``feature``, ``threshold`` and ``decision`` (nodes,) and ``child`` (nodes, 2) describe the splits, ``leaf``
    (leaves,) the values, ``root`` (trees,) where each tree begins, ``end`` (boosters,) how many there are up to each.
    """

    boosters: tuple[lgb.Booster, ...]
    features: int
    feature: Ints
    threshold: Array
    decision: Ints
    child: Ints
    leaf: Array
    root: Ints
    end: Ints

    @classmethod
    def of(cls, boosters: Sequence[lgb.Booster]) -> Forest:
        """Return the trees of ``boosters``; raises ModelError on categories and where their features differ."""
        widths = {b.num_feature() for b in boosters}
        if len(widths) > 1:
            raise ModelError(f"boosters of one forest need the same features, these have {sorted(widths)}")
        grown = [list(_trees(b.model_to_string())) for b in boosters]
        splits: list[list[Any]] = [[] for _ in _SPLITS]
        leaves: list[float] = []
        roots: list[int] = []
        for tree in chain.from_iterable(grown):
            node, leaf = len(splits[0]), len(leaves)
            values = [float(v) for v in tree["leaf_value"].split()]
            roots.append(node if len(values) > 1 else ~leaf)
            leaves += values
            if len(values) == 1:
                continue
            held = [tree[name].split() for name in _SPLITS]
            splits[0] += map(int, held[0])
            splits[1] += map(float, held[1])
            splits[2] += map(int, held[2])
            for side, local in zip(splits[3:], held[3:], strict=True):
                side += [c + node if c >= 0 else c - leaf for c in map(int, local)]
        decision = np.array(splits[2], dtype=np.int64)
        if (decision & _CATEGORICAL).any():
            raise ModelError("a booster splits on categories, which a forest does not know; train on numbers")
        return cls(
            tuple(boosters), widths.pop() if widths else 0, np.array(splits[0], dtype=np.int64),
            np.array(splits[1], dtype=np.float64), decision, np.array(splits[3:], dtype=np.int64).T.copy(),
            np.array(leaves, dtype=np.float64), np.array(roots, dtype=np.int64),
            np.cumsum([len(trees) for trees in grown], dtype=np.int64),
        )  # fmt: skip

    def predict(self, x: Array) -> Array:
        """Return the raw scores (n, boosters) of ``x`` (n, features), NaN where unknown: LightGBM's to the bit.

        Raises ModelError when ``x`` has another number of columns.
        """
        if x.shape[1] != self.features:
            raise ModelError(f"the model was trained on {self.features} features, {x.shape[1]} were given")
        wide = np.ascontiguousarray(x, dtype=np.float64)
        trees = (self.feature, self.threshold, self.decision, self.child, self.leaf, self.root, self.end)
        return np.asarray(_evaluate(wide, *trees), dtype=np.float64)


def _trees(text: str) -> Iterator[dict[str, str]]:
    """Return the fields of every tree in a LightGBM model text, in order."""
    body = text.split("\nTree=")[1:]
    return (_fields(part.split("\n\n", 1)[0].splitlines()[1:]) for part in body)


def _fields(lines: Iterable[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines if "=" in line)
