"""Exposures and recorded results: the events that name an experiment."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from services.aggregator.domain.deltas import Deltas, Exposure, UnitlessResult
from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.frame import Frame, Indices, participant_of
from services.aggregator.domain.grouping import group_columns, is_storable
from services.aggregator.domain.paths import Path
from services.aggregator.domain.plan import RESULT_SCALE, ExperimentPlan, Plan, UnitPlan, UnitSeries, result_series
from services.aggregator.domain.unit_values import collect_unit_values
from services.aggregator.domain.values import scale_one


def _experiment_of(event: DecodedEvent, organisation: str, plan: Plan) -> ExperimentPlan | None:
    key = event.properties.get("experiment")
    return plan.experiments.get((organisation, key)) if isinstance(key, str) else None


def collect_exposures(deltas: Deltas, frame: Frame, rows: Indices, organisation: str, plan: Plan) -> None:
    if not plan.experiments:
        deltas.invalid_experiment_events += len(rows)
        return
    for i in rows.tolist():
        event = frame.events[i]
        experiment = _experiment_of(event, organisation, plan)
        variant = event.properties.get("variant")
        if experiment is None or not isinstance(variant, str) or variant not in experiment.variants:
            deltas.invalid_experiment_events += 1
            continue
        unit = participant_of(event, experiment.unit_kind)
        if unit is None:
            deltas.invalid_experiment_events += 1
            continue
        if experiment.until is not None and event.time > experiment.until:
            continue
        context = segments_of(event, experiment.segments)
        deltas.exposures.append(Exposure(experiment.exposure, unit, variant, event.time, context))


def segments_of(event: DecodedEvent, paths: Sequence[Path]) -> str:
    """Canonical JSON of path → text: what the event says of its unit. What cannot be stored is left out."""
    if not paths:
        return "{}"
    found = {str(path): column[0] for path, column in zip(paths, group_columns([event], paths), strict=True)}
    kept = {path: text for path, text in sorted(found.items()) if text is not None and is_storable(text)}
    return msgspec.json.encode(kept).decode()


def collect_results(deltas: Deltas, frame: Frame, rows: Indices, organisation: str, plan: Plan) -> None:
    """A result with a unit counts where the unit was exposed; one without counts for the variant it names."""
    if not plan.experiments:
        deltas.invalid_experiment_events += len(rows)
        return
    by_series: dict[UnitSeries, tuple[ExperimentPlan, list[int], list[int]]] = {}
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
        unit = participant_of(event, experiment.unit_kind)
        variant = event.properties.get("variant")
        if unit is not None:
            _, places, values = by_series.setdefault(series, (experiment, [], []))
            places.append(i)
            values.append(value)
        elif isinstance(variant, str) and variant in experiment.variants:
            deltas.unitless.append(UnitlessResult(series, variant, value))
        else:
            deltas.invalid_experiment_events += 1
    for series, (experiment, places, values) in by_series.items():
        unit_plan = UnitPlan(series, experiment.exposure, experiment.unit_kind, None)
        collect_unit_values(
            deltas, frame, unit_plan, np.array(places, dtype=np.int64), np.array(values, dtype=np.int64)
        )
