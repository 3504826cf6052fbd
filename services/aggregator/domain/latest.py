"""States of a thing that changes, such as a support ticket: of all that events told of it, the latest counts.

    10:00 {ticket 7, open, category a} ─┐
    12:00 {ticket 7, open, category b}  ├─►  ticket 7: begun at 10:00, in category b, resolved after 5 h
    15:00 {ticket 7, resolved, b}      ─┘
    15:00 {ticket 7, resolved, b}           sent again: nothing new

Two entries of a unit are kept, that of its latest state and the earliest: both are functions of the set of events, so
order, repetition and the shards that events come through change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from services.aggregator.domain.expressions import Source, parse_source
from services.aggregator.domain.facts import Entry


class State(NamedTuple):
    """Times in µs, `value` scaled."""

    order: int
    """The state with the highest is the latest; the event's time if nothing says it."""
    begin: int | None
    """When the unit counts; None: when its earliest event happened."""
    value: int | None
    counts: bool


_DECODER = msgspec.json.Decoder(State)


def parse_times(spec: Mapping[str, Any], place: str) -> tuple[Source | None, Source | None]:
    """`begin` and `order`. Raises DefinitionError."""
    begin, order = (
        None if spec.get(name) is None else parse_source(spec[name], f"{place}.{name}") for name in ("begin", "order")
    )
    return begin, order


def state_of(entry: Entry) -> State:
    """Of an entry whose last column is a state."""
    return _DECODER.decode(entry[-1])


def latest(entries: Iterable[Entry]) -> Entry:
    """Of one unit's entries, at least one, that of the latest state: of those of one order the one told last."""
    return max(entries, key=lambda entry: (state_of(entry).order, entry))


def trimmed(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Of one unit's entries, ascending, the earliest and the latest state."""
    if len(entries) < 2:
        return entries
    last = latest(entries)
    return (last,) if last == entries[0] else (entries[0], last)


def begin_of(entries: tuple[Entry, ...], state: State) -> int:
    """When a unit counts that stands in this state."""
    begin: int = entries[0][0] if state.begin is None else state.begin
    return begin
