"""The truth beside what was counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from examples.imports.domain.comparison import Comparison, Counted, VariantCounted, compare
from examples.imports.domain.journeys import Journeys
from examples.imports.domain.ledger import Truth, VariantTruth
from examples.imports.domain.valve import BreakerReport, Valve

_REALTIME, _BACKGROUND = Journeys(10, 8, 0, 2), Journeys(11, 11)
_TRUTH = Truth(
    accepted=100,
    duplicates_sent=9,
    duplicates_certain=7,
    malformed_sent=3,
    offline=2,
    unacknowledged=0,
    variants={
        "realtime": VariantTruth(10, 8, 250.0, _REALTIME),
        "background": VariantTruth(11, 11, 300.0, _BACKGROUND),
    },
)
_PLATFORM_REALTIME = VariantCounted(10, 8, 250.0, _REALTIME)
_COUNTED = Counted(
    counted=98,
    late=2,
    duplicates_dropped=8,
    dead_lettered=3,
    variants={"realtime": _PLATFORM_REALTIME, "background": VariantCounted(11, 11, 300.0, _BACKGROUND)},
)
_VALVE = Valve(
    seen_openings=2,
    seen_closings=2,
    report=BreakerReport("closed", 2, 2),
    kill_latencies_ms=(300.0, 500.04),
    messages={"slack": 4, "pagerduty": 5, "email": 4},
    wanted_openings=2,
)


def _wrong(comparison: Comparison) -> list[str]:
    return [line.what for line in comparison.lines if not line.agrees]


def _with_realtime(**changes: Any) -> Counted:
    return replace(_COUNTED, variants={**_COUNTED.variants, "realtime": replace(_PLATFORM_REALTIME, **changes)})


def test_everything_agrees_when_it_does() -> None:
    comparison = compare(_TRUTH, _COUNTED, _VALVE)
    assert _wrong(comparison) == []
    assert comparison.differences == ()


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        (replace(_COUNTED, counted=97), ["accepted = counted + late"]),
        (replace(_COUNTED, counted=99), ["accepted = counted + late"]),
        (_with_realtime(units=9), ["realtime: units"]),
        (_with_realtime(completed=7), ["realtime: completed"]),
        (
            _with_realtime(journeys=Journeys(10, 8, 1, 1)),
            ["realtime: journeys, abandoned after navigating away", "realtime: journeys, abandoned by timeout"],
        ),
        (
            _with_realtime(journeys=Journeys(10, 8, 0, 1, 1)),
            [
                "realtime: abandoned",
                "realtime: journeys, abandoned by timeout",
                "realtime: journeys, in progress",
            ],
        ),
    ],
)
def test_a_lost_or_doubled_event_or_unit_fails_the_run(counted: Counted, expected: list[str]) -> None:
    comparison = compare(_TRUTH, counted, _VALVE)
    assert [line.what for line in comparison.differences] == expected


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        (replace(_COUNTED, counted=97, late=3), "late (devices that were offline)"),
        (replace(_COUNTED, duplicates_dropped=6), "duplicates dropped"),
        (replace(_COUNTED, duplicates_dropped=10), "duplicates dropped"),
        (replace(_COUNTED, dead_lettered=2), "malformed, kept as dead letters"),
        (_with_realtime(mean_duration=251.0), "realtime: mean duration"),
    ],
)
def test_other_disagreements_are_shown_without_failing_the_run(counted: Counted, expected: str) -> None:
    comparison = compare(_TRUTH, counted, _VALVE)
    assert _wrong(comparison) == [expected]
    assert comparison.differences == ()


def test_a_variant_that_the_platform_does_not_know_counts_as_empty() -> None:
    comparison = compare(_TRUTH, replace(_COUNTED, variants={"realtime": _PLATFORM_REALTIME}), _VALVE)
    assert "background: units" in [line.what for line in comparison.differences]


def test_unacknowledged_events_are_shown() -> None:
    assert _wrong(compare(replace(_TRUTH, unacknowledged=1), _COUNTED, _VALVE)) == ["events never acknowledged"]


def test_the_figures_have_exactly_the_published_structure() -> None:
    assert compare(_TRUTH, _COUNTED, _VALVE).to_json() == {
        "events": {
            "accepted": 100,
            "counted": 98,
            "late": 2,
            "duplicates_sent": 9,
            "duplicates_dropped": 8,
            "malformed_sent": 3,
            "dead_lettered": 3,
        },
        "variants": {
            "realtime": {
                "units": 10,
                "completed": 8,
                "abandoned": 2,
                "truth": {"units": 10, "completed": 8, "abandoned": 2},
            },
            "background": {
                "units": 11,
                "completed": 11,
                "abandoned": 0,
                "truth": {"units": 11, "completed": 11, "abandoned": 0},
            },
        },
        "breaker": {"openings": 2, "closed": 2},
        "kill_latency_ms": {"p50": 400.0, "max": 500.0},
        "alerts": {"slack": 4, "pagerduty": 5, "email": 4},
    }


@pytest.mark.parametrize(
    ("valve", "expected"),
    [
        (replace(_VALVE, seen_openings=3), ["breaker: openings, as users saw it"]),
        (replace(_VALVE, seen_closings=1), ["breaker: closings, as users saw it"]),
        (
            replace(_VALVE, seen_closings=1, report=BreakerReport("held", 2, 1)),
            ["breaker: in the end"],
        ),
        (replace(_VALVE, wanted_openings=5), ["breaker: openings in a run this long"]),
        (replace(_VALVE, messages={**_VALVE.messages, "email": 0}), ["messages on email"]),
    ],
)
def test_a_breaker_or_a_channel_that_fails_its_users_fails_the_run(valve: Valve, expected: list[str]) -> None:
    comparison = compare(_TRUTH, _COUNTED, valve)
    assert [line.what for line in comparison.differences] == expected


def test_a_message_too_few_is_shown_without_failing_the_run() -> None:
    comparison = compare(_TRUTH, _COUNTED, replace(_VALVE, messages={**_VALVE.messages, "slack": 3}))
    assert _wrong(comparison) == ["messages on slack"]
    assert comparison.differences == ()


def test_without_an_opening_there_is_no_latency() -> None:
    assert replace(_VALVE, kill_latencies_ms=()).to_json()["kill_latency_ms"] == {"p50": None, "max": None}
