"""The truth beside what was counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from examples.imports.domain.comparison import Comparison, Counted, VariantCounted, compare
from examples.imports.domain.ledger import Truth, VariantTruth

_TRUTH = Truth(
    accepted=100,
    duplicates_sent=9,
    duplicates_certain=7,
    malformed_sent=3,
    offline=2,
    unacknowledged=0,
    variants={"realtime": VariantTruth(10, 8, 250.0), "background": VariantTruth(11, 11, 300.0)},
)
_COUNTED = Counted(
    counted=98,
    late=2,
    duplicates_dropped=8,
    dead_lettered=3,
    variants={"realtime": VariantCounted(10, 8, 250.0), "background": VariantCounted(11, 11, 300.0)},
)


def _wrong(comparison: Comparison) -> list[str]:
    return [line.what for line in comparison.lines if not line.agrees]


def test_everything_agrees_when_it_does() -> None:
    comparison = compare(_TRUTH, _COUNTED)
    assert _wrong(comparison) == []
    assert comparison.differences == ()


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        (replace(_COUNTED, counted=97), ["accepted = counted + late"]),
        (replace(_COUNTED, counted=99), ["accepted = counted + late"]),
        (
            replace(_COUNTED, variants={**_COUNTED.variants, "realtime": VariantCounted(9, 8, 250.0)}),
            ["realtime: units", "realtime: abandoned"],
        ),
        (
            replace(_COUNTED, variants={**_COUNTED.variants, "realtime": VariantCounted(10, 7, 250.0)}),
            ["realtime: completed", "realtime: abandoned"],
        ),
    ],
)
def test_a_lost_or_doubled_event_or_unit_fails_the_run(counted: Counted, expected: list[str]) -> None:
    comparison = compare(_TRUTH, counted)
    assert [line.what for line in comparison.differences] == expected


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        (replace(_COUNTED, counted=97, late=3), "late (devices that were offline)"),
        (replace(_COUNTED, duplicates_dropped=6), "duplicates dropped"),
        (replace(_COUNTED, duplicates_dropped=10), "duplicates dropped"),
        (replace(_COUNTED, dead_lettered=2), "malformed, kept as dead letters"),
        (
            replace(_COUNTED, variants={**_COUNTED.variants, "realtime": VariantCounted(10, 8, 251.0)}),
            "realtime: mean duration",
        ),
    ],
)
def test_other_disagreements_are_shown_without_failing_the_run(counted: Counted, expected: str) -> None:
    comparison = compare(_TRUTH, counted)
    assert _wrong(comparison) == [expected]
    assert comparison.differences == ()


def test_a_variant_that_the_platform_does_not_know_counts_as_empty() -> None:
    comparison = compare(_TRUTH, replace(_COUNTED, variants={"realtime": _COUNTED.variants["realtime"]}))
    assert "background: units" in [line.what for line in comparison.differences]


def test_unacknowledged_events_are_shown() -> None:
    assert _wrong(compare(replace(_TRUTH, unacknowledged=1), _COUNTED)) == ["events never acknowledged"]


def test_the_figures_have_exactly_the_published_structure() -> None:
    assert compare(_TRUTH, _COUNTED).to_json() == {
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
    }
