"""What journeys count by a key that several of their units share, such as a user's sessions or a user's jobs.

Each shared key has a row of its own, which holds the starts of all its units and the other stream's events. So
whichever comes first, and through whichever shard: what counts is a function of that one row.

    user u1   session s1 ●───────── 24 h ─────────┤
              session s2        ●───────── 24 h ─────────┤
              ticket                    ✉                     s1 and s2 are with a ticket; the ticket is one, s2's
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.aggregator.domain.facts import EVER, MAX_KEPT, Entry, Facts, Moments
from services.aggregator.domain.kinds.journey_track import JourneyTrack
from services.aggregator.domain.kinds.kind import Component
from services.aggregator.domain.kinds.stages import parse_name, parse_stage, parse_unit
from services.aggregator.domain.latest import begin_of, latest, parse_times, state_of, trimmed
from services.aggregator.domain.outcomes import MAX_SPAN, outcome_of
from services.aggregator.domain.paths import parse_path
from services.aggregator.domain.specs import Selector, refuse_unknown
from services.aggregator.domain.times import parse_span
from services.aggregator.domain.tracks import (
    ORIGIN,
    PER_MICROSECOND,
    Column,
    Parts,
    Share,
    Slot,
    StateColumn,
    Sub,
    Summary,
    Text,
    Unit,
    minute_of,
    prefixed,
    slot_of,
)
from shared.definition_error import DefinitionError

MAX_CORRELATES = 10
MAX_AT_LEAST = 100


@dataclass(frozen=True, slots=True)
class CorrelatedTrack:
    """Slot 0: starts, each of a unit that is part of the shared key's; slot 1: the other stream's events.

    Events are (time, text), with `latest` (time, text, state).

    A start counts if `at_least` events come within `within` (µs) from it on. With `distinct`, each event counts once
    too, by the latest start that it is so near to. Of starts and of events the earliest MAX_KEPT count, with `latest`
    those of the MAX_KEPT least texts.
    """

    name: str
    unit: Unit
    slots: tuple[Slot, ...]
    within: int
    at_least: int
    distinct: bool
    latest: bool = False
    """Whether events are told apart by a text and tell a state: each is what its latest state says."""

    component: Component = "correlated"

    def moments(self, facts: Facts) -> Moments:
        return ()

    def limits(self, facts: Facts, moments: Moments) -> list[int]:
        return [EVER] * len(facts)

    def cut(self, facts: Facts, limits: Sequence[int]) -> Facts:
        """The earliest start of each unit, and of events that are told apart by a text the earliest of each."""
        starts, events = facts
        if self.latest:
            return _earliest(starts)[:MAX_KEPT], _trimmed(events)
        return _earliest(starts)[:MAX_KEPT], (_earliest(events) if self.distinct else events)[:MAX_KEPT]

    def _known(self, facts: Facts) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Starts, and the other stream's events that count, at the times at which they do."""
        starts, events = facts
        return starts, _standing(events) if self.latest else events

    def shares(self, facts: Facts, moments: Moments, expired: bool) -> list[Share]:
        shares: list[Share] = []
        for (begin, _, group, *_), took in self._with(facts):
            shares.append(Share("correlated", minute_of(begin), prefixed(self.name, group), took))
        for begin, _, group, *_ in self._matched(facts):
            shares.append(Share("matched", minute_of(begin), prefixed(self.name, group)))
        return shares

    def parts(self, facts: Facts, moments: Moments) -> Parts | None:
        """By unit of the key how long it took until it was with the event, and less than 0 how many match it."""
        matches = Counter(sub for _, sub, *_ in self._matched(facts))
        found = [(sub, took) for (_, sub, *_), took in self._with(facts)]
        found += [(sub, -count) for sub, count in matches.items()]
        return Parts(tuple(value for _, value in found), tuple(sub for sub, _ in found))

    def _with(self, facts: Facts) -> Iterator[tuple[Entry, int]]:
        """Starts that count, and the scaled ms until they do."""
        starts, events = self._known(facts)
        for start in starts:
            begin = start[0]
            nth = bisect_left(events, (begin,)) + self.at_least - 1
            if nth < len(events) and events[nth][0] <= begin + self.within:
                yield start, (events[nth][0] - begin) * PER_MICROSECOND

    def _matched(self, facts: Facts) -> Iterator[Entry]:
        """The start of each event that counts once."""
        starts, events = self._known(facts)
        for time, _ in events if self.distinct else ():
            last = bisect_left(starts, (time + 1,)) - 1
            if last >= 0 and time <= starts[last][0] + self.within:
                yield starts[last]

    def deadline(self, moments: Moments) -> int | None:
        return None

    def summary(self, facts: Facts, moments: Moments, expired: bool) -> Summary:
        """The earliest start."""
        if not facts[0]:
            return Summary()
        begin, _, *origin = facts[0][0]
        return Summary(begin, tuple(origin))

    def settles(self, moments: Moments) -> int | None:
        """Never: the key may have new units."""
        return None

    def forget(self, facts: Facts, moments: Moments, before: int) -> Facts:
        """Events that no start is near to. One that is told apart by a text may come again, and is none then."""
        starts, events = facts
        if self.distinct or not events or events[0][0] >= before:
            return facts
        return starts, tuple(e for e in events if e[0] >= before or self._is_near(starts, e[0]))

    def _is_near(self, starts: Sequence[Entry], time: int) -> bool:
        last = bisect_left(starts, (time + 1,)) - 1
        return last >= 0 and time <= starts[last][0] + self.within


def _earliest(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Of each text that comes second the first entry: of those of one instant the least."""
    found: dict[str, Entry] = {}
    for entry in entries:
        found.setdefault(entry[1], entry)
    return entries if len(found) == len(entries) else tuple(found.values())


def _by_text(events: Sequence[Entry]) -> dict[str, tuple[Entry, ...]]:
    """Ascending, those that are told apart by one text together."""
    found: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in events:
        found[entry[1]].append(entry)
    return {text: tuple(entries) for text, entries in found.items()}


def _trimmed(events: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Of the MAX_KEPT least texts, the earliest entry and that of the latest state.

    Not of those that came first: one that turns out to have come earlier would count without what was cut of it.
    """
    by_text = _by_text(events)
    return tuple(sorted(entry for text in sorted(by_text)[:MAX_KEPT] for entry in trimmed(by_text[text])))


def _standing(events: tuple[Entry, ...]) -> list[Entry]:
    """By text when its thing began, of those whose latest state counts."""
    found: list[Entry] = []
    for text, entries in _by_text(events).items():
        state = state_of(latest(entries))
        if state.counts:
            found.append((begin_of(entries, state), text))
    return sorted(found)


@dataclass(frozen=True, slots=True)
class FirstAttemptTrack:
    """The journey of a key's first unit, such as a user's first job.

    Entries say whose they are, and are kept of all units: any of them may turn out to have been the first.
    """

    unit: Unit
    journey: JourneyTrack
    slots: tuple[Slot, ...]

    name = "first_attempt"
    component: Component = "first_attempt"

    def moments(self, facts: Facts) -> Moments:
        """Of the first attempt."""
        return self.journey.moments(self._first(facts))

    def limits(self, facts: Facts, moments: Moments) -> list[int]:
        return [EVER] * len(self.slots)

    def cut(self, facts: Facts, limits: Sequence[int]) -> Facts:
        """Of each unit what matters to its journey."""
        slots: list[list[Entry]] = [[] for _ in facts]
        for sub, attempt in _attempts(facts).items():
            moments = self.journey.moments(attempt)
            kept = self.journey.cut(attempt, self.journey.limits(attempt, moments))
            for slot, entries in zip(slots, kept, strict=True):
                slot.extend((time, sub, *texts) for time, *texts in entries)
        return tuple(tuple(sorted(slot)[:MAX_KEPT]) for slot in slots)

    def shares(self, facts: Facts, moments: Moments, expired: bool) -> list[Share]:
        outcome = outcome_of(self.journey.rules, moments, expired)
        if outcome is None:
            return []
        begin, _, group, *_ = facts[0][0]
        return [Share("first_attempt", minute_of(begin), prefixed(outcome, group))]

    def parts(self, facts: Facts, moments: Moments) -> Parts | None:
        return None

    def deadline(self, moments: Moments) -> int | None:
        return self.journey.deadline(moments)

    def summary(self, facts: Facts, moments: Moments, expired: bool) -> Summary:
        return self.journey.summary(self._first(facts), moments, expired)

    def settles(self, moments: Moments) -> int | None:
        """Never: the journey does not."""
        return None

    def forget(self, facts: Facts, moments: Moments, before: int) -> Facts:
        """What is known of attempts that came later than the first: no start comes any more that changes it."""
        gone = {sub for time, sub, *_ in facts[0][1:] if time < before}
        if not gone:
            return facts
        return tuple(tuple(e for e in entries if e[1] not in gone) for entries in facts)

    def _first(self, facts: Facts) -> Facts:
        if not facts[0]:
            return ((),) * len(self.slots)
        return _attempts(facts)[facts[0][0][1]]


def _attempts(facts: Facts) -> dict[str, Facts]:
    """By unit its own facts: entries without its id."""
    found: defaultdict[str, list[list[Entry]]] = defaultdict(lambda: [[] for _ in facts])
    for slot, entries in enumerate(facts):
        for time, sub, *texts in entries:
            found[sub][slot].append((time, *texts))
    return {sub: tuple(map(tuple, slots)) for sub, slots in found.items()}


def parse_correlates(spec: object, journey: JourneyTrack) -> tuple[CorrelatedTrack, ...]:
    """Raises DefinitionError, which names the faulty place."""
    if spec is None:
        return ()
    if not isinstance(spec, list) or len(spec) > MAX_CORRELATES:
        raise DefinitionError("spec.correlate", f"must be a list of at most {MAX_CORRELATES}")
    found: list[CorrelatedTrack] = []
    for i, one in enumerate(spec):
        place = f"spec.correlate[{i}]"
        select = parse_stage(one, place, also=frozenset({"name", "by", "within", "at_least", "distinct", "latest"}))
        distinct = one.get("distinct")
        event: Column | Text = Column.EVENT
        if distinct is not None:
            event = Text(parse_path(distinct, f"{place}.distinct"))
        states = _states(one.get("latest"), select, f"{place}.latest", distinct=distinct)
        start = journey.slots[0]
        starts = Slot(start.select, start.where, (Sub(journey.unit), *ORIGIN))
        found.append(
            CorrelatedTrack(
                name=parse_name(one.get("name"), f"{place}.name", {c.name for c in found} | {FirstAttemptTrack.name}),
                unit=_shared(one, place, journey),
                slots=(starts, slot_of(_all_of(select) if states else select, None, (event, *states))),
                within=parse_span(one.get("within"), f"{place}.within", most=MAX_SPAN),
                at_least=parse_at_least(one, place),
                distinct=distinct is not None,
                latest=bool(states),
            )
        )
    return tuple(found)


def _states(spec: object, select: Selector, place: str, *, distinct: object) -> tuple[StateColumn, ...]:
    """What events tell of what `distinct` tells apart, if they tell states. Raises DefinitionError."""
    if spec is None:
        return ()
    if not isinstance(spec, Mapping):
        raise DefinitionError(place, "must be an object with begin and order, each optional")
    refuse_unknown(spec, {"begin", "order"}, place)
    if distinct is None or select.events is None:
        raise DefinitionError(place, "only together with distinct and event")
    begin, order = parse_times(spec, place)
    return (StateColumn(begin, order, where=None if select.where is None else select),)


def _all_of(select: Selector) -> Selector:
    """The filter is of the latest states: those that do not pass it must be known too."""
    return Selector(select.events, None)


def parse_first_attempt(spec: object, journey: JourneyTrack) -> FirstAttemptTrack | None:
    """Raises DefinitionError, which names the faulty place."""
    if spec is None:
        return None
    place = "spec.first_attempt"
    if not isinstance(spec, Mapping):
        raise DefinitionError(place, "must be an object with by")
    refuse_unknown(spec, {"by"}, place)
    slots = tuple(Slot(s.select, s.where, (Sub(journey.unit), *s.columns)) for s in journey.slots)
    return FirstAttemptTrack(_shared(spec, place, journey), journey, slots)


def parse_at_least(spec: Mapping[str, Any], place: str) -> int:
    """How many events are asked for; one unless it is said."""
    at_least = spec.get("at_least", 1)
    if type(at_least) is not int or not 1 <= at_least <= MAX_AT_LEAST:
        raise DefinitionError(f"{place}.at_least", f"must be an integer from 1 to {MAX_AT_LEAST}")
    return at_least


def _shared(spec: Mapping[str, Any], place: str, journey: JourneyTrack) -> Unit:
    unit = parse_unit(spec.get("by"), f"{place}.by")
    if unit == journey.unit:
        raise DefinitionError(f"{place}.by", "must be another unit than the journey's own")
    return unit
