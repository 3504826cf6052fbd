"""What every type of metric has in common: the components it keeps, and how their totals become readings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal, Protocol

from services.aggregator.domain.states import AnyState, Histogram, decode, merged
from shared.statistics import sketch

Component = Literal[
    "value",
    "share",
    "numerator",
    "denominator",
    "unique",
    "category",
    "answer",
    "nps",
    "streak",
    "outcome",
    "step",
    "duration",
    "within",
    "correlated",
    "matched",
    "first_attempt",
    "stage",
    "drop_off",
]
"""Which rows of a metric: of a measure, of a streak, of journeys by outcome, of journeys by step reached …"""

LED: frozenset[Component] = frozenset(
    {
        "share",
        "category",
        "answer",
        "nps",
        "outcome",
        "step",
        "duration",
        "within",
        "correlated",
        "matched",
        "first_attempt",
        "stage",
        "drop_off",
    }
)
"""Components whose windows' groups begin with a part's name: of a share, category, question, outcome or step."""

UNCOUNTED: frozenset[Component] = frozenset({"step", "duration", "within", "matched", "drop_off"})
"""Components that have no counters of their own: their events are counted with the leading component's."""

REPORTED: frozenset[Component] = UNCOUNTED | {"correlated", "first_attempt", "unique", "category", "answer", "nps"}
"""Components for reports only: no rule can name them, so they are not published."""

Part = tuple[Component, str]
"""One of the cells that make up a window: the component, and the part's name where the component is led (else '')."""

MOMENTS = ("variance", "stddev")
"""What sums of squares give, beside the simple aggregations."""

PERCENTILE_ERROR = 0.01
"""Of a percentile, relative to a value that was there."""

_PERCENTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,2})?)")


def percentile_of(aggregation: str) -> float | None:
    """`p95` → 0.95; None for what is no percentile strictly between 0 and 1."""
    match = _PERCENTILE.fullmatch(aggregation)
    share = float(f"{match[1]}e-2") if match else 0.0
    return share if 0 < share < 1 else None


@dataclass(slots=True)
class Cell:
    """A window's total over shards. Sums, min and max are scaled integers; sum_squares has twice the scale."""

    n: int = 0
    sum: int = 0
    sum_squares: int = 0
    min: int | None = None
    max: int | None = None
    state: AnyState | None = None

    def add(self, n: int, total: int, squares: int, low: int | None, high: int | None, raw_state: bytes) -> None:
        """Adds a stored row."""
        self.n += n
        self.sum += total
        self.sum_squares += squares
        self.min = min((v for v in (self.min, low) if v is not None), default=None)
        self.max = max((v for v in (self.max, high) if v is not None), default=None)
        self.state = merged(self.state, decode(raw_state))


@dataclass(frozen=True, slots=True)
class Reading:
    """One aggregation of one window. `value` is None where there is nothing to take it of.

    `part` names whose it is where a metric reads several at once: a survey's question, a category.
    """

    aggregation: str
    value: float | int | None
    count: int
    part: str | None = None
    error: float | None = None
    """Relative to the truth: 0 if exact, None where the question does not arise."""
    trend: str | None = None
    """For changes against the window before: increasing, stable or decreasing."""


class Described(Protocol):
    """What every checked type of metric says of itself, as one definition asks for it."""

    @property
    def type(self) -> str:
        """As definitions write it."""

    @property
    def components(self) -> tuple[Component, ...]:
        """The series that the metric keeps, the leading one first."""

    @property
    def scale(self) -> int:
        """Stored values are in units of 10**-scale."""

    @property
    def aggregations(self) -> tuple[str, ...]:
        """What a reading holds unless something else is asked for."""

    @property
    def readable(self) -> tuple[str, ...]:
        """What can be asked for by name."""

    def can_read(self, aggregation: str) -> bool:
        """Whether it can be asked for, by name or as one of a family such as percentiles."""


class Windowed(Described, Protocol):
    """A type of metric whose rows are windows."""

    def read(self, cells: Mapping[Part, Cell], wanted: Iterable[str]) -> list[Reading]:
        """The aggregations `wanted` of one window, whose parts' totals are `cells`."""


def aggregate(cell: Cell, aggregation: str, scale: int) -> float | int | None:
    """A simple aggregation or a percentile of one cell."""
    if aggregation == "count":
        return cell.n
    if aggregation == "sum":
        return unscaled(cell.sum, scale)
    if not cell.n:
        return None
    if aggregation == "avg":
        return float(Decimal(cell.sum).scaleb(-scale) / cell.n)
    if aggregation == "min":
        return None if cell.min is None else unscaled(cell.min, scale)
    if aggregation == "max":
        return None if cell.max is None else unscaled(cell.max, scale)
    if aggregation in MOMENTS:
        return spread(cell, aggregation, scale)
    share = percentile_of(aggregation)
    assert share is not None
    found = sketch.quantile(cell.state.counts, share) if isinstance(cell.state, Histogram) else None
    return None if found is None else found / 10**scale


def spread(cell: Cell, aggregation: str, scale: int) -> float | None:
    """The sample's variance or its root, from exact sums; None of fewer than two values."""
    if cell.n < 2:
        return None
    squares = cell.n * cell.sum_squares - cell.sum**2
    variance = float(Fraction(squares, cell.n * (cell.n - 1) * 10 ** (2 * scale)))
    return variance if aggregation == "variance" else math.sqrt(variance)


def unscaled(value: int, scale: int) -> float:
    return float(Decimal(value).scaleb(-scale))
