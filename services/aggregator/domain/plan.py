"""What to do with each event type: the metrics and experiments of the moment, arranged for the fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.aggregator.domain.kinds.journey import Journey
from services.aggregator.domain.kinds.kind import Component
from services.aggregator.domain.kinds.measured import Measure, Measured
from services.aggregator.domain.kinds.streak import Streak
from services.aggregator.domain.metrics import Definition
from shared.messages import Experiment, UnitKind

EXPOSURE = "experiment_exposure"
RESULT = "experiment_result"
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


@dataclass(frozen=True, slots=True)
class StreakPlan:
    series: WindowSeries
    definition: Definition
    streak: Streak


@dataclass(frozen=True, slots=True)
class JourneyPlan:
    """`outcomes` counts journeys by outcome, `steps` by step reached (None if the journey names none)."""

    outcomes: WindowSeries
    steps: WindowSeries | None
    definition: Definition
    journey: Journey


@dataclass(frozen=True, slots=True)
class ExperimentPlan:
    """What an exposure or a recorded result of the experiment is checked against."""

    exposure: UnitSeries
    unit_kind: UnitKind
    variants: frozenset[str]
    metrics: frozenset[str]
    until: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    measures: tuple[MeasurePlan, ...]
    streaks: tuple[StreakPlan, ...]
    journeys: tuple[JourneyPlan, ...]
    experiments: Mapping[tuple[str, str], ExperimentPlan]
    """By (organisation, experiment key)."""

    def window_series(self) -> list[WindowSeries]:
        series = [m.series for m in self.measures]
        series += [s.series for s in self.streaks]
        for journey in self.journeys:
            series += [journey.outcomes] if journey.steps is None else [journey.outcomes, journey.steps]
        return series


def exposure_series(organisation: str, experiment: str) -> UnitSeries:
    return UnitSeries(organisation, experiment, EXPOSURE_METRIC, 1, "value", 0)


def result_series(organisation: str, experiment: str, metric: str) -> UnitSeries:
    """Results recorded over REST need no definition: their name is the metric."""
    return UnitSeries(organisation, experiment, metric, _RESULT_VERSION, "value", RESULT_SCALE)


def window_series(definition: Definition, component: Component) -> WindowSeries:
    return WindowSeries(definition.organisation, definition.key, definition.version, component, definition.kind.scale)


def make_plan(definitions: Iterable[Definition], experiments: Iterable[Experiment]) -> Plan:
    """Arranges the latest version of each definition. Drafts count nothing yet."""
    definitions = list(definitions)
    begun = [e for e in experiments if e.status not in ("draft", "cancelled")]
    return Plan(
        measures=tuple(
            MeasurePlan(
                series=window_series(d, measure.component),
                definition=d,
                measure=measure,
                units=tuple(_unit_plan(e, d, measure) for e in begun if _uses(e, d)),
            )
            for d in definitions
            if isinstance(d.kind, Measured)
            for measure in d.kind.measures
        ),
        streaks=tuple(
            StreakPlan(window_series(d, "streak"), d, d.kind) for d in definitions if isinstance(d.kind, Streak)
        ),
        journeys=tuple(
            JourneyPlan(
                outcomes=window_series(d, "outcome"),
                steps=window_series(d, "step") if d.kind.steps else None,
                definition=d,
                journey=d.kind,
            )
            for d in definitions
            if isinstance(d.kind, Journey)
        ),
        experiments={
            (e.organisation, e.key): ExperimentPlan(
                exposure=exposure_series(e.organisation, e.key),
                unit_kind=e.unit,
                variants=frozenset(v.name for v in e.variants),
                metrics=frozenset(e.metrics),
                until=e.ended_at,
            )
            for e in begun
        },
    )


def _uses(experiment: Experiment, definition: Definition) -> bool:
    return experiment.organisation == definition.organisation and definition.key in experiment.metrics


def _unit_plan(experiment: Experiment, definition: Definition, measure: Measure) -> UnitPlan:
    organisation, key = experiment.organisation, experiment.key
    return UnitPlan(
        series=UnitSeries(
            organisation, key, definition.key, definition.version, measure.component, definition.kind.scale
        ),
        exposure=exposure_series(organisation, key),
        unit_kind=experiment.unit,
        until=experiment.ended_at,
    )
