"""Exact sums by cell: of values and of their squares, which may be larger than 64 bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.int64]

_LIMB = 24
"""Bits. Products of two limbs are less than 2**48, so that 2**15 of them still fit 63."""
_SMALL = 1 << 15
_LIMIT = 2**63


def sums_of(values: Column, starts: Column) -> list[int]:
    """The sum of each cell's values, which begin at `starts`."""
    if len(values) * int(np.abs(values).max()) < _LIMIT:
        found: list[int] = np.add.reduceat(values, starts).tolist()
        return found
    high, low = values >> _LIMB, values & (1 << _LIMB) - 1
    return [(h << _LIMB) + l_ for h, l_ in zip(sums_of(high, starts), sums_of(low, starts), strict=True)]


def squares_of(values: Column, starts: Column) -> list[int]:
    """The sum of the squares of each cell's values."""
    magnitudes = np.abs(values)
    largest = int(magnitudes.max())
    if len(values) * largest**2 < _LIMIT:
        return sums_of(magnitudes * magnitudes, starts)
    if len(values) > _SMALL:
        found: list[int] = np.add.reduceat(values.astype(object) ** 2, starts).tolist()
        return found
    limbs = []
    while largest:
        limbs.append(magnitudes & (1 << _LIMB) - 1)
        magnitudes, largest = magnitudes >> _LIMB, largest >> _LIMB
    totals = [0] * len(starts)
    for i, a in enumerate(limbs):
        for j, b in enumerate(limbs[: i + 1]):
            shift = _LIMB * (i + j) + (i != j)  # a·b stands for b·a as well
            part = np.add.reduceat(a * b, starts).tolist()
            totals = [total + (one << shift) for total, one in zip(totals, part, strict=True)]
    return totals
