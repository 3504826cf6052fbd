"""Folds a batch of judged events into deltas: what to add to which row.

Deltas commute: adding those of any batches in any order gives the same rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from services.aggregator.domain import sketch
from services.aggregator.domain.batch import Batch, Verdicts
from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.paths import Path
from services.aggregator.domain.plan import (
    EXPOSURE,
    RESULT,
    ExperimentPlan,
    MeasurePlan,
    Plan,
    UnitSeries,
    WindowSeries,
    result_series,
)
from services.aggregator.domain.values import INVALID, scale_many, scale_one
from shared.clock import MINUTE
from shared.messages import UnitKind

Indices = npt.NDArray[np.int64]


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
    sketch: sketch.Counts


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
    invalid_experiment_events: int = 0
    """Exposures and results that fit no experiment we know, or are malformed."""


def fold(batch: Batch, verdicts: Verdicts, plan: Plan) -> Deltas:
    """Raises nothing for what events hold."""
    deltas = Deltas()
    by_kind: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, event in enumerate(batch.events):
        by_kind[event.organisation, event.event_type].append(i)
    indices = {kind: np.array(rows, dtype=np.int64) for kind, rows in by_kind.items()}
    _count_organisations(deltas, indices, verdicts)
    for measure in plan.measures:
        _fold_measure(deltas, batch, verdicts, measure, indices)
    for (organisation, event_type), rows in indices.items():
        if event_type == EXPOSURE:
            _collect_exposures(deltas, batch, rows[verdicts.counted[rows]], organisation, plan)
        elif event_type == RESULT:
            _collect_results(deltas, batch, rows[verdicts.counted[rows]], organisation, plan)
    return deltas


def _count_organisations(deltas: Deltas, indices: dict[tuple[str, str], Indices], verdicts: Verdicts) -> None:
    for (organisation, _), rows in indices.items():
        counters = deltas.organisations.setdefault(organisation, OrganisationCounters())
        counters.events += len(rows)
        counters.counted += int(verdicts.counted[rows].sum())
        counters.late += int(verdicts.late[rows].sum())
        counters.duplicates += int(verdicts.duplicate[rows].sum())


def _fold_measure(
    deltas: Deltas,
    batch: Batch,
    verdicts: Verdicts,
    plan: MeasurePlan,
    indices: dict[tuple[str, str], Indices],
) -> None:
    matching = _matching(batch.events, plan, indices)
    if not len(matching):
        return
    counters = deltas.counters.setdefault(plan.series, SeriesCounters())
    counters.late += int(verdicts.late[matching].sum())
    counters.duplicates += int(verdicts.duplicate[matching].sum())
    rows = matching[verdicts.counted[matching]]
    if not len(rows):
        return
    events = [batch.events[i] for i in rows.tolist()]
    values: npt.NDArray[np.int64] | None = None
    if plan.measure.value is not None:
        get = plan.measure.value.getter()
        scaled, usable, invalid = scale_many([get(e) for e in events], plan.series.scale)
        counters.invalid += int(invalid.sum())
        if not usable.all():
            rows, scaled = rows[usable], scaled[usable]
            events = [e for e, keep in zip(events, usable.tolist(), strict=True) if keep]
        values = scaled
    groups = _group_columns(events, plan.definition.group_by)
    storable = _storable(groups, len(events))
    if storable is not None:
        counters.invalid += int((~storable).sum())
        rows = rows[storable]
        values = None if values is None else values[storable]
        events = [e for e, keep in zip(events, storable.tolist(), strict=True) if keep]
        groups = [[g for g, keep in zip(column, storable.tolist(), strict=True) if keep] for column in groups]
    if not len(rows):
        return
    counters.counted += len(rows)
    times = batch.times[rows]
    deltas.windows.extend(_window_deltas(plan, times, values, groups))
    for unit_plan in plan.units:
        until = unit_plan.until
        units = [_unit_of(e, unit_plan.unit_kind) for e in events]
        kept = [
            i
            for i, (unit, time) in enumerate(zip(units, times.tolist(), strict=True))
            if unit is not None and (until is None or time <= until)
        ]
        if kept:
            one = 10**plan.series.scale
            deltas.unit_values.append(
                UnitValues(
                    series=unit_plan.series,
                    exposure=unit_plan.exposure,
                    units=[units[i] for i in kept],  # type: ignore[misc]  # kept holds none without unit
                    times=times[kept].tolist(),
                    values=[one] * len(kept) if values is None else values[kept].tolist(),
                )
            )


def _matching(events: list[DecodedEvent], plan: MeasurePlan, indices: dict[tuple[str, str], Indices]) -> Indices:
    """Rows of the events that the measure takes, in order."""
    wanted = plan.measure.events
    organisation = plan.definition.organisation
    parts = [
        rows
        for (owner, event_type), rows in indices.items()
        if owner == organisation and (wanted is None or event_type in wanted)
    ]
    if not parts:
        return np.zeros(0, dtype=np.int64)
    rows = parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
    if plan.measure.where is None:
        return rows
    matches = plan.measure.where.matches
    return np.array([i for i in rows.tolist() if matches(events[i])], dtype=np.int64)


def _group_columns(events: Sequence[DecodedEvent], paths: Iterable[Path]) -> list[list[str | None]]:
    columns = []
    for path in paths:
        get = path.getter()
        columns.append([_group_text(get(e)) for e in events])
    return columns


def _group_text(value: Any) -> str | None:
    """A group's value as text; objects and lists group as absent."""
    if value is None or type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**64):
        return str(value)
    return None


_MAX_GROUP_TEXT = 200


def _storable(groups: list[list[str | None]], n: int) -> npt.NDArray[np.bool_] | None:
    """None if all group values can be stored, else which rows' can: Postgres takes no NUL."""
    faulty = {
        i
        for column in groups
        for i, text in enumerate(column)
        if text is not None and ("\x00" in text or len(text) > _MAX_GROUP_TEXT)
    }
    if not faulty:
        return None
    return np.array([i not in faulty for i in range(n)], dtype=np.bool_)


def _window_deltas(
    plan: MeasurePlan,
    times: npt.NDArray[np.int64],
    values: npt.NDArray[np.int64] | None,
    groups: list[list[str | None]],
) -> list[WindowDelta]:
    names = [f"g{i}" for i in range(len(groups))]
    columns: dict[str, Any] = {"minute": times // MINUTE}
    columns.update({n: pl.Series(g, dtype=pl.String) for n, g in zip(names, groups, strict=True)})
    aggregates = [pl.len().alias("n")]
    if values is not None:
        columns["v"] = values
        wide = pl.col("v").cast(pl.Int128)
        aggregates += [
            wide.sum().alias("sum"),
            (wide * wide).sum().alias("squares"),
            pl.col("v").min().alias("min"),
            pl.col("v").max().alias("max"),
        ]
    frame = pl.DataFrame(columns)
    keys = ["minute", *names]
    sketches: dict[tuple[Any, ...], sketch.Counts] = defaultdict(dict)
    if values is not None and plan.definition.sketched:
        bucketed = frame.with_columns(pl.Series("bucket", sketch.buckets_of(values)))
        for *place, bucket, count in bucketed.group_by([*keys, "bucket"]).agg(pl.len()).rows():
            sketches[tuple(place)][bucket] = count
    deltas = []
    for row in frame.group_by(keys).agg(aggregates).rows():
        key = tuple(row[: len(keys)])
        n, total, squares, low, high = row[len(keys) :] if values is not None else (row[-1], 0, 0, None, None)
        deltas.append(
            WindowDelta(
                series=plan.series,
                minute=key[0] * MINUTE,
                group=msgspec.json.encode(list(key[1:])).decode(),
                n=n,
                sum=int(total),
                sum_squares=int(squares),
                min=low,
                max=high,
                sketch=sketches.get(key, {}),
            )
        )
    return deltas


_UNIT_FIELD: dict[UnitKind, str] = {"user": "user_id", "session": "session_id", "job": "job_id"}
_MAX_UNIT = 500


def _unit_of(event: DecodedEvent, kind: UnitKind) -> str | None:
    """The unit's id; None if the event has none of that kind that can be stored."""
    unit: str | None = getattr(event, _UNIT_FIELD[kind])
    return unit if unit and "\x00" not in unit and len(unit) <= _MAX_UNIT else None


def _experiment_of(event: DecodedEvent, organisation: str, plan: Plan) -> ExperimentPlan | None:
    key = event.properties.get("experiment")
    return plan.experiments.get((organisation, key)) if isinstance(key, str) else None


def _collect_exposures(deltas: Deltas, batch: Batch, rows: Indices, organisation: str, plan: Plan) -> None:
    for i in rows.tolist():
        event = batch.events[i]
        experiment = _experiment_of(event, organisation, plan)
        variant = event.properties.get("variant")
        if experiment is None or not isinstance(variant, str) or variant not in experiment.variants:
            deltas.invalid_experiment_events += 1
            continue
        unit = _unit_of(event, experiment.unit_kind)
        if unit is None:
            deltas.invalid_experiment_events += 1
            continue
        deltas.exposures.append(Exposure(experiment.exposure, unit, variant, event.time))


def _collect_results(deltas: Deltas, batch: Batch, rows: Indices, organisation: str, plan: Plan) -> None:
    """A result with a unit counts where the unit was exposed; one without counts for the variant it names."""
    by_series: dict[UnitSeries, UnitValues] = {}
    for i in rows.tolist():
        event = batch.events[i]
        experiment = _experiment_of(event, organisation, plan)
        name = event.properties.get("metric_name")
        value = scale_one(event.properties.get("metric_value"), 6)
        if (
            experiment is None
            or not isinstance(name, str)
            or not name
            or "\x00" in name
            or len(name) > _MAX_GROUP_TEXT
            or name in experiment.metrics
            or value is INVALID
            or not isinstance(value, int)
        ):
            deltas.invalid_experiment_events += 1
            continue
        if experiment.until is not None and event.time > experiment.until:
            continue
        series = result_series(organisation, experiment.exposure.experiment, name)
        unit = _unit_of(event, experiment.unit_kind)
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
