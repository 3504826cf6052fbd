"""What computed values are made of: operations on what events hold, each a pure function of the event.

A node gives a JSON value, None where something it needs is absent, or INVALID where something is there but cannot be
computed with. An operation with an invalid part is invalid, else with an absent one absent. Numbers are double
precision, whatever they were written as.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.paths import Getter, Path
from services.aggregator.domain.values import INVALID

Floats = npt.NDArray[np.float64]


class NotPlainError(Exception):
    """The column holds more than finite numbers, or an operation has no meaning for one of its rows."""


class Node(Protocol):
    def of(self, event: DecodedEvent) -> Any:
        """The value for one event."""

    def column(self, events: Sequence[DecodedEvent]) -> Floats:
        """The same for many, where all that is read is numbers and all that comes out is. Raises NotPlainError."""


@dataclass(frozen=True, slots=True)
class Literal:
    value: float | str | bool

    def of(self, event: DecodedEvent) -> Any:
        return self.value

    def column(self, events: Sequence[DecodedEvent]) -> Floats:
        if type(self.value) is not float:
            raise NotPlainError
        return np.full(len(events), self.value)


@dataclass(frozen=True, slots=True)
class Read:
    path: Path
    _get: Getter = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_get", self.path.getter())

    def of(self, event: DecodedEvent) -> Any:
        return self._get(event)

    def column(self, events: Sequence[DecodedEvent]) -> Floats:
        values = self.path.read(events)
        if not set(map(type, values)) <= {int, float}:
            raise NotPlainError
        try:
            return np.array(values, dtype=np.float64)
        except OverflowError:
            raise NotPlainError from None


@dataclass(frozen=True, slots=True)
class EventTime:
    """Milliseconds since 1970, as JavaScript counts them."""

    def of(self, event: DecodedEvent) -> Any:
        return event.time / 1_000

    def column(self, events: Sequence[DecodedEvent]) -> Floats:
        return np.array([event.time for event in events], dtype=np.int64) / 1_000


@dataclass(frozen=True, slots=True)
class Function:
    """`one` is given what is neither None nor INVALID; `many`, if there is one, agrees with it on plain numbers."""

    name: str
    least: int
    most: int
    one: Callable[..., Any]
    many: Callable[..., Any] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    function: Function
    arguments: tuple[Node, ...]

    def of(self, event: DecodedEvent) -> Any:
        values = [node.of(event) for node in self.arguments]
        absent = False
        for value in values:
            if value is INVALID:
                return INVALID
            absent = absent or value is None
        return None if absent else self.function.one(*values)

    def column(self, events: Sequence[DecodedEvent]) -> Floats:
        if self.function.many is None:
            raise NotPlainError
        columns = [node.column(events) for node in self.arguments]
        with np.errstate(all="ignore"):
            result: Floats = np.asarray(self.function.many(*columns), dtype=np.float64)
        if not np.isfinite(result).all():
            raise NotPlainError
        return result


@dataclass(frozen=True, slots=True)
class If:
    """Only the branch that is taken is computed."""

    condition: Node
    then: Node
    otherwise: Node

    def of(self, event: DecodedEvent) -> Any:
        found = self.condition.of(event)
        if found is None or found is INVALID:
            return found
        decided = _truth(found)
        if decided is INVALID:
            return INVALID
        return (self.then if decided else self.otherwise).of(event)

    def column(self, events: Sequence[DecodedEvent]) -> Floats:
        return np.where(self.condition.column(events) != 0, self.then.column(events), self.otherwise.column(events))


@dataclass(frozen=True, slots=True)
class Coalesce:
    """The first that is not absent: what is there but invalid stays so, and is counted."""

    choices: tuple[Node, ...]

    def of(self, event: DecodedEvent) -> Any:
        for node in self.choices:
            found = node.of(event)
            if found is not None:
                return found
        return None

    def column(self, events: Sequence[DecodedEvent]) -> Floats:
        return self.choices[0].column(events)


def _number(value: Any) -> Any:
    kind = type(value)
    if kind is float:
        return value
    if kind is int:
        try:
            return float(value)
        except OverflowError:
            return INVALID
    return INVALID


def _truth(value: Any) -> Any:
    if type(value) is bool:
        return value
    number = _number(value)
    return number if number is INVALID else number != 0


def _of_numbers(compute: Callable[..., float | None]) -> Callable[..., Any]:
    """INVALID for what is no number, and for results beyond all numbers."""

    def one(*values: Any) -> Any:
        numbers = [_number(value) for value in values]
        if INVALID in numbers:
            return INVALID
        result = compute(*numbers)
        return INVALID if result is not None and not math.isfinite(result) else result

    return one


def _divide(a: float, b: float) -> float | None:
    return a / b if b else None


_PLAIN_TEXT = re.compile(r"[ \t\r\n]*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[ \t\r\n]*")
_LONGEST_NUMBER = 400


def _cast(value: Any) -> Any:
    """Text that is written as a decimal number, booleans as 1 and 0, numbers as they are."""
    if type(value) is str:
        match = _PLAIN_TEXT.fullmatch(value) if len(value) <= _LONGEST_NUMBER else None
        found = float(match[1]) if match else math.inf
        return found if math.isfinite(found) else INVALID
    return float(value) if type(value) is bool else _number(value)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO_8601 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[Tt ](?:[01][0-9]|2[0-3]):[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})?)?"
)
"""What every version of Python reads alike."""
_SECONDS_BELOW, _MILLISECONDS_BELOW, _MICROSECONDS_BELOW = 1e11, 1e14, 1e17


def moment(value: Any) -> int | None:
    """µs since 1970 of ISO 8601 text (without an offset: UTC) or of a number since 1970, whose size tells its unit.

    Numbers below 1e11 are seconds, below 1e14 milliseconds, below 1e17 microseconds. None for what is no time.
    """
    if type(value) is str:
        if not _ISO_8601.fullmatch(value):
            return None
        try:
            parsed = datetime.fromisoformat(value.upper().replace(",", "."))
            delta = (parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed) - _EPOCH
        except (ValueError, OverflowError):
            return None
        return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
    if type(value) not in (int, float) or not abs(value) < _MICROSECONDS_BELOW:
        return None
    number = float(value)
    size = abs(number)
    return round(number * (1_000_000 if size < _SECONDS_BELOW else 1_000 if size < _MILLISECONDS_BELOW else 1))


def _between(per_unit: int) -> Callable[[Any, Any], Any]:
    def one(begin: Any, end: Any) -> Any:
        first, last = moment(begin), moment(end)
        return INVALID if first is None or last is None else (last - first) / per_unit

    return one


def _length(value: Any) -> Any:
    return float(len(value)) if type(value) in (str, list) else INVALID


def _equal(a: Any, b: Any) -> Any:
    """Values of two kinds are not equal, 1 and true neither."""
    kinds = {type(a), type(b)}
    if kinds <= {int, float}:
        x, y = _number(a), _number(b)
        return INVALID if INVALID in (x, y) else float(x == y)
    return float(len(kinds) == 1 and a == b) if kinds <= {str, bool, int, float} else INVALID


def _unequal(a: Any, b: Any) -> Any:
    same = _equal(a, b)
    return same if same is INVALID else 1.0 - same


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    """Numbers with numbers, texts with texts."""

    def one(a: Any, b: Any) -> Any:
        if type(a) is str and type(b) is str:
            return float(compare(a, b))
        x, y = _number(a), _number(b)
        return INVALID if INVALID in (x, y) else float(compare(x, y))

    return one


def _logical(decide: Callable[..., bool]) -> Callable[..., Any]:
    def one(*values: Any) -> Any:
        truths = [_truth(value) for value in values]
        return INVALID if INVALID in truths else float(decide(*truths))

    return one


NEGATE = Function("-", 1, 1, _of_numbers(lambda a: -a), np.negative)
NOT = Function("not", 1, 1, _logical(lambda a: not a), lambda a: a == 0)
BINARY = {
    f.name: f
    for f in (
        Function("+", 2, 2, _of_numbers(lambda a, b: a + b), np.add),
        Function("-", 2, 2, _of_numbers(lambda a, b: a - b), np.subtract),
        Function("*", 2, 2, _of_numbers(lambda a, b: a * b), np.multiply),
        Function("/", 2, 2, _of_numbers(_divide), np.divide),
        Function("<", 2, 2, _ordered(lambda a, b: a < b), np.less),
        Function("<=", 2, 2, _ordered(lambda a, b: a <= b), np.less_equal),
        Function(">", 2, 2, _ordered(lambda a, b: a > b), np.greater),
        Function(">=", 2, 2, _ordered(lambda a, b: a >= b), np.greater_equal),
        Function("==", 2, 2, _equal, np.equal),
        Function("!=", 2, 2, _unequal, np.not_equal),
        Function("and", 2, 2, _logical(lambda a, b: a and b), lambda a, b: (a != 0) & (b != 0)),
        Function("or", 2, 2, _logical(lambda a, b: a or b), lambda a, b: (a != 0) | (b != 0)),
    )
}
FUNCTIONS = {
    f.name: f
    for f in (
        Function("number", 1, 1, _cast, lambda a: a),
        Function("seconds_between", 2, 2, _between(1_000_000)),
        Function("milliseconds_between", 2, 2, _between(1_000)),
        Function("min", 2, 8, _of_numbers(min), lambda *columns: np.minimum.reduce(columns)),
        Function("max", 2, 8, _of_numbers(max), lambda *columns: np.maximum.reduce(columns)),
        Function("abs", 1, 1, _of_numbers(abs), np.abs),
        Function("round", 1, 1, _of_numbers(lambda a: float(round(a))), np.rint),
        Function("floor", 1, 1, _of_numbers(lambda a: float(math.floor(a))), np.floor),
        Function("ceil", 1, 1, _of_numbers(lambda a: float(math.ceil(a))), np.ceil),
        Function("length", 1, 1, _length),
    )
}
IF, COALESCE = "if", "coalesce"
MOST_CHOICES = 8
