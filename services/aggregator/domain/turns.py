"""What becomes of a measure's values before they are summed up. All numbers are scaled integers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shared.statistics.sketch import MAX_SCALED

Values = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_SHARE = re.compile(r"share(<=|<|>=|>)(-?[0-9]{1,18}(?:\.[0-9]{1,9})?)")

PROMOTERS_FROM, DETRACTORS_TO = 9, 6
"""Of the 0 to 10 in answer to "would you recommend us?"."""


class Turn(Protocol):
    def apply(self, values: Values) -> tuple[Values, Mask]:
        """What each value turns into, and which are valid: the others count as invalid."""


@dataclass(frozen=True, slots=True)
class Limit:
    """1 for values within the limits (inclusive), 0 for the others: the average is the share."""

    low: int
    high: int
    one: int

    def apply(self, values: Values) -> tuple[Values, Mask]:
        within = (values >= self.low) & (values <= self.high)
        return within * np.int64(self.one), np.ones(len(values), dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Answer:
    """What lies outside `low` to `high`, where they are given, is no answer."""

    low: int | None
    high: int | None

    def apply(self, values: Values) -> tuple[Values, Mask]:
        valid = np.ones(len(values), dtype=np.bool_)
        if self.low is not None:
            valid &= values >= self.low
        if self.high is not None:
            valid &= values <= self.high
        return values, valid


@dataclass(frozen=True, slots=True)
class Score:
    """+100 for promoters, −100 for detractors, 0 for those between: the average is the Net Promoter Score."""

    answer: Answer
    one: int

    def apply(self, values: Values) -> tuple[Values, Mask]:
        above, below = values >= PROMOTERS_FROM * self.one, values <= DETRACTORS_TO * self.one
        signs = above.astype(np.int64) - below.astype(np.int64)
        return signs * np.int64(100 * self.one), self.answer.apply(values)[1]


def share_of(aggregation: str, scale: int) -> Limit | None:
    """`share<=300000` → the limit; None for what is no share under or over a limit."""
    match = _SHARE.fullmatch(aggregation)
    if match is None:
        return None
    limit = Fraction(match[2]) * 10**scale
    if abs(limit) > MAX_SCALED:
        return None
    if match[1] == "<=":
        low, high = -MAX_SCALED, math.floor(limit)
    elif match[1] == "<":
        low, high = -MAX_SCALED, math.ceil(limit) - 1
    elif match[1] == ">=":
        low, high = math.ceil(limit), MAX_SCALED
    else:
        low, high = math.floor(limit) + 1, MAX_SCALED
    return Limit(low, high, 10**scale)
