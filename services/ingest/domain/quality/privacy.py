"""What must not be kept is taken out of events before they are stored: dropped, cut short, or hashed.

Nothing that was handed in is changed, since an event may have to be judged once more; what lies beside a changed
value is shared with the original.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any

import msgspec

from services.ingest.domain.normalise import MAX_EVENT_TYPE_CHARACTERS, EventBody
from services.ingest.domain.quality.event_types import EventTypes
from services.ingest.domain.quality.field_path import CONTEXT, DATA, IDS, FieldPath, everywhere
from services.ingest.domain.quality.hash_keys import Hasher
from services.ingest.domain.quality.hash_period import Rotation, period_of
from shared.messages import Event

HasherOf = Callable[[Rotation, int], Hasher | None]
"""By the time of arrival (microseconds UTC); None while its key is not there."""


MAX_VALUES = 10_000
"""Of one event that are hashed or cut: that takes microseconds each, and a hash may be much longer than its value."""


class TooManyValuesError(Exception):
    """More of an event's values than `MAX_VALUES` would have to be hashed or cut."""


class Action(Enum):
    DROP = "drop"
    TRUNCATE_IP = "truncate_ip"
    HASH = "hash"


class _Nothing(Enum):
    NOTHING = 0


_NOTHING = _Nothing.NOTHING
"""What remains of a dropped value."""


@dataclass(frozen=True, slots=True)
class PrivacyRule:
    """One action on some fields. `truncate` belongs to TRUNCATE_IP, `rotation` to HASH."""

    action: Action
    event_types: EventTypes
    paths: tuple[FieldPath, ...]
    truncate: Callable[[str], str | None] | None = None
    rotation: Rotation | None = None
    keeps_unreadable: bool = False


@dataclass(slots=True)
class Redactions:
    """How many values were changed, and, where they are wanted, which."""

    counts: dict[Action, int] = field(default_factory=lambda: dict.fromkeys(Action, 0))
    removed: list[str] | None = None


@dataclass(slots=True)
class _Run:
    hashers: Mapping[Rotation, Hasher]
    done: Redactions
    left: int = MAX_VALUES
    """So many more values of the event at hand may be hashed or cut."""

    def spend(self) -> None:
        """Raises TooManyValuesError."""
        self.left -= 1
        if self.left < 0:
            raise TooManyValuesError

    def is_ours(self, value: str) -> bool:  # a property of the value, no decision
        return any(hasher.is_ours(value) for hasher in self.hashers.values())

    def count(self, action: Action, value: Any) -> None:
        self.done.counts[action] += 1
        if self.done.removed is not None:
            self.done.removed.extend(_texts(value))


@dataclass(slots=True)
class _Place:
    """What happens to the value that stands there, and within it: first to its parts."""

    parts: dict[str, _Place] = field(default_factory=dict)
    drop: bool = False
    truncate: Callable[[str], str | None] | None = None
    rotations: list[Rotation] = field(default_factory=list)

    def add(self, rule: PrivacyRule) -> None:
        if rule.action is Action.DROP:
            self.drop = True
        elif rule.action is Action.TRUNCATE_IP:
            self.truncate = self.truncate or rule.truncate
        elif rule.rotation is not None and rule.rotation not in self.rotations:
            self.rotations.append(rule.rotation)

    def of(self, value: Any, run: _Run) -> Any:
        """The value as it may be kept."""
        if self.drop:
            run.count(Action.DROP, value)
            return _NOTHING
        if value is None:
            return None
        if isinstance(value, list):
            kept = [one for element in value if (one := self.of(element, run)) is not _NOTHING]
            return value if _are_the_same(kept, value) else kept
        if self.parts and isinstance(value, dict):
            value = self.within(value, run)
        if self.truncate is not None:
            value = self._truncated(self.truncate, value, run)
        if self.rotations and value is not _NOTHING:
            value = self._hashed(value, run)
        return value

    def within(self, values: dict[str, Any], run: _Run) -> dict[str, Any]:
        kept = values
        for name, place in self.parts.items():
            if name not in values:
                continue
            value = values[name]
            new = place.of(value, run)
            if new is value:
                continue
            if kept is values:
                kept = dict(values)
            if new is _NOTHING:
                del kept[name]
            else:
                kept[name] = new
        return kept

    @staticmethod
    def _truncated(truncate: Callable[[str], str | None], value: Any, run: _Run) -> Any:
        if not isinstance(value, str):
            run.count(Action.TRUNCATE_IP, value)
            return _NOTHING
        if run.is_ours(value):
            return value
        run.spend()
        short = truncate(value)
        if short == value:
            return value
        run.count(Action.TRUNCATE_IP, value)
        return _NOTHING if short is None else short

    def _hashed(self, value: Any, run: _Run) -> Any:
        text = value if isinstance(value, str) else _text(value)
        if not text:
            return value
        hasher = run.hashers.get(self.rotations[0])
        if hasher is None:  # nobody asked whether there is one: nothing is kept rather than the value
            run.count(Action.DROP, value)
            return _NOTHING
        run.spend()
        hashed = hasher.hashed(text)
        if hashed == value:
            return value
        run.count(Action.HASH, value)
        return hashed


@dataclass(frozen=True, slots=True)
class _Plan:
    """For one event type."""

    ids: Mapping[str, _Place]
    data: _Place | None
    context: _Place | None


_MOST_TYPES = 2_000
"""Clients name event types as they like."""
_MOST_PLANS = 200


class Redactor:
    """The privacy rules of one organisation."""

    def __init__(self, rules: Sequence[PrivacyRule], hasher_of: HasherOf, done: Redactions) -> None:
        self._rules = rules
        self._rotations = {rule.rotation for rule in rules if rule.rotation is not None}
        self._hasher_of = hasher_of
        self._done = done
        self._plans: dict[str, _Plan | None] = {}
        self._plans_of: dict[tuple[int, ...], _Plan | None] = {}
        """By the numbers of the rules: many event types are under the same ones, and a plan may be large."""
        self._run = _Run({}, done)
        self._from = self._until = 0
        self.keeps_unreadable = all(rule.keeps_unreadable for rule in rules)

    def is_ready(self, received_at: int) -> bool:  # a property of the moment, no decision
        """Whether all keys are there for events of that time."""
        return len(self._run_of(received_at).hashers) == len(self._rotations)

    def event(self, event: Event, received_at: int) -> Event:
        """As it may be kept. Raises TooManyValuesError."""
        plan = self._plan(event.event_type)
        return event if plan is None else self._event(event, plan, self._run_of(received_at))

    def event_and_removed(self, event: Event, received_at: int) -> tuple[Event, Sequence[str]]:
        """The same, and the texts that it no longer has. Raises TooManyValuesError."""
        plan = self._plan(event.event_type)
        if plan is None:
            return event, ()
        done = Redactions(self._done.counts, removed=[])
        return self._event(event, plan, _Run(self._run_of(received_at).hashers, done)), done.removed or ()

    def _event(self, event: Event, plan: _Plan, run: _Run) -> Event:
        run.left = MAX_VALUES
        changed: dict[str, Any] = {}
        if plan.data is not None:
            data = plan.data.within(event.properties, run)
            if data is not event.properties:
                changed["properties"] = data
        if plan.context is not None:
            context = plan.context.within(event.context, run)
            if context is not event.context:
                changed["context"] = context
        for name, place in plan.ids.items():
            value = getattr(event, name)
            if value is not None:
                new = place.of(value, run)
                changed[name] = None if new is _NOTHING else new
        return msgspec.structs.replace(event, **changed) if changed else event

    def body(self, body: EventBody, received_at: int) -> tuple[EventBody, Sequence[str]] | None:
        """The same for what is no event yet, and the texts that it no longer has; None if no rule is about it.

        All rules are about what has no event type that could be one. Raises TooManyValuesError.
        """
        is_named = body.event_type.strip() and len(body.event_type) <= MAX_EVENT_TYPE_CHARACTERS
        plan = self._plan(body.event_type) if is_named else self._plan_of_all
        if plan is None:
            return None
        done = Redactions(self._done.counts, removed=[])
        run = _Run(self._run_of(received_at).hashers, done)
        changed: dict[str, Any] = {}
        if plan.data is not None and body.event_data is not None:
            changed["event_data"] = plan.data.within(body.event_data, run)
        if plan.context is not None and body.context is not None:
            changed["context"] = plan.context.within(body.context, run)
        for name, place in plan.ids.items():
            value = getattr(body, name)
            if value is not None:
                new = place.of(value, run)
                changed[name] = None if new is _NOTHING else new
        return msgspec.structs.replace(body, **changed), done.removed or ()

    @cached_property
    def _plan_of_all(self) -> _Plan | None:
        return _plan_of(self._rules)

    def _plan(self, event_type: str) -> _Plan | None:
        try:
            return self._plans[event_type]
        except KeyError:
            if len(self._plans) >= _MOST_TYPES:
                self._plans.clear()
            numbers = tuple([n for n, rule in enumerate(self._rules) if rule.event_types.include(event_type)])
            if numbers not in self._plans_of:
                if len(self._plans_of) >= _MOST_PLANS:
                    self._plans_of.clear()
                self._plans_of[numbers] = _plan_of([self._rules[n] for n in numbers])
            plan = self._plans[event_type] = self._plans_of[numbers]
            return plan

    def _run_of(self, time: int) -> _Run:
        if self._from <= time < self._until and len(self._run.hashers) == len(self._rotations):
            return self._run
        periods = [period_of(rotation, time) for rotation in self._rotations]
        self._from = max((period.start for period in periods), default=0)
        self._until = min((period.end for period in periods), default=2**63)
        found = {rotation: self._hasher_of(rotation, time) for rotation in self._rotations}
        self._run = _Run({name: hasher for name, hasher in found.items() if hasher is not None}, self._done)
        return self._run


def _plan_of(rules: Sequence[PrivacyRule]) -> _Plan | None:
    roots: dict[str, _Place] = {}
    for rule in rules:
        for path in {place for named in rule.paths for place in everywhere(named)}:
            place = roots.setdefault(path.root, _Place())
            for step in path.steps:
                place = place.parts.setdefault(step, _Place())
            place.add(rule)
    if not roots:
        return None
    ids = {name: roots[name] for name in IDS if name in roots}
    return _Plan(ids, roots.get(DATA), roots.get(CONTEXT))


def _are_the_same(new: list[Any], old: list[Any]) -> bool:  # a comparison of values
    return len(new) == len(old) and all(one is other for one, other in zip(new, old, strict=True))


def _text(value: Any) -> str:
    """Numbers as ids are written, so that 42 and "42" have one hash; objects as canonical JSON."""
    if isinstance(value, float):
        return "0" if value == 0 else format(Decimal(repr(value)), "f").removesuffix(".0")
    return msgspec.json.encode(value, order="sorted").decode()


def _texts(value: Any) -> Sequence[str]:
    """All that somebody could read in it."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for part in (*value.keys(), *value.values()) for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [] if value is None or isinstance(value, bool) else [_text(value)]
