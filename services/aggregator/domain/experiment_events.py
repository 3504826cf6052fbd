"""Exposures and recorded results: the events that name an experiment."""

from __future__ import annotations

from services.aggregator.domain.deltas import Deltas, Exposure, UnitlessResult, UnitValues
from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.frame import Frame, Indices, unit_of
from services.aggregator.domain.grouping import is_storable
from services.aggregator.domain.plan import RESULT_SCALE, ExperimentPlan, Plan, UnitSeries, result_series
from services.aggregator.domain.values import scale_one


def _experiment_of(event: DecodedEvent, organisation: str, plan: Plan) -> ExperimentPlan | None:
    key = event.properties.get("experiment")
    return plan.experiments.get((organisation, key)) if isinstance(key, str) else None


def collect_exposures(deltas: Deltas, frame: Frame, rows: Indices, organisation: str, plan: Plan) -> None:
    for i in rows.tolist():
        event = frame.events[i]
        experiment = _experiment_of(event, organisation, plan)
        variant = event.properties.get("variant")
        if experiment is None or not isinstance(variant, str) or variant not in experiment.variants:
            deltas.invalid_experiment_events += 1
            continue
        unit = unit_of(event, experiment.unit_kind)
        if unit is None:
            deltas.invalid_experiment_events += 1
            continue
        deltas.exposures.append(Exposure(experiment.exposure, unit, variant, event.time))


def collect_results(deltas: Deltas, frame: Frame, rows: Indices, organisation: str, plan: Plan) -> None:
    """A result with a unit counts where the unit was exposed; one without counts for the variant it names."""
    by_series: dict[UnitSeries, UnitValues] = {}
    for i in rows.tolist():
        event = frame.events[i]
        experiment = _experiment_of(event, organisation, plan)
        name = event.properties.get("metric_name")
        value = scale_one(event.properties.get("metric_value"), RESULT_SCALE)
        if not isinstance(name, str) or not name or not is_storable(name) or not isinstance(value, int):
            deltas.invalid_experiment_events += 1
            continue
        if experiment is None or name in experiment.metrics:
            deltas.invalid_experiment_events += 1
            continue
        if experiment.until is not None and event.time > experiment.until:
            continue
        series = result_series(organisation, experiment.exposure.experiment, name)
        unit = unit_of(event, experiment.unit_kind)
        variant = event.properties.get("variant")
        if unit is not None:
            values = by_series.setdefault(series, UnitValues(series, experiment.exposure, [], [], []))
            values.units.append(unit)
            values.times.append(event.time)
            values.values.append(value)
        elif isinstance(variant, str) and variant in experiment.variants:
            deltas.unitless.append(UnitlessResult(series, variant, value))
        else:
            deltas.invalid_experiment_events += 1
    deltas.unit_values.extend(by_series.values())
