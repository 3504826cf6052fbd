"""What a path reads from an organisation's events, in the forms that filters, groups and sums work on.

Each form is worked out once, whoever asks for it: distinct values with a code for each row, numbers, scaled integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.values import Mask, Scaled, scale_many

Codes = npt.NDArray[np.int64]
"""Each row's index into a list of distinct things."""

_TEXT = {str, type(None)}
_NUMBER = {int, float, type(None)}
_EXACT = 2.0**53
"""Up to here a float stands for one integer only."""


class _Numbering(dict[Any, int]):
    """Numbers what it is asked for in order of appearance."""

    def __missing__(self, key: Any) -> int:
        number = self[key] = len(self)
        return number


def numbered(things: Iterable[Any]) -> tuple[Codes, list[Any]]:
    """A code for each hashable thing, and the distinct things that codes stand for."""
    numbers = _Numbering()
    codes = np.fromiter(map(numbers.__getitem__, things), dtype=np.int64)
    return codes, [*numbers]


class Column:
    """One value a row; None where there is none, INVALID where there is one that cannot be read."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values
        self._scaled: dict[int, Scaled] = {}

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def _kinds(self) -> set[type]:
        return set(map(type, self.values))

    @cached_property
    def distinct(self) -> tuple[Codes, list[Any]]:
        """A code for each row, and a value that each code stands for: equal ones of one type.

        True is not 1, 1 is not 1.0, and 0.0 is not -0.0. Lists and objects are not told apart.
        """
        try:
            codes, values = numbered(self.values)
            if set(map(type, values)) <= _TEXT:  # and so are all that are equal to them
                return codes, values
        except TypeError:  # lists and objects
            pass
        codes, keys = numbered(map(_key, self.values))
        first = dict(zip(codes[::-1].tolist(), reversed(self.values), strict=True))
        return codes, [first[code] for code in range(len(keys))]

    @cached_property
    def numbers(self) -> npt.NDArray[np.float64] | None:
        """Exact numbers with NaN for none; None if there is anything else among them."""
        if not self._kinds <= _NUMBER:
            return None
        try:
            numbers = np.array(self.values, dtype=np.float64)
        except OverflowError:
            return None
        if int in self._kinds and (np.abs(numbers) >= _EXACT).any():
            return None
        return numbers

    @cached_property
    def present(self) -> Mask:
        if None not in self.values:
            return np.ones(len(self.values), dtype=np.bool_)
        return np.array([value is not None for value in self.values], dtype=np.bool_)

    def test(self, test: Callable[[Any], bool]) -> Mask:
        """Which rows pass; asks once about equal values."""
        codes, distinct = self.distinct
        return np.array([*map(test, distinct)], dtype=np.bool_)[codes]

    def scaled(self, scale: int) -> Scaled:
        """Each row × 10**scale as an integer."""
        found = self._scaled.get(scale)
        if found is None:
            found = self._scaled[scale] = scale_many(self.values, scale)
        return found


def _key(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int or kind is bool:
        return kind, value
    if kind is float:
        return kind, value or str(value)
    return kind
