"""What a batch adds to which rows. Deltas commute: those of any batches, added in any order, give the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from services.aggregator.domain.caps import NewGroups
from services.aggregator.domain.facts import Facts
from services.aggregator.domain.plan import StreakPlan, TrackPlan, UnitSeries, WindowSeries
from services.aggregator.domain.runs import Run
from services.aggregator.domain.states import AnyState


@dataclass(frozen=True, slots=True)
class WindowDelta:
    """What one batch adds to one minute of one series and group. Sums are scaled integers."""

    series: WindowSeries
    minute: int
    group: str
    """Canonical JSON array of the group's values; `[]` where nothing is grouped."""
    n: int
    sum: int
    sum_squares: int
    min: int | None
    max: int | None
    state: AnyState | None = None


@dataclass(slots=True)
class SeriesCounters:
    """How many of a series' matching events were counted, late, duplicates, or had no usable value.

    `overflow`: how many of the counted ones were of groups beyond the cap. Where an event gives several (answers of a
    survey, categories), counted, invalid and overflow count those.
    """

    counted: int = 0
    late: int = 0
    duplicates: int = 0
    invalid: int = 0
    overflow: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What a batch tells of a unit; `seen` is the time (µs) of its latest event that may tell something new.

    `present`: the unit most likely has a row already.
    """

    facts: Facts
    seen: int
    present: bool = False


class Exposure(msgspec.Struct, frozen=True, gc=False):
    """`context` is what the event says of the unit, for segments: canonical JSON of path → text."""

    series: UnitSeries
    unit: str
    variant: str
    time: int
    context: str = "{}"


class Link(NamedTuple):
    """An anonymous visitor is this user, as an event at `at` (µs) said."""

    at: int
    user_id: str


@dataclass(frozen=True, slots=True, eq=False)
class UnitValues:
    """Values of one series, event by event: `codes` (places in `names`), `times` (µs) and scaled `values`.

    `names` is ascending and the same list for all that a batch gives to one experiment.
    """

    series: UnitSeries
    exposure: UnitSeries
    names: list[str]
    codes: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]

    @property
    def units(self) -> list[str]:
        return [self.names[code] for code in self.codes.tolist()]


@dataclass(frozen=True, slots=True)
class UnitlessResult:
    """A recorded result that names its variant but no unit."""

    series: UnitSeries
    variant: str
    value: int


@dataclass(slots=True)
class OrganisationCounters:
    events: int = 0
    counted: int = 0
    late: int = 0
    duplicates: int = 0


@dataclass(slots=True)
class Deltas:
    windows: list[WindowDelta] = field(default_factory=list)
    counters: dict[WindowSeries, SeriesCounters] = field(default_factory=dict)
    groups: NewGroups = field(default_factory=NewGroups)
    organisations: dict[str, OrganisationCounters] = field(default_factory=dict)
    exposures: list[Exposure] = field(default_factory=list)
    unit_values: list[UnitValues] = field(default_factory=list)
    unitless: list[UnitlessResult] = field(default_factory=list)
    streaks: list[tuple[StreakPlan, dict[str, Run]]] = field(default_factory=list)
    """What to join to each group's run."""
    facts: list[tuple[TrackPlan, Mapping[str, Told]]] = field(default_factory=list)
    """What the batch tells of each unit."""
    links: dict[tuple[str, str], Link] = field(default_factory=dict)
    """By organisation and anonymous id."""
    invalid_experiment_events: int = 0
    """Exposures and results that fit no experiment we know, or are malformed."""
