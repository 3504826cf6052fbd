"""Rules that say what became of a unit: the first in order that holds names the outcome.

`{"reached": step}`, with `within` and `of` only within a time of another step; `{"timeout": true}` once the deadline
has passed; `{"not": …}`, `{"all": […]}`, `{"any": […]}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from services.aggregator.domain.facts import Moments, Point
from services.aggregator.domain.kinds.stages import parse_name
from services.aggregator.domain.specs import refuse_unknown
from services.aggregator.domain.times import parse_span
from shared.clock import DAY
from shared.definition_error import DefinitionError

COMPLETED = "completed"
ABANDONED_AFTER_NAVIGATION = "abandoned_after_navigation"
ABANDONED_TIMEOUT = "abandoned_timeout"
IN_PROGRESS = "in_progress"
"""What none of the rules holds of."""

MAX_RULES = 20
MAX_SPAN = 90 * DAY
MAX_CONDITIONS = 200
"""Of all rules together."""
_MAX_DEPTH = 5

Condition = Callable[[Moments, bool], bool]
"""Of a unit's moments, and whether its deadline has passed."""


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    holds: Condition


class Places:
    """The points that a definition speaks of, each once. `slots`: what steps are called → slot."""

    def __init__(self, slots: Mapping[str, int]) -> None:
        self._slots = dict(slots)
        self._points: list[Point] = [Point(slot) for slot in range(len(slots))]
        self._conditions = 0

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(self._points)

    def slot(self, name: object, place: str) -> int:
        """Also the number of the point of its earliest event. Raises DefinitionError."""
        if not isinstance(name, str) or name not in self._slots:
            raise DefinitionError(place, f"must be one of {', '.join(self._slots)}")
        return self._slots[name]

    def later_slot(self, name: object, place: str) -> int:
        """Likewise of what may come more than once: of starts only the earliest is kept."""
        slot = self.slot(name, place)
        if slot == 0:
            raise DefinitionError(place, "of starts only the earliest counts; name a step with the same events")
        return slot

    @property
    def counted(self) -> set[int]:
        """The slots of which more than one event is counted."""
        return {point.slot for point in self._points if point.nth > 1}

    def count_condition(self, place: str) -> None:
        """One more of a rule. Raises DefinitionError."""
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise DefinitionError(place, f"rules have at most {MAX_CONDITIONS} conditions in all")

    def add(self, point: Point) -> int:
        """The number of the point."""
        if point not in self._points:
            self._points.append(point)
        return self._points.index(point)


def default_rules(slots: Mapping[str, int]) -> tuple[Rule, ...]:
    """Completed whenever that comes; left and dead, or left and too late; else too late. `slots`: by step's name."""
    completed, left, dead = slots["complete"], slots.get("navigate"), slots.get("dead")

    def abandoned(moments: Moments, expired: bool) -> bool:
        gone = left is not None and moments[left] is not None
        return gone and (expired or (dead is not None and moments[dead] is not None))

    return (
        Rule(COMPLETED, _reached(completed)),
        Rule(ABANDONED_AFTER_NAVIGATION, abandoned),
        Rule(ABANDONED_TIMEOUT, lambda moments, expired: expired),
    )


def outcome_of(rules: Sequence[Rule], moments: Moments, expired: bool) -> str | None:
    """None before the start, which is the first moment, is known: nothing counts until then."""
    if moments[0] is None:
        return None
    return next((rule.name for rule in rules if rule.holds(moments, expired)), IN_PROGRESS)


def parse_rules(spec: object, place: str, places: Places) -> tuple[Rule, ...]:
    """Raises DefinitionError, which names the faulty place."""
    if not isinstance(spec, list) or not 1 <= len(spec) <= MAX_RULES:
        raise DefinitionError(place, f"must be a list of 1 to {MAX_RULES} rules, each with name and when")
    rules: list[Rule] = []
    for i, one in enumerate(spec):
        where = f"{place}[{i}]"
        if not isinstance(one, Mapping):
            raise DefinitionError(where, "must be an object with name and when")
        refuse_unknown(one, {"name", "when"}, where)
        name = parse_name(one.get("name"), f"{where}.name", {IN_PROGRESS, *(rule.name for rule in rules)})
        rules.append(Rule(name, _condition(one.get("when"), f"{where}.when", places)))
    return tuple(rules)


def _condition(spec: object, place: str, places: Places, depth: int = 1) -> Condition:
    if not isinstance(spec, Mapping):
        raise DefinitionError(place, "must be an object: reached, timeout, not, all or any")
    if depth > _MAX_DEPTH:
        raise DefinitionError(place, f"nested deeper than {_MAX_DEPTH}")
    places.count_condition(place)
    if "reached" in spec:
        refuse_unknown(spec, {"reached", "within", "of"}, place)
        return _reached(_place(spec, place, places))
    if len(spec) == 1:
        ((name, inner),) = spec.items()
        if name == "timeout":
            if inner is not True:
                raise DefinitionError(f"{place}.timeout", "must be true")
            return lambda moments, expired: expired
        if name == "not":
            negated = _condition(inner, f"{place}.not", places, depth + 1)
            return lambda moments, expired: not negated(moments, expired)
        if name in ("all", "any"):
            if not isinstance(inner, list) or not inner:
                raise DefinitionError(f"{place}.{name}", "must be a list of conditions")
            parts = [_condition(c, f"{place}.{name}[{i}]", places, depth + 1) for i, c in enumerate(inner)]
            if name == "all":
                return lambda moments, expired: all(part(moments, expired) for part in parts)
            return lambda moments, expired: any(part(moments, expired) for part in parts)
    raise DefinitionError(place, "must be an object: reached, timeout, not, all or any")


def _place(spec: Mapping[str, object], place: str, places: Places) -> int:
    if spec.get("within") is None:
        if spec.get("of") is not None:
            raise DefinitionError(f"{place}.of", "only together with within")
        return places.slot(spec["reached"], f"{place}.reached")
    step = places.later_slot(spec["reached"], f"{place}.reached")
    within = parse_span(spec["within"], f"{place}.within", most=MAX_SPAN)
    of = places.slot(spec.get("of", "start"), f"{place}.of")
    return places.add(Point(step, after=of, within=within, of=of))


def _reached(point: int) -> Condition:
    return lambda moments, expired: moments[point] is not None
