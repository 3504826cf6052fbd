"""The driver's own log."""

from __future__ import annotations

import pytest

from examples.imports.domain.journeys import Journeys
from examples.imports.domain.ledger import Ledger, Outcome, VariantTruth


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(("realtime", "background"))


def test_an_acknowledged_event_is_accepted_once_however_often_it_was_sent(ledger: Ledger) -> None:
    ledger.delivered(["a", "b"], Outcome.ACKNOWLEDGED)
    ledger.delivered(["a"], Outcome.ACKNOWLEDGED)
    truth = ledger.truth()
    assert (truth.accepted, truth.duplicates_sent, truth.duplicates_certain) == (2, 1, 1)


def test_a_retry_after_an_unknown_outcome_is_sent_twice_but_perhaps_arrived_once(ledger: Ledger) -> None:
    ledger.delivered(["a"], Outcome.UNKNOWN)
    ledger.delivered(["a"], Outcome.ACKNOWLEDGED)
    truth = ledger.truth()
    assert (truth.accepted, truth.duplicates_sent, truth.duplicates_certain) == (1, 1, 0)
    assert truth.unacknowledged == 0


def test_a_refused_connection_sent_nothing(ledger: Ledger) -> None:
    ledger.delivered(["a"], Outcome.NOT_SENT)
    ledger.delivered(["a"], Outcome.ACKNOWLEDGED)
    assert ledger.truth().duplicates_sent == 0


def test_what_was_never_acknowledged_is_not_accepted(ledger: Ledger) -> None:
    ledger.delivered(["a"], Outcome.UNKNOWN)
    truth = ledger.truth()
    assert (truth.accepted, truth.unacknowledged) == (0, 1)


def test_a_malformed_event_counts_once_and_never_as_accepted(ledger: Ledger) -> None:
    ledger.malformed("m")
    ledger.malformed("m")
    truth = ledger.truth()
    assert (truth.malformed_sent, truth.accepted) == (1, 0)


def test_a_completion_counts_only_when_it_is_acknowledged(ledger: Ledger) -> None:
    for user in ("u1", "u2", "u3"):
        ledger.assigned(user, "realtime")
    ledger.completed("u1", "done-1", 100.0)
    ledger.completed("u2", "done-2", 300.0)
    ledger.delivered(["done-1"], Outcome.ACKNOWLEDGED)
    realtime = ledger.truth().variants["realtime"]
    assert realtime == VariantTruth(units=3, completed=1, mean_duration=100.0)
    assert realtime.abandoned == 2


def test_a_variant_without_units_is_still_listed(ledger: Ledger) -> None:
    assert ledger.truth().variants["background"] == VariantTruth(0, 0, None)


def test_being_assigned_again_is_one_unit_and_another_variant_is_an_error(ledger: Ledger) -> None:
    ledger.assigned("u", "realtime")
    ledger.assigned("u", "realtime")
    assert ledger.truth().variants["realtime"].units == 1
    with pytest.raises(ValueError, match="was in realtime and is now in background"):
        ledger.assigned("u", "background")


def test_offline_events_count_once_they_are_acknowledged(ledger: Ledger) -> None:
    ledger.offline("old")
    assert ledger.truth().offline == 0
    ledger.delivered(["old"], Outcome.ACKNOWLEDGED)
    assert ledger.truth().offline == 1


def test_an_import_that_did_not_complete_is_abandoned_by_navigation_or_by_timeout(ledger: Ledger) -> None:
    for user in ("done", "away", "gone"):
        ledger.assigned(user, "background")
        ledger.started(user, f"start-{user}", "background")
    ledger.completed("done", "end-done", 100.0)
    for user in ("done", "away"):
        ledger.navigated_away(user, f"away-{user}")
    ids = ["start-done", "start-away", "start-gone", "end-done", "away-done", "away-away"]
    ledger.delivered(ids, Outcome.ACKNOWLEDGED)
    background = ledger.truth().variants["background"]
    assert background.journeys == Journeys(3, 1, abandoned_after_navigation=1, abandoned_timeout=1)
    assert background.abandoned == background.journeys.abandoned


def test_what_the_platform_was_never_told_is_in_no_journey(ledger: Ledger) -> None:
    for user in ("u1", "u2"):
        ledger.assigned(user, "background")
        ledger.started(user, f"start-{user}", "background")
        ledger.navigated_away(user, f"away-{user}")
        ledger.completed(user, f"end-{user}", 100.0)
    ledger.delivered(["start-u1", "end-u2"], Outcome.ACKNOWLEDGED)
    assert ledger.truth().variants["background"].journeys == Journeys(1, 0, 0, abandoned_timeout=1)


def test_a_diverted_user_is_turned_away_unless_it_gets_in_later(ledger: Ledger) -> None:
    for user in ("u1", "u2", "u1"):
        ledger.diverted(user)
    ledger.assigned("u2", "realtime")
    truth = ledger.truth()
    assert (truth.diverted, truth.turned_away) == (2, 1)
