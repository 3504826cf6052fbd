"""The aggregator's rules once more, as plainly as they can be said: one event at a time, with integers and dicts.

It shares no code with what it checks: metrics are read from their specs, buckets are found in a list of its own.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import xxhash

from shared.messages import Experiment

_MINUTE = 60_000_000
_DAY = 1440 * _MINUTE
_REMEMBERED_MINUTES = 36
_LARGEST = 10**17

JsonObject = dict[str, Any]
Series = tuple[str, ...]
Told = tuple[str, int, tuple[str | None, ...], str]
"""Of an event: a kind that it is of, its time, its group (or reason), its id."""
_Journey = tuple[int, tuple[str | None, ...], str, int | None, Callable[[str], list[int]]]
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
    different: set[int] = field(default_factory=set)


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
        self.first_groups: dict[tuple[Series, str, int], list[tuple[str | None, ...]]] = {}
        """(Series, part, UTC day; 0 for streaks) → groups that count under their own name."""
        self.told: dict[tuple[str, str], list[Told]] = {}
        """(Journey or funnel, unit) → what its events told."""
        self.related: dict[tuple[str, str, str], list[Told]] = {}
        """(Journey, correlate, key) → starts and events."""
        self.attempts: dict[tuple[str, str], dict[str, list[Told]]] = {}
        """(Journey, key) → unit → what its events told."""

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
            elif metric.spec["type"] == "funnel":
                self._funnel(event, verdict, metric)
            elif metric.spec["type"] in ("unique", "breakdown", "survey"):
                self._several(event, verdict, metric)
            else:
                for component in ("numerator", "denominator") if metric.spec["type"] == "ratio" else ("value",):
                    self._measure(event, verdict, metric, component)
                self._shares(event, verdict, metric)
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
            found = _computed(event, spec["value"])
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
        self._count(metric, series, event, group, value, sketched=_sketched(metric.spec))
        for e in self.experiments:
            ended = e.ended_at is not None and event["time"] > e.ended_at
            unit = _participant(event, e.unit)
            if e.organisation == metric.organisation and metric.key in e.metrics and unit is not None and not ended:
                given = 10**scale if value is None else value
                self.outcome.unit_values.append((e.key, series, unit, event["time"], given))

    def _shares(self, event: JsonObject, verdict: str, metric: Metric) -> None:
        """Each `share<=5` of a value metric: 1 or 0 for each value."""
        spec, scale = metric.spec, metric.spec.get("scale", 6)
        limits = [a for a in spec.get("aggregations", ()) if a.startswith("share")]
        if not limits or not _selected(spec, event):
            return
        series = _series(metric, "share", scale)
        if not self._counts(series, verdict, valid=True, given=0):
            return
        found = _computed(event, spec["value"])
        value, group = None if found is None else _scaled(found, scale), _group(metric, event)
        for limit in limits:
            if value is None or group is None:
                self.outcome.counters[series]["invalid"] += found is not None
                continue
            sign, number = re.fullmatch(r"share([<>]=?)(.*)", limit).groups()  # type: ignore[union-attr]
            within = _SIGNS[sign](Fraction(value, 10**scale), Fraction(number))
            self._count(metric, series, event, group, within * 10**scale, part=limit)

    def _several(self, event: JsonObject, verdict: str, metric: Metric) -> None:
        spec, scale = metric.spec, metric.spec.get("scale", 6)
        if not _selected(spec, event):
            return
        group = _group(metric, event)
        if spec["type"] == "survey":
            self._survey(event, verdict, metric, group, scale)
            return
        series = _series(metric, "unique" if spec["type"] == "unique" else "category", 0)
        if not self._counts(series, verdict, valid=True, given=0):
            return
        found = _computed(event, spec["of"])
        if spec["type"] == "unique":
            if found is not None:
                text = _group_text(found)
                if text is None or group is None:
                    self.outcome.counters[series]["invalid"] += 1
                else:
                    different = xxhash.xxh3_64_intdigest(text.encode())
                    self._count(metric, series, event, group, None, different=different)
            return
        for element in found if isinstance(found, list) else [] if found is None else [found]:
            text = _group_text(element)
            if text is None or group is None or "\x00" in text or len(text) > 200:
                self.outcome.counters[series]["invalid"] += 1
            else:
                self._count(metric, series, event, (text, *group), None)

    def _survey(
        self, event: JsonObject, verdict: str, metric: Metric, group: tuple[str | None, ...] | None, scale: int
    ) -> None:
        for component in ("answer", "nps"):
            questions = {
                name: question
                for name, question in metric.spec["questions"].items()
                if component == "answer" or question.get("nps")
            }
            series = _series(metric, component, scale)
            if not questions or not self._counts(series, verdict, valid=True, given=0):
                continue
            for name, question in questions.items():
                found = _computed(event, question.get("value", f"properties.{name}"))
                if found is None:
                    continue
                value, one = _scaled(found, scale), 10**scale
                low, high = (0, 10) if question.get("nps") else (question.get("min"), question.get("max"))
                outside = value is None or (low is not None and value < low * one)
                if value is None or outside or (high is not None and value > high * one) or group is None:
                    self.outcome.counters[series]["invalid"] += 1
                    continue
                if component == "nps":
                    value = 100 * one if value >= 9 * one else -100 * one if value <= 6 * one else 0
                self._count(metric, series, event, group, value, part=name)

    def _count(
        self,
        metric: Metric,
        series: Series,
        event: JsonObject,
        group: tuple[str | None, ...],
        value: int | None,
        *,
        part: str = "",
        sketched: bool = False,
        different: int | None = None,
    ) -> None:
        """Under the group's own name, or as "other" if more came before it on this day."""
        counters = self.outcome.counters[series]
        counters["counted"] += 1
        group = self._named(metric, series, part, event["time"] // _DAY, group, counters)
        place = (part, *group) if part else group
        self._add(series, event["time"] // _MINUTE * _MINUTE, place, value, sketched=sketched)
        if different is not None:
            self.outcome.windows[series, event["time"] // _MINUTE * _MINUTE, place].different.add(different)

    def _named(
        self,
        metric: Metric,
        series: Series,
        part: str,
        day: int,
        group: tuple[str | None, ...],
        counters: Counter[str],
    ) -> tuple[str | None, ...]:
        other = ("other",) * len(group)
        first = self.first_groups.setdefault((series, part, day), [])
        if group == other or not group or group in first:
            return group
        if len(first) < metric.spec.get("max_groups", 1_000):
            first.append(group)
            return group
        counters["overflow"] += 1
        return other

    def _streak(self, event: JsonObject, verdict: str, metric: Metric) -> None:
        if not _selected(metric.spec, event):
            return
        group = _group(metric, event)
        if not self._counts(_series(metric, "streak", 0), verdict, valid=group is not None) or group is None:
            return
        series = _series(metric, "streak", 0)
        group = self._named(metric, series, "", 0, group, self.outcome.counters[series])
        if _matches(metric.spec["failure"], event):
            how = "failure"
        else:
            success = metric.spec.get("success")
            how = "success" if success is None or _matches(success, event) else "neither"
        self.ended.setdefault((metric.key, group), []).append((event["time"], how))
        for e in self.experiments:
            unit, over = _participant(event, e.unit), e.ended_at is not None and event["time"] > e.ended_at
            if e.organisation == metric.organisation and metric.key in e.metrics and unit is not None and not over:
                ending = ["failure", "success", "neither"].index(how)
                self.outcome.unit_values.append((e.key, series, unit, event["time"], 4 * event["time"] + ending))

    def _journey(self, event: JsonObject, verdict: str, metric: Metric) -> None:
        spec = metric.spec
        stages: JsonObject = {kind: spec[kind] for kind in ("start", "complete", "navigate", "dead") if kind in spec}
        stages.update({s["name"]: s for s in spec.get("steps", ())})
        if not _matches(spec.get("filter"), event):
            stages = {}
        kinds = [kind for kind, stage in stages.items() if _selected(stage, event)]
        self._related(event, verdict, metric)
        if not kinds:
            return
        if "first_attempt" in spec:
            self._attempt(event, verdict, metric, kinds)
        unit = _unit(event, spec["unit"])
        group = _group(metric, event)
        valid = unit is not None and (group is not None or "start" not in kinds)
        if self._counts(_series(metric, "outcome", 6), verdict, valid=valid):
            if "start" in kinds:
                group = self._of_start(metric, "outcome", "", event, group)
            told = self.told.setdefault((metric.key, str(unit)), [])
            told.extend((kind, event["time"], group or (), event["event_id"]) for kind in kinds)

    def _of_start(
        self, metric: Metric, component: str, part: str, event: JsonObject, group: tuple[str | None, ...] | None
    ) -> tuple[str | None, ...]:
        assert group is not None
        series = _series(metric, component, 6)
        return self._named(metric, series, part, event["time"] // _DAY, group, self.outcome.counters[series])

    def _funnel(self, event: JsonObject, verdict: str, metric: Metric) -> None:
        spec = metric.spec
        if not _matches(spec.get("filter"), event):
            return
        kinds = [stage["name"] for stage in spec["stages"] if _selected(stage, event)]
        reason: str | None = ""
        if "drop_off" in spec and _selected(spec["drop_off"], event):
            kinds.append("drop_off")
            reason = _group_text(_read(event, spec["drop_off"]["reason"])) or ""
            reason = None if "\x00" in reason else reason[:100]
        if not kinds:
            return
        unit, group = _unit(event, spec["unit"]), _group(metric, event)
        first = spec["stages"][0]["name"] in kinds
        valid = unit is not None and reason is not None and (group is not None or not first)
        if self._counts(_series(metric, "stage", 6), verdict, valid=valid):
            if first:
                group = self._of_start(metric, "stage", "", event, group)
            told = self.told.setdefault((metric.key, str(unit)), [])
            told.extend(
                (kind, event["time"], (reason,) if kind == "drop_off" else group or (), event["event_id"])
                for kind in kinds
            )

    def _end_funnel(self, metric: Metric, told: list[Told]) -> None:
        names = [stage["name"] for stage in metric.spec["stages"]]
        entries = sorted(((time, group) for kind, time, group, _ in told if kind == names[0]), key=_json_order)
        if not entries:
            return
        entered, group = entries[0]
        end = entered + metric.spec["window"] * 1_000_000
        reached = [entered]
        for name in names[1:]:
            times = [time for kind, time, _, _ in told if kind == name and reached[-1] <= time <= end]
            if not times:
                break
            reached.append(min(times))
        minute = entered // _MINUTE * _MINUTE
        for name, time in zip(names, reached, strict=False):
            self._count_unit(_series(metric, "stage", 6), minute, (name, *group), (time - entered) * 1_000)
        reasons = sorted(
            (time, text[0]) for kind, time, text, _ in told if kind == "drop_off" and reached[-1] <= time <= end
        )
        if reasons and len(reached) < len(names):
            lead = f"{names[len(reached) - 1]}|{reasons[0][1]}"
            self._count_unit(_series(metric, "drop_off", 6), minute, (lead, *group))

    def _count_unit(
        self, series: Series, minute: int, group: tuple[str | None, ...], value: int = 0, *, sketched: bool = False
    ) -> None:
        cell = self.outcome.windows.setdefault((series, minute, group), Cell())
        cell.n += 1
        cell.sum += value
        cell.sum_squares += value * value
        if sketched:
            cell.buckets[bisect_left(_BOUNDS, value)] += 1

    def _counts(self, series: Series, verdict: str, *, valid: bool, given: int = 1) -> bool:
        """`given` 0: what is counted is not the event but what it gives."""
        counters = self.outcome.counters.setdefault(series, Counter())
        if verdict != "counted" or given:
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
        for (key, name, _), told in self.related.items():
            (one,) = (c for c in metrics[key].spec["correlate"] if c["name"] == name)
            self._end_related(metrics[key], one, told)
        for (key, _), attempts in self.attempts.items():
            self._end_attempts(metrics[key], attempts)
        for (key, _), told in self.told.items():
            if metrics[key].spec["type"] == "funnel":
                self._end_funnel(metrics[key], told)
            else:
                self._end_journey(metrics[key], told)

    def _end_journey(self, metric: Metric, told: list[Told]) -> None:
        spec = metric.spec
        found = _journey_of(spec, told, self.outcome.watermark)
        if found is None:
            return
        started, group, outcome, completed, times = found
        minute = started // _MINUTE * _MINUTE
        duration = max(0, completed - started) * 1_000 if outcome == "completed" and completed is not None else 0
        self._count_unit(_series(metric, "outcome", 6), minute, (outcome, *group), duration)
        for step in spec.get("steps", ()):
            if times(step["name"]):
                self._count_unit(_series(metric, "step", 6), minute, (step["name"], *group))
        for one in spec.get("durations", ()):
            begins = times(one.get("from", "start"))[:1]
            ends = [time for time in times(one["to"]) if begins and time >= begins[0]]
            if ends:
                took = (ends[0] - begins[0]) * 1_000
                place = _series(metric, "duration", 6), minute, (one["name"], *group)
                self._count_unit(*place, took, sketched="percentiles" in one)
        for one in spec.get("within", ()):
            if begins := times(one.get("of", "start"))[:1]:
                self._count_unit(_series(metric, "within", 6), minute, (one["name"] + "|of", *group))
                end = begins[0] + one["within"] * 1_000_000
                later = [time for time in times(one["step"]) if begins[0] < time <= end]
                if len(later) >= one.get("at_least", 1):
                    took = (later[one.get("at_least", 1) - 1] - begins[0]) * 1_000
                    self._count_unit(_series(metric, "within", 6), minute, (one["name"], *group), took)

    def _related(self, event: JsonObject, verdict: str, metric: Metric) -> None:
        spec = metric.spec
        group = _group(metric, event)
        starts = _matches(spec.get("filter"), event) and _selected(spec["start"], event)
        for one in spec.get("correlate", ()):
            comes = _selected(one, event)
            if not starts and not comes:
                continue
            key, sub = _unit(event, one["by"]), _unit(event, spec["unit"])
            identity: str | None = event["event_id"]
            if "distinct" in one:
                identity = _storable_text(_read(event, one["distinct"]))
            valid = key is not None and not (starts and (sub is None or group is None))
            valid = valid and not (comes and identity is None)
            if self._counts(_series(metric, "correlated", 6), verdict, valid=valid):
                known = self.related.setdefault((metric.key, one["name"], str(key)), [])
                if starts:
                    named = self._of_start(metric, "correlated", one["name"], event, group)
                    known.append(("start", event["time"], named, str(sub)))
                known += [("event", event["time"], (), str(identity))] if comes else []

    def _end_related(self, metric: Metric, one: JsonObject, told: list[Told]) -> None:
        begun: dict[str, tuple[int, tuple[str | None, ...]]] = {}
        for _, time, group, sub in (t for t in told if t[0] == "start"):
            begun[sub] = min(begun.get(sub, (time, group)), (time, group), key=_json_order)
        within = one["within"] * 1_000_000
        events = {(time, identity) for kind, time, _, identity in told if kind == "event"}
        if "distinct" in one:
            events = {(min(t for t, i in events if i == identity), identity) for _, identity in events}
        for begin, group in begun.values():
            near = sorted(time for time, _ in events if begin <= time <= begin + within)
            if len(near) >= one.get("at_least", 1):
                place = _series(metric, "correlated", 6), begin // _MINUTE * _MINUTE, (one["name"], *group)
                self._count_unit(*place, (near[one.get("at_least", 1) - 1] - begin) * 1_000)
        for time, _ in events if "distinct" in one else ():
            last = max(
                ((begin, sub) for sub, (begin, _) in begun.items() if begin <= time <= begin + within), default=None
            )
            if last is not None:
                begin, group = begun[last[1]]
                place = _series(metric, "matched", 6), begin // _MINUTE * _MINUTE, (one["name"], *group)
                self._count_unit(*place)

    def _attempt(self, event: JsonObject, verdict: str, metric: Metric, kinds: list[str]) -> None:
        key, sub = _unit(event, metric.spec["first_attempt"]["by"]), _unit(event, metric.spec["unit"])
        group = _group(metric, event)
        valid = key is not None and sub is not None and (group is not None or "start" not in kinds)
        if self._counts(_series(metric, "first_attempt", 6), verdict, valid=valid):
            if "start" in kinds:
                group = self._of_start(metric, "first_attempt", "first_attempt", event, group)
            known = self.attempts.setdefault((metric.key, str(key)), {}).setdefault(str(sub), [])
            known.extend((kind, event["time"], group or (), event["event_id"]) for kind in kinds)

    def _end_attempts(self, metric: Metric, attempts: dict[str, list[Told]]) -> None:
        firsts = [
            (found[0], sub, found)
            for sub, told in attempts.items()
            if (found := _journey_of(metric.spec, told, self.outcome.watermark)) is not None
        ]
        if firsts:
            started, _, (_, group, outcome, *_) = min(firsts, key=lambda first: first[:2])
            place = _series(metric, "first_attempt", 6), started // _MINUTE * _MINUTE, (outcome, *group)
            self._count_unit(*place)

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
        unit = None if experiment is None else _participant(event, experiment.unit)
        if experiment is None or unit is None or variant not in [v.name for v in experiment.variants]:
            self.outcome.invalid_experiment_events += 1
        elif experiment.ended_at is None or event["time"] <= experiment.ended_at:
            said = {path: _group_text(_read(event, path)) for path in experiment.segments}
            kept = {p: t for p, t in sorted(said.items()) if t is not None and len(t) <= 200 and "\x00" not in t}
            context = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
            self.outcome.exposures.append((experiment.key, unit, variant, event["time"], context))

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
        unit = _participant(event, experiment.unit)
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


def _storable_text(value: Any) -> str | None:
    text = _group_text(value)
    return None if text is None or "\x00" in text or len(text) > 200 else text


def _journey_of(spec: JsonObject, told: list[Told], watermark: int) -> _Journey | None:
    """Start, group, outcome, completion, and the times of what is asked for; None before the start."""

    def times(name: str) -> list[int]:
        """Of steps every event, but of the start the first."""
        found = sorted(time for kind, time, _, _ in told if kind == name)
        return found[:1] if name == "start" else found

    starts = sorted(((time, group) for kind, time, group, _ in told if kind == "start"), key=_json_order)
    if not starts:
        return None
    started, group = starts[0]
    passed = watermark >= started + spec["timeout"] * 1_000_000
    completed = next(iter(times("complete")), None)
    if "outcomes" in spec:
        named = [rule["name"] for rule in spec["outcomes"] if _holds(rule["when"], times, passed)]
        outcome = [*named, "in_progress"][0]
    elif completed is not None:
        outcome = "completed"
    elif times("navigate") and (times("dead") or passed):
        outcome = "abandoned_after_navigation"
    else:
        outcome = "abandoned_timeout" if passed else "in_progress"
    return started, group, outcome, completed, times


def _holds(when: JsonObject, times: Callable[[str], list[int]], passed: bool) -> bool:
    if "reached" in when:
        if "within" not in when:
            return bool(times(when["reached"]))
        begins = times(when.get("of", "start"))
        return any(begins[0] <= t <= begins[0] + when["within"] * 1_000_000 for t in times(when["reached"]) if begins)
    if "not" in when:
        return not _holds(when["not"], times, passed)
    if "timeout" in when:
        return passed
    together = all if "all" in when else any
    return together(_holds(c, times, passed) for c in when["all" if "all" in when else "any"])


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
        if not abs(product) <= _LARGEST:
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


_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": lambda a, b: bool(a <= b),
    "<": lambda a, b: bool(a < b),
    ">=": lambda a, b: bool(a >= b),
    ">": lambda a, b: bool(a > b),
}


def _number(value: Any) -> float:
    """Raises ValueError for what cannot be computed with."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return float(value)


def _cast(value: Any) -> float:
    if isinstance(value, str):
        if not re.fullmatch(r"\s*[+-]?[0-9.]+(e[+-]?[0-9]+)?\s*", value, re.ASCII | re.IGNORECASE):
            raise ValueError
        return float(value)
    return float(value) if isinstance(value, bool) else _number(value)


def _nullable(compute: Callable[..., Any], *values: Any) -> Any:
    return None if None in values else compute(*values)


_BY_HAND: dict[str, Callable[[JsonObject, JsonObject], Any]] = {
    "properties.v * 2 + 1": lambda e, p: _nullable(lambda v: _number(v) * 2 + 1, p.get("v")),
    "number(properties.v) / properties.n": lambda e, p: _nullable(
        lambda v, n: v / _number(n) if _number(n) else None, _nullable(_cast, p.get("v")), p.get("n")
    ),
    "if(properties.n >= 1, coalesce(properties.v, 7), -properties.n)": lambda e, p: _nullable(
        lambda n: (7 if p.get("v") is None else p["v"]) if _number(n) >= 1 else -_number(n), p.get("n")
    ),
    "milliseconds_between(1759968000, time)": lambda e, p: (e["time"] - 1_759_968_000_000_000) / 1_000,
}
"""What the differential test's expressions mean, without a parser."""


def _computed(event: JsonObject, source: str) -> Any:
    """A value, None if absent, NaN if something is there that cannot be computed with."""
    if source not in _BY_HAND:
        return _read(event, source)
    try:
        found = _BY_HAND[source](event, event.get("properties", {}))
    except (ValueError, OverflowError):
        return math.nan
    return found


def _participant(event: JsonObject, kind: str) -> str | None:
    """Of an experiment: a visitor that is no user yet takes part under its anonymous id."""
    return _unit(event, "anonymous" if kind == "user" and not event.get("user_id") else kind)


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
