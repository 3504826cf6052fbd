"""Numbers as the aggregator keeps them: integers in units of 10**-scale, so that addition is exact.

A sum of integers does not depend on order, split or replay, and nothing cancels (as floats do in NIST's NumAcc4).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.statistics.sketch import MAX_SCALED

ABSENT = None

Mask = npt.NDArray[np.bool_]


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


class Scaled(NamedTuple):
    """A column of scaled values, 0 where there is none that can be used."""

    values: npt.NDArray[np.int64]
    usable: Mask
    invalid: Mask
    """There, but no number that can be kept. What is neither usable nor invalid is absent."""


def scale_many(values: Sequence[Any], scale: int) -> Scaled:
    """Scales a column."""
    kinds = set(map(type, values))
    if NoneType not in kinds:
        return _scale_alike(values, kinds, scale)
    present = np.array([value is not None for value in values], dtype=np.bool_)
    parts = _scale_alike([value for value in values if value is not None], kinds - {NoneType}, scale)
    columns = np.zeros(len(values), np.int64), np.zeros(len(values), np.bool_), np.zeros(len(values), np.bool_)
    for column, part in zip(columns, parts, strict=True):
        column[present] = part
    return Scaled(*columns)


def _scale_alike(values: Sequence[Any], kinds: set[type], scale: int) -> Scaled:
    """Values that are all there, of these types."""
    if kinds == {float}:
        return _scale_floats(np.array(values, dtype=np.float64), scale)
    if kinds == {int}:
        return _scale_integers(values, scale)
    if len(kinds) > 1:
        return _scale_mixed(values, scale)
    no = np.zeros(len(values), dtype=np.bool_)
    return Scaled(np.zeros(len(values), dtype=np.int64), no, ~no)


def _scale_floats(floats: npt.NDArray[np.float64], scale: int) -> Scaled:
    with np.errstate(over="ignore", invalid="ignore"):
        products = floats * 10.0**scale
        usable = np.abs(products) <= MAX_SCALED
    scaled = np.rint(np.where(usable, products, 0.0)).astype(np.int64)
    return Scaled(scaled, usable, ~usable)


def _scale_integers(integers: Sequence[int], scale: int) -> Scaled:
    limit = MAX_SCALED // 10**scale
    try:
        column = np.array(integers, dtype=np.int64)
    except OverflowError:
        column = np.array([min(max(i, -limit - 1), limit + 1) for i in integers], dtype=np.int64)
    within = (column <= limit) & (column >= -limit)
    return Scaled(np.where(within, column, 0) * 10**scale, within, ~within)


def _scale_mixed(values: Sequence[Any], scale: int) -> Scaled:
    """Each type by itself."""
    rows_of: defaultdict[type, list[int]] = defaultdict(list)
    for i, kind in enumerate(map(type, values)):
        rows_of[kind].append(i)
    columns = np.zeros(len(values), np.int64), np.zeros(len(values), np.bool_), np.zeros(len(values), np.bool_)
    for rows in rows_of.values():
        parts = scale_many([values[i] for i in rows], scale)
        for column, part in zip(columns, parts, strict=True):
            column[rows] = part
    return Scaled(*columns)
