"""The aggregator's rules once more, as plainly as they can be said: one event at a time, with integers and dicts.

It shares no code with what it checks: metrics are read from their specs, buckets are found in a list of its own.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.messages import Experiment

_MINUTE = 60_000_000
_DAY = 1440 * _MINUTE
_REMEMBERED_MINUTES = 36
_LARGEST = 10**17

JsonObject = dict[str, Any]
Series = tuple[str, ...]
Place = tuple[Series, int, tuple[str | None, ...]]
"""Series, minute in µs, group."""


@dataclass(frozen=True, slots=True)
class Metric:
    organisation: str
    key: str
    version: int
    spec: JsonObject


@dataclass(frozen=True, slots=True)
class Entry:
    """A record: `event` is None if it holds none."""

    offset: int
    broker_time: int
    event: JsonObject | None


@dataclass(slots=True)
class Cell:
    n: int = 0
    sum: int = 0
    sum_squares: int = 0
    min: int | None = None
    max: int | None = None
    buckets: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class Outcome:
    """All that a log leaves behind. Lists hold what units gave, in no order that means anything."""

    watermark: int = 0
    verdicts: list[str] = field(default_factory=list)
    windows: dict[Place, Cell] = field(default_factory=dict)
    streaks: dict[tuple[Series, tuple[str | None, ...]], tuple[int, tuple[int, ...], int]] = field(
        default_factory=dict
    )
    """Latest success, failures after it, and how many events there were."""
    counters: dict[Series, Counter[str]] = field(default_factory=dict)
    organisations: dict[str, Counter[str]] = field(default_factory=dict)
    exposures: list[tuple[Any, ...]] = field(default_factory=list)
    unit_values: list[tuple[Any, ...]] = field(default_factory=list)
    unitless: list[tuple[Any, ...]] = field(default_factory=list)
    invalid_experiment_events: int = 0


def reference(entries: Iterable[Entry], metrics: Sequence[Metric], experiments: Sequence[Experiment]) -> Outcome:
    """Folds the log of one partition, whose watermark is 0 and which has seen nothing before."""
    log = _Log(metrics, [e for e in experiments if e.status not in ("draft", "cancelled")])
    for entry in entries:
        if entry.event is not None:
            log.take(entry.event, entry.broker_time)
    log.end()
    return log.outcome


class _Log:
    def __init__(self, metrics: Sequence[Metric], experiments: Sequence[Experiment]) -> None:
        self.metrics = metrics
        self.experiments = experiments
        self.outcome = Outcome()
        self.last_seen: dict[tuple[str, str], int] = {}
        self.ended: dict[tuple[str, tuple[str | None, ...]], list[tuple[int, str]]] = {}
        """(Streak metric, group) → each event's time and how it ended."""
        self.told: dict[tuple[str, str], list[tuple[str, int, tuple[str | None, ...]]]] = {}
        """(Journey metric, unit) → kind, time and group of each event."""

    def take(self, event: JsonObject, broker_time: int) -> None:
        verdict = self._judge(event, broker_time)
        self.outcome.verdicts.append(verdict)
        self.outcome.organisations.setdefault(event["organisation"], Counter()).update(["events", verdict])
        for metric in self.metrics:
            if metric.organisation != event["organisation"]:
                continue
            if metric.spec["type"] == "streak":
                self._streak(event, verdict, metric)
            elif metric.spec["type"] == "journey":
                self._journey(event, verdict, metric)
            else:
                for component in ("numerator", "denominator") if metric.spec["type"] == "ratio" else ("value",):
                    self._measure(event, verdict, metric, component)
        if verdict == "counted" and event["event_type"] == "experiment_exposure":
            self._expose(event)
        if verdict == "counted" and event["event_type"] == "experiment_result":
            self._record_result(event)

    def _judge(self, event: JsonObject, broker_time: int) -> str:
        minute = broker_time // _MINUTE
        identity = (event["organisation"], event["event_id"])
        before = self.last_seen.get(identity)
        self.last_seen[identity] = minute
        watermark = self.outcome.watermark
        self.outcome.watermark = max(watermark, min(event["time"], broker_time))
        if before is not None and minute - before <= _REMEMBERED_MINUTES:
            return "duplicates"
        if watermark and event["time"] < watermark - _DAY:
            return "late"
        return "counted"

    def _measure(self, event: JsonObject, verdict: str, metric: Metric, component: str) -> None:
        spec = metric.spec if component == "value" else metric.spec[component]
        scale = metric.spec.get("scale", 6)
        if not _selected(spec, event):
            return
        series = (metric.organisation, metric.key, str(metric.version), component, str(scale))
        counters = self.outcome.counters.setdefault(series, Counter())
        if verdict != "counted":
            counters[verdict] += 1
            return
        value: int | None = None
        if spec.get("value") is not None:
            found = _read(event, spec["value"])
            if found is None:
                return
            value = _scaled(found, scale)
            if value is None:
                counters["invalid"] += 1
                return
        group = _group(metric, event)
        if group is None:
            counters["invalid"] += 1
            return
        counters["counted"] += 1
        self._add(series, event["time"] // _MINUTE * _MINUTE, group, value, sketched=_sketched(metric.spec))
        for e in self.experiments:
            ended = e.ended_at is not None and event["time"] > e.ended_at
            unit = _unit(event, e.unit)
            if e.organisation == metric.organisation and metric.key in e.metrics and unit is not None and not ended:
                given = 10**scale if value is None else value
                self.outcome.unit_values.append((e.key, series, unit, event["time"], given))

    def _streak(self, event: JsonObject, verdict: str, metric: Metric) -> None:
        if not _selected(metric.spec, event):
            return
        group = _group(metric, event)
        if not self._counts(_series(metric, "streak", 0), verdict, valid=group is not None) or group is None:
            return
        if _matches(metric.spec["failure"], event):
            how = "failure"
        else:
            success = metric.spec.get("success")
            how = "success" if success is None or _matches(success, event) else "neither"
        self.ended.setdefault((metric.key, group), []).append((event["time"], how))

    def _journey(self, event: JsonObject, verdict: str, metric: Metric) -> None:
        spec = metric.spec
        if not _matches(spec.get("filter"), event):
            return
        stages: JsonObject = {kind: spec[kind] for kind in ("start", "complete", "navigate", "dead") if kind in spec}
        stages.update({f"step {s['name']}": s for s in spec.get("steps", ())})
        kinds = [kind for kind, stage in stages.items() if _selected(stage, event)]
        if not kinds:
            return
        unit = _unit(event, spec["unit"])
        group = _group(metric, event)
        valid = unit is not None and (group is not None or "start" not in kinds)
        if self._counts(_series(metric, "outcome", 6), verdict, valid=valid):
            told = self.told.setdefault((metric.key, str(unit)), [])
            told.extend((kind, event["time"], group or ()) for kind in kinds)

    def _counts(self, series: Series, verdict: str, *, valid: bool) -> bool:
        counters = self.outcome.counters.setdefault(series, Counter())
        counters["invalid" if verdict == "counted" and not valid else verdict] += 1
        return verdict == "counted" and valid

    def end(self) -> None:
        """What can only be said of everything together."""
        metrics = {m.key: m for m in self.metrics}
        for (key, group), events in self.ended.items():
            success = max((time for time, how in events if how == "success"), default=0)
            failures = sorted(time for time, how in events if how == "failure" and time > success)
            kept = tuple(failures[-metrics[key].spec["length"] :])
            self.outcome.streaks[_series(metrics[key], "streak", 0), group] = success, kept, len(events)
        for (key, _), told in self.told.items():
            self._end_journey(metrics[key], told)

    def _end_journey(self, metric: Metric, told: list[tuple[str, int, tuple[str | None, ...]]]) -> None:
        starts = sorted(((time, group) for kind, time, group in told if kind == "start"), key=_json_order)
        if not starts:
            return
        started, group = starts[0]
        kinds = {kind for kind, _, _ in told}
        passed = self.outcome.watermark >= started + metric.spec["timeout"] * 1_000_000
        duration = 0
        if "complete" in kinds:
            outcome = "completed"
            duration = max(0, min(time for kind, time, _ in told if kind == "complete") - started) * 1_000
        elif "navigate" in kinds and ("dead" in kinds or passed):
            outcome = "abandoned_after_navigation"
        else:
            outcome = "abandoned_timeout" if passed else "in_progress"
        cells = [("outcome", outcome)]
        cells += [("step", kind.removeprefix("step ")) for kind in kinds if kind.startswith("step ")]
        for component, name in cells:
            place = (_series(metric, component, 6), started // _MINUTE * _MINUTE, (name, *group))
            cell = self.outcome.windows.setdefault(place, Cell())
            cell.n += 1
            if component == "outcome":
                cell.sum += duration
                cell.sum_squares += duration * duration

    def _add(
        self, series: Series, minute: int, group: tuple[str | None, ...], value: int | None, *, sketched: bool
    ) -> None:
        cell = self.outcome.windows.setdefault((series, minute, group), Cell())
        cell.n += 1
        if value is None:
            return
        cell.sum += value
        cell.sum_squares += value * value
        cell.min = value if cell.min is None else min(cell.min, value)
        cell.max = value if cell.max is None else max(cell.max, value)
        if sketched:
            magnitude = bisect_left(_BOUNDS, abs(value))
            cell.buckets[-magnitude if value < 0 else magnitude] += 1

    def _experiment(self, event: JsonObject) -> Experiment | None:
        key = event.get("properties", {}).get("experiment")
        return next((e for e in self.experiments if (e.organisation, e.key) == (event["organisation"], key)), None)

    def _expose(self, event: JsonObject) -> None:
        experiment = self._experiment(event)
        variant = event.get("properties", {}).get("variant")
        unit = None if experiment is None else _unit(event, experiment.unit)
        if experiment is None or unit is None or variant not in [v.name for v in experiment.variants]:
            self.outcome.invalid_experiment_events += 1
        else:
            self.outcome.exposures.append((experiment.key, unit, variant, event["time"]))

    def _record_result(self, event: JsonObject) -> None:
        experiment = self._experiment(event)
        properties = event.get("properties", {})
        name, variant = properties.get("metric_name"), properties.get("variant")
        found = properties.get("metric_value")
        value = None if found is None else _scaled(found, 6)
        named = isinstance(name, str) and 0 < len(name) <= 200 and "\x00" not in name
        if experiment is None or value is None or not named or name in experiment.metrics:
            self.outcome.invalid_experiment_events += 1
            return
        if experiment.ended_at is not None and event["time"] > experiment.ended_at:
            return
        series = (event["organisation"], name, "0", "value", "6")
        unit = _unit(event, experiment.unit)
        if unit is not None:
            self.outcome.unit_values.append((experiment.key, series, unit, event["time"], value))
        elif variant in [v.name for v in experiment.variants]:
            self.outcome.unitless.append((experiment.key, name, variant, value))
        else:
            self.outcome.invalid_experiment_events += 1


def _series(metric: Metric, component: str, scale: int) -> Series:
    return (metric.organisation, metric.key, str(metric.version), component, str(scale))


def _selected(spec: JsonObject, event: JsonObject) -> bool:
    wanted = spec.get("event")
    if wanted is not None and event["event_type"] not in ([wanted] if isinstance(wanted, str) else wanted):
        return False
    return _matches(spec.get("filter"), event)


def _group(metric: Metric, event: JsonObject) -> tuple[str | None, ...] | None:
    """None if it cannot be stored."""
    group = tuple(_group_text(_read(event, path)) for path in metric.spec.get("group_by", ()))
    return None if any(text is not None and ("\x00" in text or len(text) > 200) for text in group) else group


def _json_order(start: tuple[int, tuple[str | None, ...]]) -> tuple[int, str]:
    return start[0], json.dumps(start[1], ensure_ascii=False, separators=(",", ":"))


def _bounds() -> list[int]:
    bounds = [0]
    while bounds[-1] < _LARGEST:
        bounds.append(max(bounds[-1] + 1, bounds[-1] * 51 // 50))
    return bounds


_BOUNDS = _bounds()


def _sketched(spec: JsonObject) -> bool:
    return any(a.startswith("p") for a in spec.get("aggregations", ()))


def _scaled(value: Any, scale: int) -> int | None:
    """None for what is no number that can be kept."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        scaled = value * 10**scale
    else:
        product = value * 10.0**scale
        if abs(product) > _LARGEST:
            return None
        scaled = round(product)
    return scaled if abs(scaled) <= _LARGEST else None


def _read(event: JsonObject, path: str) -> Any:
    part: Any = {"data_source_id": 1, **event}
    for step in path.split("."):
        part = part.get(step) if isinstance(part, dict) else None
    return part


def _group_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | float):
        return json.dumps(value) if isinstance(value, bool) else repr(value)
    return str(value) if isinstance(value, int) and -(2**64) < value < 2**64 else None


def _unit(event: JsonObject, kind: str) -> str | None:
    unit: str | None = event.get(f"{kind}_id")
    return unit if unit and len(unit) <= 500 and "\x00" not in unit else None


def _kind(value: Any) -> str | None:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else None


_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "lt": lambda a, b: bool(a < b),
    "le": lambda a, b: bool(a <= b),
    "gt": lambda a, b: bool(a > b),
    "ge": lambda a, b: bool(a >= b),
}


def _same(a: Any, b: Any) -> bool:
    return bool(_kind(a) == _kind(b) and a == b)


def _matches(spec: JsonObject | None, event: JsonObject) -> bool:
    if spec is None:
        return True
    if "all" in spec:
        return all(_matches(f, event) for f in spec["all"])
    if "any" in spec:
        return any(_matches(f, event) for f in spec["any"])
    if "not" in spec:
        return not _matches(spec["not"], event)
    found, op, value = _read(event, spec["path"]), spec.get("op", "eq"), spec.get("value")
    if op == "exists":
        return (found is not None) == (value is not False)
    if op == "in":
        return any(_same(found, v) for v in spec["value"])
    if op in ("eq", "ne"):
        return _same(found, value) is (op == "eq")
    return _ORDER[op](found, value) if _kind(found) == _kind(value) else False
