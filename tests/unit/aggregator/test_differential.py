"""The fold and the reference must agree, however the log is cut into batches."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.aggregator.domain.batch import judge, read_batch
from services.aggregator.domain.caps import KnownGroups
from services.aggregator.domain.deltas import Deltas
from services.aggregator.domain.event import reader_of
from services.aggregator.domain.fold import fold
from services.aggregator.domain.known import KnownUnits
from services.aggregator.domain.metrics import parse_definition
from services.aggregator.domain.plan import UnitSeries, WindowSeries, make_plan
from services.aggregator.domain.records import Record
from services.aggregator.domain.runs import Run, joined
from services.aggregator.domain.seen import SeenIds
from services.aggregator.domain.states import DistinctSet, Histogram
from shared.clock import DAY, HOUR, MINUTE, SECOND
from tests.unit.aggregator.builders import NOW, ORGANISATION, bounded, experiment, record
from tests.unit.aggregator.reference import Cell, Entry, Metric, Outcome, Series, reference
from tests.unit.aggregator.unit_table import UnitTable

METRICS = [
    Metric(ORGANISATION, "all", 1, {"type": "count"}),
    Metric(ORGANISATION, "grouped", 2, {"type": "count", "group_by": ["properties.g", "context.a.b", "event_type"]}),
    Metric(ORGANISATION, "by_id", 1, {"type": "count", "event": ["click", "buy"], "group_by": ["data_source_id"]}),
    Metric(
        ORGANISATION,
        "filtered",
        1,
        {
            "type": "count",
            "event": "click",
            "filter": {
                "any": [
                    {"path": "properties.v", "op": "ge", "value": 1},
                    {
                        "all": [
                            {"path": "properties.g", "op": "ne", "value": "x"},
                            {"path": "user_id", "op": "exists"},
                        ]
                    },
                    {"not": {"path": "properties.v", "op": "in", "value": [1, True, "1", 0.5]}},
                ]
            },
        },
    ),
    Metric(
        ORGANISATION,
        "amount",
        3,
        {"type": "value", "value": "properties.v", "aggregations": ["sum", "p95"], "group_by": ["properties.g"]},
    ),
    Metric(ORGANISATION, "coarse", 1, {"type": "value", "value": "properties.v", "event": "buy", "scale": 0}),
    Metric(ORGANISATION, "fine", 1, {"type": "value", "value": "context.a.b", "scale": 9, "aggregations": ["p50"]}),
    Metric(
        ORGANISATION,
        "rate",
        1,
        {
            "type": "ratio",
            "numerator": {"event": "buy", "value": "properties.v"},
            "denominator": {"filter": {"path": "properties.v", "op": "lt", "value": "m"}},
            "group_by": ["user_id"],
        },
    ),
    Metric(
        ORGANISATION,
        "streak",
        1,
        {
            "type": "streak",
            "event": ["click", "buy"],
            "filter": {"path": "properties.v", "op": "exists"},
            "failure": {"path": "properties.v", "op": "ge", "value": 1},
            "success": {"path": "event_type", "value": "buy"},
            "length": 3,
            "group_by": ["user_id"],
            "max_groups": 2,
        },
    ),
    Metric(
        ORGANISATION,
        "strict",
        1,
        {"type": "streak", "failure": {"path": "properties.v", "op": "in", "value": [1, 2, 0.5]}, "length": 100},
    ),
    Metric(
        ORGANISATION,
        "journey",
        2,
        {
            "type": "journey",
            "unit": "user",
            "filter": {"path": "properties.v", "op": "ne", "value": "ü"},
            "start": {"event": "click"},
            "complete": {"event": "buy", "filter": {"path": "properties.v", "op": "ge", "value": 2}},
            "navigate": {"event": "buy"},
            "dead": {"filter": {"path": "context.a.b", "op": "ge", "value": 0}},
            "steps": [
                {"name": "one", "event": "experiment_result"},
                {"name": "two", "filter": {"path": "properties.g", "op": "eq", "value": "a"}},
            ],
            "timeout": 2000,
            "group_by": ["properties.g", "session_id"],
            "max_groups": 3,
        },
    ),
    Metric(
        ORGANISATION,
        "short",
        1,
        {"type": "journey", "unit": "job", "start": {"event": "buy"}, "complete": {"event": "click"}, "timeout": 1},
    ),
    Metric(
        ORGANISATION,
        "computed",
        1,
        {
            "type": "value",
            "value": "number(properties.v) / properties.n",
            "aggregations": ["share<=0.5", "p50", "share>-1", "variance"],
            "group_by": ["properties.g"],
            "max_groups": 2,
        },
    ),
    Metric(
        ORGANISATION,
        "rates",
        1,
        {
            "type": "ratio",
            "numerator": {"value": "if(properties.n >= 1, coalesce(properties.v, 7), -properties.n)"},
            "denominator": {"value": "properties.v * 2 + 1"},
        },
    ),
    Metric(
        ORGANISATION,
        "timed",
        1,
        {"type": "value", "value": "milliseconds_between(1759968000, time)", "scale": 3},
    ),
    Metric(ORGANISATION, "different", 1, {"type": "unique", "of": "properties.v", "group_by": ["event_type"]}),
    Metric(
        ORGANISATION,
        "categories",
        1,
        {"type": "breakdown", "of": "properties.list", "event": ["click", "buy"], "max_groups": 3},
    ),
    Metric(
        ORGANISATION,
        "asked",
        1,
        {
            "type": "survey",
            "questions": {"v": {"min": 1, "max": 5}, "n": {"nps": True}, "w": {"value": "properties.v * 2 + 1"}},
            "group_by": ["properties.g", "user_id"],
            "max_groups": 4,
            "scale": 2,
        },
    ),
    Metric(ORGANISATION, "few", 1, {"type": "count", "group_by": ["properties.g", "session_id"], "max_groups": 3}),
    Metric(
        ORGANISATION,
        "ruled",
        1,
        {
            "type": "journey",
            "unit": "session",
            "filter": {"path": "context.a.b", "op": "ne", "value": "ü"},
            "start": {"event": "click"},
            "complete": {"event": "buy", "filter": {"path": "properties.v", "op": "ge", "value": 0}},
            "steps": [
                {"name": "import", "event": ["buy", "experiment_exposure"]},
                {"name": "visit", "event": ["experiment_result", "click"]},
            ],
            "timeout": 4000,
            "outcomes": [
                {"name": "quick", "when": {"reached": "visit", "within": 60, "of": "import"}},
                {"name": "completed", "when": {"reached": "complete", "within": 7200}},
                {"name": "late", "when": {"all": [{"reached": "complete"}, {"timeout": True}]}},
                {"name": "abandoned", "when": {"any": [{"timeout": True}, {"not": {"reached": "import"}}]}},
            ],
            "durations": [
                {"name": "value", "from": "import", "to": "visit", "percentiles": ["p50"]},
                {"name": "whole", "to": "complete"},
            ],
            "within": [
                {"name": "active", "step": "visit", "of": "import", "within": 3600},
                {"name": "engaged", "step": "visit", "within": 86400, "at_least": 2},
            ],
            "correlate": [
                {
                    "name": "ticket",
                    "event": "experiment_result",
                    "by": "user",
                    "within": 7200,
                    "distinct": "properties.metric_name",
                },
                {"name": "busy", "event": ["buy", "click"], "by": "job", "within": 86400, "at_least": 2},
            ],
            "first_attempt": {"by": "user"},
            "group_by": ["properties.variant"],
            "max_groups": 2,
        },
    ),
    Metric(
        ORGANISATION,
        "funnel",
        1,
        {
            "type": "funnel",
            "unit": "user",
            "stages": [
                {"name": "one", "event": "click"},
                {
                    "name": "two",
                    "event": ["buy", "click"],
                    "filter": {"path": "properties.v", "op": "ge", "value": 0},
                },
                {"name": "three", "event": "experiment_result"},
                {"name": "four", "filter": {"path": "properties.g", "op": "in", "value": ["a", "b", 1]}},
            ],
            "window": 7200,
            "drop_off": {"filter": {"path": "context.a.b", "op": "ge", "value": 0}, "reason": "properties.g"},
            "group_by": ["properties.variant"],
            "max_groups": 2,
        },
    ),
    Metric(
        ORGANISATION,
        "narrow",
        1,
        {
            "type": "funnel",
            "unit": "job",
            "filter": {"path": "properties.v", "op": "ne", "value": "ü"},
            "stages": [{"name": "in", "event": "buy"}, {"name": "out", "event": "experiment_result"}],
            "window": 60,
        },
    ),
    Metric("other", "all", 1, {"type": "count", "group_by": ["properties.g"]}),
]
EXPERIMENTS = [
    experiment(
        "x",
        metrics=("amount", "all", "rate", "streak", "strict"),
        segments=("properties.g", "context.a.b", "user_id"),
    ),
    experiment("ended", unit="session", metrics=("coarse",), ended_at=NOW + MINUTE),
    experiment("draft", status="draft", metrics=("amount",)),
    experiment("x", organisation="other", unit="job", metrics=("all", "amount")),
]
PLAN = make_plan([parse_definition(m.organisation, m.key, m.version, m.spec) for m in METRICS], EXPERIMENTS)

NUMBERS = [0, 1, -1, 2, 0.5, -2.5, 1.0000005, 1e-9, -0.0, 12.25, 10**11, -(10**11), 10**17, 10**17 + 1, 1e17, -1e17]
HUGE = [2**63, 2**64, 2**70, -(2**70), 1e308, -1e308]
NO_NUMBERS = [None, True, False, "", "1", "a\x00b", "x" * 201, "ü", [1], {"b": 1}, {}]
VALUES = [*NUMBERS, *NUMBERS, *HUGE, *NO_NUMBERS]
UNITS = ["u1", "u2", "u3", None, "", "nul\x00", "u" * 501]
FIELDS: dict[str, list[Any]] = {
    "organisation": [ORGANISATION, ORGANISATION, ORGANISATION, ORGANISATION, "other", "stranger"],
    "event_id": [f"e{i}" for i in range(40)],
    "event_type": ["click", "buy", "experiment_exposure", "experiment_result", "experiment_result"],
    "user_id": UNITS,
    "session_id": UNITS,
    "job_id": UNITS,
}
PROPERTIES: dict[str, list[Any]] = {
    "v": VALUES,
    "g": ["a", "b", "a", "b", "other", *VALUES],
    "n": [0, 1, 2, 4, 0.5, 9, 10, 10.5, -1, "1", None],
    "list": [["a", "b"], ["b", "c", "b"], [], "a", "d", ["other"], ["x" * 201, "e"], [["a"], None, {}, 5], 7, {}],
    "experiment": ["x", "x", "x", "ended", "ended", "draft", "unknown", ["x"], None],
    "variant": ["control", "treatment", "treatment", "unknown", ["control"], None],
    "metric_name": ["revenue", "revenue", "revenue", "returns", "amount", "", "n\x00", "n" * 201, 5],
    "metric_value": VALUES,
}
CONTEXTS: list[dict[str, Any]] = [{}, {"a": 1}, *({"a": {"b": v}} for v in VALUES)]
JUNK = [None, b"", b"{}", b"[", b'{"organisation":1}', b"\xff", b"[" * 3000]
STEPS = [0, 0, 1, SECOND, SECOND, 59 * SECOND, MINUTE, 35 * MINUTE, 36 * MINUTE, 37 * MINUTE]
LEADS = [0, 0, 0, -1, 1, -SECOND, MINUTE, -HOUR, 23 * HOUR, DAY, -DAY + 1, -DAY, -DAY - 1, -DAY - HOUR, -3 * DAY]

Choose = Callable[[list[Any]], Any]


def piece(choose: Choose, ids: list[str]) -> tuple[int, int, Any]:
    """A step in broker time, the event's lead over it, and an event or junk, all chosen from the lists above."""
    step, lead = choose(STEPS), choose(LEADS)
    if choose(range_of(12)) == 0:
        return step, lead, choose(JUNK)
    fields = {name: choose(ids if name == "event_id" else options) for name, options in FIELDS.items()}
    properties = {name: choose(options) for name, options in PROPERTIES.items() if choose(range_of(8))}
    return step, lead, {**fields, "properties": properties, "context": choose(CONTEXTS)}


def range_of(n: int) -> list[int]:
    return list(range(n))


@st.composite
def logs(draw: st.DrawFn) -> list[tuple[int, int, Any]]:
    size = draw(st.integers(1, 30))
    return [piece(lambda options: draw(st.sampled_from(options)), FIELDS["event_id"]) for _ in range(size)]


def as_log(steps_leads_contents: Sequence[tuple[int, int, Any]]) -> tuple[list[Entry], list[Record]]:
    """Lays the generated pieces out in broker time, which never falls."""
    entries, records, broker_time = [], [], NOW
    for offset, (step, lead, content) in enumerate(steps_leads_contents, start=7):
        broker_time += step
        if isinstance(content, dict):
            content = {**content, "time": broker_time + lead}
        entries.append(Entry(offset, broker_time, content if isinstance(content, dict) else None))
        records.append(record(offset, content, broker_time))
    return entries, records


def folded(batches: Sequence[Sequence[Record]]) -> Outcome:
    """Folds batch after batch as the shell does: ids are remembered once their batch is done."""
    outcome, seen, watermark = Outcome(), SeenIds(), 0
    groups = KnownGroups(stored=False)
    units, known = UnitTable(), KnownUnits(capacity=6)
    for records in batches:
        batch = read_batch(records, reader_of(PLAN.projection))
        verdicts = judge(batch, watermark, seen)
        deltas = fold(batch, verdicts, PLAN, groups)
        groups.add(deltas.groups)
        moved, learned = units.tell(deltas, verdicts.watermark)
        deltas.windows += moved
        known.learn(learned)
        add(outcome, deltas)
        seen.add(batch.digests, verdicts.minutes)
        watermark = verdicts.watermark
        outcome.verdicts += [
            "duplicates" if duplicate else "late" if late else "counted"
            for duplicate, late in zip(verdicts.duplicate, verdicts.late, strict=True)
        ]
        assert (verdicts.counted.astype(int) + verdicts.duplicate + verdicts.late == 1).all()
    outcome.watermark = watermark
    outcome.windows = {place: cell for place, cell in outcome.windows.items() if cell.n}
    return outcome


def add(outcome: Outcome, deltas: Deltas) -> None:
    """Adds deltas as the tables do."""
    for d in deltas.windows:
        cell = outcome.windows.setdefault((named(d.series), d.minute, tuple(json.loads(d.group))), Cell())
        cell.n += d.n
        cell.sum += d.sum
        cell.sum_squares += d.sum_squares
        cell.min = min((v for v in (cell.min, d.min) if v is not None), default=None)
        cell.max = max((v for v in (cell.max, d.max) if v is not None), default=None)
        if isinstance(d.state, Histogram):
            cell.buckets.update(d.state.counts)
        elif isinstance(d.state, DistinctSet):
            assert d.state.values.hashes is not None
            cell.different |= set(d.state.values.hashes.tolist())
    for plan, runs in deltas.streaks:
        for group, run in runs.items():
            place = (named(plan.series), tuple(json.loads(group)))
            known = Run(*outcome.streaks.get(place, (0, (), 0)))
            both = joined([known, run], plan.streak.length)
            outcome.streaks[place] = (both.latest_success, both.failures, both.n)
    for series, c in deltas.counters.items():
        outcome.counters.setdefault(named(series), Counter()).update(
            counted=c.counted, late=c.late, duplicates=c.duplicates, invalid=c.invalid, overflow=c.overflow
        )
    for organisation, o in deltas.organisations.items():
        outcome.organisations.setdefault(organisation, Counter()).update(
            events=o.events, counted=o.counted, late=o.late, duplicates=o.duplicates
        )
    outcome.exposures += [(e.series.experiment, e.unit, e.variant, e.time, e.context) for e in deltas.exposures]
    for v in deltas.unit_values:
        outcome.unit_values += [
            (v.exposure.experiment, named(v.series), unit, time, value)
            for unit, time, value in zip(v.units, v.times, v.values, strict=True)
        ]
    outcome.unitless += [(u.series.experiment, u.series.metric, u.variant, u.value) for u in deltas.unitless]
    outcome.invalid_experiment_events += deltas.invalid_experiment_events


def named(s: WindowSeries | UnitSeries) -> Series:
    return (s.organisation, s.metric, str(s.version), s.component, str(s.scale))


def cut(records: Sequence[Record], at: Sequence[int]) -> list[Sequence[Record]]:
    edges = [0, *sorted({a for a in at if 0 < a < len(records)}), len(records)]
    return [records[a:b] for a, b in pairwise(edges)]


def assert_same(found: Outcome, expected: Outcome) -> None:
    assert found.verdicts == expected.verdicts
    assert found.watermark == expected.watermark
    assert found.windows == expected.windows
    assert found.streaks == expected.streaks
    assert found.counters == expected.counters
    assert found.organisations == expected.organisations
    assert sorted(found.exposures) == sorted(expected.exposures)
    assert sorted(found.unit_values) == sorted(expected.unit_values)
    assert sorted(found.unitless) == sorted(expected.unitless)
    assert found.invalid_experiment_events == expected.invalid_experiment_events


@settings(bounded, max_examples=150)
@given(logs(), st.lists(st.integers(1, 29), max_size=4))
def test_the_fold_agrees_with_the_reference_for_any_log_and_any_cut(
    pieces: list[tuple[int, int, Any]], cuts: list[int]
) -> None:
    entries, records = as_log(pieces)
    assert_same(folded(cut(records, cuts)), reference(entries, METRICS, EXPERIMENTS))


@settings(bounded, max_examples=25)
@given(logs())
def test_one_batch_two_halves_and_single_records_leave_the_same_behind(pieces: list[tuple[int, int, Any]]) -> None:
    _, records = as_log(pieces)
    whole = folded([records])
    assert_same(folded(cut(records, [len(records) // 2])), whole)
    assert_same(folded(cut(records, range(len(records)))), whole)


@pytest.mark.parametrize("seed", [1, 2])
def test_thousands_of_events_agree_with_the_reference(seed: int) -> None:
    rng = random.Random(seed)
    ids = [f"e{i}" for i in range(60)]
    entries, records = as_log([piece(rng.choice, ids) for _ in range(3_000)])
    expected = reference(entries, METRICS, EXPERIMENTS)
    assert_same(folded(cut(records, rng.sample(range(len(records)), 7))), expected)
    assert set(expected.verdicts) == {"counted", "late", "duplicates"}
    assert expected.exposures
    assert expected.unit_values
    assert expected.unitless
    assert all(c["invalid"] for (_, metric, *_), c in expected.counters.items() if metric in ("amount", "grouped"))
    assert all(
        c["counted"] and c["overflow"]
        for (_, metric, *_), c in expected.counters.items()
        if metric in ("computed", "categories", "asked", "few", "streak", "journey")
    )
    assert {series[3] for series, _, _ in expected.windows} >= {"share", "unique", "category", "answer", "nps"}


def test_hundreds_of_short_logs_agree_and_end_in_every_way_a_journey_and_a_streak_can() -> None:
    rng = random.Random(7)
    outcomes, lengths = set(), set()
    for _ in range(300):
        entries, records = as_log([piece(rng.choice, FIELDS["event_id"]) for _ in range(rng.randrange(1, 60))])
        expected = reference(entries, METRICS, EXPERIMENTS)
        assert_same(folded(cut(records, [rng.randrange(60), rng.randrange(60)])), expected)
        outcomes |= {group[0] for (series, _, group) in expected.windows if series[1] == "journey"}
        lengths |= {len(failures) for _, failures, _ in expected.streaks.values()}
    assert outcomes == {
        "completed",
        "abandoned_after_navigation",
        "abandoned_timeout",
        "in_progress",
        "one",
        "two",
    }
    assert lengths >= {0, 1, 2, 3}
