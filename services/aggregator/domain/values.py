"""Numbers as the aggregator keeps them: integers in units of 10**-scale, so that addition is exact.

A sum of integers does not depend on order, split or replay, and nothing cancels (as floats do in NIST's NumAcc4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.statistics.sketch import MAX_SCALED

ABSENT = None


class Invalid:
    """Marks a value that is there but is no number we can keep."""


INVALID = Invalid()


def scale_one(value: Any, scale: int) -> int | Invalid | None:
    """`value` × 10**scale as an integer (halves to even); None if absent, INVALID if it is no usable number.

    Booleans and text are no numbers. This is the definition; `scale_many` must agree with it.
    """
    if value is ABSENT:
        return None
    kind = type(value)
    if kind is int:
        scaled = value * 10**scale
    elif kind is float:
        product = value * 10.0**scale
        if not abs(product) <= MAX_SCALED:  # also catches NaN and infinities
            return INVALID
        scaled = round(product)
    else:
        return INVALID
    return scaled if abs(scaled) <= MAX_SCALED else INVALID


def scale_many(
    values: Sequence[Any], scale: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Scales a column: (scaled values, 0 where unusable; which are usable; which are invalid)."""
    kinds = set(map(type, values))
    if kinds == {float}:
        return _scale_floats(np.array(values, dtype=np.float64), scale)
    if kinds == {int}:
        limit = MAX_SCALED // 10**scale
        try:
            integers = np.array(values, dtype=np.int64)
        except OverflowError:
            return _scale_each(values, scale)
        usable = (integers <= limit) & (integers >= -limit)
        return np.where(usable, integers, 0) * 10**scale, usable, ~usable
    return _scale_each(values, scale)


def _scale_floats(
    floats: npt.NDArray[np.float64], scale: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    with np.errstate(over="ignore", invalid="ignore"):
        products = floats * 10.0**scale
        usable = np.abs(products) <= MAX_SCALED
    scaled = np.rint(np.where(usable, products, 0.0)).astype(np.int64)
    return scaled, usable, ~usable


def _scale_each(
    values: Sequence[Any], scale: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    scaled = np.zeros(len(values), dtype=np.int64)
    usable = np.zeros(len(values), dtype=np.bool_)
    invalid = np.zeros(len(values), dtype=np.bool_)
    for i, value in enumerate(values):
        one = scale_one(value, scale)
        if isinstance(one, int):
            scaled[i] = one
            usable[i] = True
        else:
            invalid[i] = one is INVALID
    return scaled, usable, invalid
