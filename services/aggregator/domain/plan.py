"""What to do with each event type: the metrics and experiments of the moment, arranged for the fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from services.aggregator.domain.kinds.by_unit import NOTHING, ByUnit
from services.aggregator.domain.kinds.funnel import Funnel
from services.aggregator.domain.kinds.journey import Journey
from services.aggregator.domain.kinds.kind import Component
from services.aggregator.domain.kinds.latest import Latest
from services.aggregator.domain.kinds.measured import Measure, Measured
from services.aggregator.domain.kinds.streak import Streak
from services.aggregator.domain.metrics import Definition
from services.aggregator.domain.paths import Path, parse_path
from services.aggregator.domain.projection import EVERYTHING, Projection
from services.aggregator.domain.reads import projection_of
from services.aggregator.domain.tracks import Track
from shared.definition_error import DefinitionError
from shared.messages import Experiment, UnitKind

EXPOSURE = "experiment_exposure"
RESULT = "experiment_result"
EXPERIMENT_PROPERTIES = ("experiment", "variant", "metric_name", "metric_value")
"""What exposures and results say of themselves."""
EXPOSURE_METRIC = ""
"""The experiment series that counts exposed units."""
RESULT_SCALE = 6
_RESULT_VERSION = 0
"""Definitions begin at 1: a metric that an experiment takes on later never shares a series with recorded results."""


@dataclass(frozen=True, slots=True, order=True)
class WindowSeries:
    """Names the window rows of one measure of one metric version."""

    organisation: str
    metric: str
    version: int
    component: Component
    scale: int


@dataclass(frozen=True, slots=True, order=True)
class UnitSeries:
    """Names the unit rows and totals of one metric (or of the exposures) in one experiment."""

    organisation: str
    experiment: str
    metric: str
    version: int
    component: Component
    scale: int
    part: str = ""
    """Whose the values are where a metric reads several at once: a survey's question, a limit of a share."""
    by_unit: ByUnit = field(default=NOTHING, compare=False)
    """Follows from the version."""
    unit_kind: UnitKind | None = field(default=None, compare=False)
    """Of the exposures' series: what the experiment's units are."""

    def __hash__(self) -> int:
        """Series are looked up for every unit: as little as tells them apart."""
        return hash((self.experiment, self.metric, self.component))


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """An experiment that counts a measure by unit, up to when it ended."""

    series: UnitSeries
    exposure: UnitSeries
    unit_kind: UnitKind
    until: int | None


@dataclass(frozen=True, slots=True)
class MeasurePlan:
    series: WindowSeries
    definition: Definition
    measure: Measure
    units: tuple[UnitPlan, ...]
    leads: bool = True
    """Whether it is the first of its component: it counts what is late or a duplicate for all of them."""


@dataclass(frozen=True, slots=True)
class StreakPlan:
    series: WindowSeries
    definition: Definition
    streak: Streak
    units: tuple[UnitPlan, ...] = ()


@dataclass(frozen=True, slots=True)
class TrackPlan:
    """What a definition keeps of units over time, for one purpose. `series` counts its events and names its rows."""

    series: WindowSeries
    definition: Definition
    track: Track


@dataclass(frozen=True, slots=True)
class ExperimentPlan:
    """What an exposure or a recorded result of the experiment is checked against."""

    exposure: UnitSeries
    unit_kind: UnitKind
    variants: frozenset[str]
    metrics: frozenset[str]
    until: int | None
    segments: tuple[Path, ...] = ()
    """What is kept of each unit's earliest exposure, to cut results by."""


@dataclass(frozen=True, slots=True)
class Plan:
    measures: tuple[MeasurePlan, ...]
    streaks: tuple[StreakPlan, ...]
    tracks: tuple[TrackPlan, ...]
    experiments: Mapping[tuple[str, str], ExperimentPlan]
    """By (organisation, experiment key)."""
    projection: Projection = EVERYTHING
    """What all of these read of events."""

    def window_series(self) -> list[WindowSeries]:
        series = [m.series for m in self.measures if m.leads]
        series += [s.series for s in self.streaks]
        definitions = dict.fromkeys(track.definition for track in self.tracks)
        return series + [window_series(d, component) for d in definitions for component in d.kind.components]


def exposure_series(organisation: str, experiment: str, unit_kind: UnitKind | None = None) -> UnitSeries:
    return UnitSeries(organisation, experiment, EXPOSURE_METRIC, 1, "value", 0, unit_kind=unit_kind)


def result_series(organisation: str, experiment: str, metric: str) -> UnitSeries:
    """Results recorded over REST need no definition: their name is the metric."""
    return UnitSeries(organisation, experiment, metric, _RESULT_VERSION, "value", RESULT_SCALE)


def window_series(definition: Definition, component: Component) -> WindowSeries:
    return WindowSeries(definition.organisation, definition.key, definition.version, component, definition.kind.scale)


def row_series(series: UnitSeries) -> UnitSeries:
    """Whose unit rows hold the series' values: both sides of a ratio share a row."""
    return replace(series, component="numerator") if series.component == "denominator" else series


def make_plan(definitions: Iterable[Definition], experiments: Iterable[Experiment]) -> Plan:
    """Arranges the latest version of each definition. Drafts count nothing yet."""
    definitions = list(definitions)
    begun = [e for e in experiments if e.status not in ("draft", "cancelled")]
    plan = Plan(
        measures=tuple(
            MeasurePlan(
                series=window_series(d, measure.component),
                definition=d,
                measure=measure,
                units=tuple(
                    _unit_plan(e, d, measure.component, measure.part, _by_unit(d, measure))
                    for e in begun
                    if _uses(e, d)
                ),
                leads=all(measure.component != earlier.component for earlier in d.kind.measures[:i]),
            )
            for d in definitions
            if isinstance(d.kind, Measured)
            for i, measure in enumerate(d.kind.measures)
        ),
        streaks=tuple(
            StreakPlan(
                window_series(d, "streak"),
                d,
                d.kind,
                tuple(_unit_plan(e, d, "streak", "", ByUnit(run_length=d.kind.length)) for e in begun if _uses(e, d)),
            )
            for d in definitions
            if isinstance(d.kind, Streak)
        ),
        tracks=tuple(
            TrackPlan(window_series(d, track.component), d, track)
            for d in definitions
            if isinstance(d.kind, Journey | Funnel | Latest)
            for track in d.kind.tracks
        ),
        experiments={
            (e.organisation, e.key): ExperimentPlan(
                exposure=exposure_series(e.organisation, e.key, e.unit),
                unit_kind=e.unit,
                variants=frozenset(v.name for v in e.variants),
                metrics=frozenset(e.metrics),
                until=e.ended_at,
                segments=_segments(e),
            )
            for e in begun
        },
    )
    return replace(plan, projection=projection_of(plan, EXPERIMENT_PROPERTIES if plan.experiments else ()))


def _segments(experiment: Experiment) -> tuple[Path, ...]:
    """Those that we can read: a newer publisher may know paths that we do not."""
    paths = []
    for text in experiment.segments:
        try:
            paths.append(parse_path(text, "segments"))
        except DefinitionError:
            continue
    return tuple(paths)


def _uses(experiment: Experiment, definition: Definition) -> bool:
    return experiment.organisation == definition.organisation and definition.key in experiment.metrics


def _unit_plan(
    experiment: Experiment, definition: Definition, component: Component, part: str, by_unit: ByUnit
) -> UnitPlan:
    organisation, key = experiment.organisation, experiment.key
    return UnitPlan(
        series=UnitSeries(
            organisation,
            key,
            definition.key,
            definition.version,
            component,
            definition.kind.scale,
            part,
            by_unit,
        ),
        exposure=exposure_series(organisation, key, experiment.unit),
        unit_kind=experiment.unit,
        until=experiment.ended_at,
    )


def _by_unit(definition: Definition, measure: Measure) -> ByUnit:
    """Limits and covariates are of a metric's own values, not of the shares beside them."""
    kind = definition.kind
    asked = kind.by_unit if isinstance(kind, Measured) and measure.component == "value" else NOTHING
    return replace(asked, sketched=measure.sketched, exact_up_to=measure.exact_up_to)
