"""What a batch adds to which rows. Deltas commute: those of any batches, added in any order, give the same rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.aggregator.domain.kinds.journey import Facts
from services.aggregator.domain.kinds.streak import Run
from services.aggregator.domain.plan import JourneyPlan, StreakPlan, UnitSeries, WindowSeries
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
    """How many of a series' matching events were counted, late, duplicates, or had no usable value."""

    counted: int = 0
    late: int = 0
    duplicates: int = 0
    invalid: int = 0


@dataclass(frozen=True, slots=True)
class Exposure:
    series: UnitSeries
    unit: str
    variant: str
    time: int


@dataclass(frozen=True, slots=True)
class UnitValues:
    """Values of one series, event by event: `units`, `times` (µs) and scaled `values` share their order."""

    series: UnitSeries
    exposure: UnitSeries
    units: list[str]
    times: list[int]
    values: list[int]


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
    organisations: dict[str, OrganisationCounters] = field(default_factory=dict)
    exposures: list[Exposure] = field(default_factory=list)
    unit_values: list[UnitValues] = field(default_factory=list)
    unitless: list[UnitlessResult] = field(default_factory=list)
    streaks: list[tuple[StreakPlan, dict[str, Run]]] = field(default_factory=list)
    """What to join to each group's run."""
    journeys: list[tuple[JourneyPlan, dict[str, Facts]]] = field(default_factory=list)
    """What the batch tells of each unit."""
    invalid_experiment_events: int = 0
    """Exposures and results that fit no experiment we know, or are malformed."""
