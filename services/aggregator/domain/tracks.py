"""Tracks: what metrics over time keep of each unit, and what that gives to windows. One row a track and unit.

    event ──► entries of slots ──► united with what is known ──► shares of windows
                                   (cut to what can matter)      (a function of what is known)

When more is known, the shares that stood are taken back and those that stand are added, under the row's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

import msgspec

from services.aggregator.domain.expressions import Source
from services.aggregator.domain.facts import Entry, Facts, Moments
from services.aggregator.domain.filters import Filter
from services.aggregator.domain.kinds.kind import Component
from services.aggregator.domain.paths import Path
from services.aggregator.domain.specs import Selector
from shared.clock import MINUTE
from shared.messages import UnitKind

Unit = UnitKind | Path
"""What tells units apart: an event's user, session or job, or the text at a path."""

MILLISECONDS_SCALE = 6
"""Times between moments are milliseconds in units of 10**-6, as other values are by default."""
PER_MICROSECOND = 1_000


class Column(Enum):
    """What an entry says beside its time."""

    GROUP = "group"
    """The event's group as canonical JSON."""
    USER = "user"
    SESSION = "session"
    JOB = "job"
    """These three: whose the event is in experiments by user, session or job; empty where it has no such id."""
    EVENT = "event"
    """The event's id, as a digest: two events of one instant are two."""


@dataclass(frozen=True, slots=True)
class Text:
    """The text at a path; an event without one is invalid. A `label` is shown: it is cut short, empty if absent."""

    path: Path
    label: bool = False


@dataclass(frozen=True, slots=True)
class Sub:
    """The id of the unit that is part of the track's unit; an event without one is invalid."""

    unit: Unit


ORIGIN: tuple[Column, ...] = (Column.GROUP, Column.USER, Column.SESSION, Column.JOB)
"""What is kept of a start."""


@dataclass(frozen=True, slots=True)
class StateColumn:
    """The state that an event tells of its unit (`latest.State`). Sources are the event's; None: it says nothing."""

    begin: Source | None = None
    order: Source | None = None
    value: Source | None = None
    scale: int = 0
    where: Selector | None = None
    """Which states count; None: all."""


Columns = tuple[Column | Text | Sub | StateColumn, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """Which events make an entry, and what it says. `where` is a second selector that must take them too."""

    select: Selector
    where: Selector | None = None
    columns: Columns = ()


def slot_of(select: Selector, where: Filter | None, columns: Columns = ()) -> Slot:
    """Of a stage's events those that the definition's own filter takes too."""
    return Slot(select, None if where is None else Selector(select.events, where), columns)


class Share(NamedTuple):
    """One that a unit counts in a window. `value` is scaled, None where nothing is summed; `minute` in µs."""

    component: Component
    minute: int
    group: str
    value: int | None = None
    sketched: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """A unit's present state in plain words, for readers who do not know facts. Times in µs, `duration` scaled ms."""

    started: int | None = None
    origin: Entry = ("[]", "", "", "")
    """The start's group and ids."""
    state: str | None = None
    duration: int | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """What a unit gives to parts of its metric, kept in its row so that they can be cut by whom it belongs to.

    `values` are scaled, in the order of the track's `kept`, None for what the unit does not give to; `names` and what
    values mean beside them is the track's own. Deadlines change neither.
    """

    values: tuple[int | None, ...] = ()
    names: tuple[str, ...] = ()


class Track(Protocol):
    """What is kept of a unit for one purpose. Everything is a function of what is known."""

    @property
    def name(self) -> str:
        """Tells a metric's tracks apart; empty for the main one."""

    @property
    def component(self) -> Component:
        """Whose series counts the track's events."""

    @property
    def unit(self) -> Unit:
        """What has a row."""

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The kinds of entries; the first is of starts."""

    def moments(self, facts: Facts) -> Moments:
        """What follows from all that is known, worked out once for what is asked below."""

    def limits(self, facts: Facts, moments: Moments) -> Sequence[int]:
        """By slot the last time (µs) that can still matter (`facts.EVER`: any)."""

    def cut(self, facts: Facts, limits: Sequence[int]) -> Facts:
        """What can still matter; the moments stay. What is cut of united facts is that of all their events."""

    def shares(self, facts: Facts, moments: Moments, expired: bool) -> list[Share]:
        """Where the unit counts. `expired`: a shard's clock has passed the deadline.

        If there are moments, they, the starts and the entries of the last slot alone decide.
        """

    def parts(self, facts: Facts, moments: Moments) -> Parts | None:
        """What the row keeps of the shares; None if its state and duration say enough."""

    def deadline(self, moments: Moments) -> int | None:
        """When (µs) time alone changes the shares; None if it does not."""

    def summary(self, facts: Facts, moments: Moments, expired: bool) -> Summary:
        """What the row says in plain columns."""

    def settles(self, moments: Moments) -> int | None:
        """When (µs) nothing that happens later can matter any more; None if that is not known."""

    def forget(self, facts: Facts, moments: Moments, before: int) -> Facts:
        """Without what mattered only together with events before that time (µs), which come no more.

        Neither the moments nor the shares change.
        """


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of a unit, cut to what can matter, and what follows from it."""

    facts: Facts
    moments: Moments
    limits: Sequence[int]


def prefixed(first: str, group: str) -> str:
    """A group's canonical JSON with one more value in front."""
    head = msgspec.json.encode(first).decode()
    return f"[{head}]" if group == "[]" else f"[{head},{group[1:]}"


def minute_of(time: int) -> int:
    return time - time % MINUTE


def known(track: Track, facts: Facts) -> Known:
    """Of facts that may still hold what cannot matter."""
    moments = track.moments(facts)
    limits = track.limits(facts, moments)
    return Known(track.cut(facts, limits), moments, limits)
