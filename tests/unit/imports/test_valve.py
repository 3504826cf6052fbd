"""The breaker as seen from outside, and how long it took to switch imports off."""

from __future__ import annotations

from examples.imports.domain.valve import (
    AcknowledgedOutcome,
    FlagState,
    Sightings,
    decided_at,
    kill_latencies_ms,
)


def _ends(*failed: bool, start: int = 0) -> list[AcknowledgedOutcome]:
    """One import ends each second and is acknowledged a tenth of a second later."""
    return [AcknowledgedOutcome(n, f, n + 0.1) for n, f in enumerate(failed, start + 1)]


def test_the_last_of_so_many_failures_in_a_row_decides() -> None:
    assert decided_at(_ends(True, False, True, True, True, True), since=0, threshold=3) == 5.1


def test_a_success_in_between_by_its_own_time_begins_anew_even_if_it_is_told_late() -> None:
    outcomes = _ends(True, True)
    outcomes += [AcknowledgedOutcome(2, False, 2.5), AcknowledgedOutcome(3, True, 3.1)]
    assert decided_at(outcomes, since=0, threshold=3) is None
    outcomes += [AcknowledgedOutcome(4, True, 4.1), AcknowledgedOutcome(5, True, 5.1)]
    assert decided_at(outcomes, since=0, threshold=3) == 5.1


def test_an_old_success_told_late_ends_no_streak() -> None:
    outcomes = [*_ends(True, True, start=10), AcknowledgedOutcome(3, False, 12.5), *_ends(True, start=12)]
    assert decided_at(outcomes, since=0, threshold=3) == 13.1


def test_failures_before_the_breaker_closed_do_not_count() -> None:
    assert decided_at(_ends(True, True, True, True), since=2, threshold=3) is None


def test_an_opening_is_seen_at_the_first_changed_answer_and_a_probe_closes_nothing() -> None:
    sightings = Sightings()
    answers = [
        (FlagState.ON, 1.0),
        (FlagState.OFF, 2.0),
        (FlagState.OFF, 3.0),
        (FlagState.PROBE, 4.0),
        (FlagState.OFF, 5.0),
        (FlagState.PROBE, 6.0),
        (FlagState.ON, 7.0),
        (FlagState.ON, 8.0),
        (FlagState.PROBE, 9.0),
    ]
    for state, at in answers:
        sightings.saw(state, at)
    assert (sightings.openings, sightings.closings) == ([2.0, 9.0], [7.0])


def test_latency_counts_from_the_acknowledgement_of_each_opening_s_own_failures() -> None:
    outcomes = [*_ends(True, True, True), *_ends(False, start=9), *_ends(True, True, True, start=20)]
    sightings = Sightings(openings=[3.6, 23.35], closings=[10.5])
    latencies = kill_latencies_ms(reversed(outcomes), sightings, closed_at=[10], threshold=3)
    assert [round(latency) for latency in latencies] == [500, 250]


def test_an_answer_that_changed_before_the_acknowledgement_arrived_took_no_time() -> None:
    assert kill_latencies_ms(_ends(True, True), Sightings(openings=[1.9]), [], threshold=2) == (0.0,)


def test_an_opening_that_no_acknowledged_failures_explain_has_no_latency() -> None:
    assert kill_latencies_ms(_ends(True, False), Sightings(openings=[5.0]), [], threshold=2) == ()
