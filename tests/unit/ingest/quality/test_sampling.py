"""Some events for many."""

from __future__ import annotations

from typing import Any

import pytest

from services.assignment.domain.bucketing import bucket_of
from services.ingest.domain.quality.aside import Aside, SetAside
from services.ingest.domain.quality.checks import sample_check
from services.ingest.domain.quality.inspection import Check
from services.ingest.domain.quality.intake_rule import parse_intake_rule
from shared.messages import Event

MANY = 2_000


def sampling(**specs: Any) -> Check:
    check = sample_check([parse_intake_rule(key, {"event_types": ["p"], **spec}) for key, spec in specs.items()])
    assert check is not None
    return check


def event(number: int, **fields: Any) -> Event:
    given = {"organisation": "acme", "event_id": f"e{number}", "event_type": "p", "time": 1, "received_at": 1}
    return Event(**{**given, **fields})


def kept(check: Check, events: list[Event]) -> list[Event]:
    return [one for one in (check(event, 1) for event in events) if isinstance(one, Event)]


def test_about_so_many_are_kept_as_asked_and_each_says_for_how_many_it_stands() -> None:
    stored = kept(sampling(tenth={"sample": 0.1}), [event(n) for n in range(MANY)])

    assert len(stored) == pytest.approx(0.1 * MANY, abs=60)
    assert {one.context["sampleRate"] for one in stored} == {0.1}


def test_whatever_is_left_out_says_so() -> None:
    verdicts = [sampling(tenth={"sample": 0.1})(event(n), 1) for n in range(100)]

    aside = [one for one in verdicts if isinstance(one, SetAside)]
    assert {one.reason for one in aside} == {Aside.SAMPLED_OUT}
    assert aside[0].event_id is not None


def test_a_unit_is_kept_whole_or_not_at_all_by_the_published_algorithm() -> None:
    check = sampling(half={"sample": 0.5, "by": "job", "salt": "s"})

    stored = kept(check, [event(n, job_id=f"j{n % 50}") for n in range(500)])

    assert {one.job_id for one in stored} == {f"j{n}" for n in range(50) if bucket_of("s", f"j{n}") < 500_000}
    assert len(stored) == 10 * len({one.job_id for one in stored})


def test_without_the_unit_the_events_own_id_decides() -> None:
    by_job, by_event = sampling(x={"sample": 0.5, "by": "job"}), sampling(x={"sample": 0.5})
    events = [event(n) for n in range(100)]

    assert kept(by_job, events) == kept(by_event, events)


def test_rates_of_several_rules_and_of_the_sender_multiply_but_one_salt_draws_once() -> None:
    two = sampling(a={"sample": 0.5}, b={"sample": 0.4})
    one = sampling(a={"sample": 0.5, "salt": "s"}, b={"sample": 0.4, "salt": "s"})
    events = [event(n, context={"sampleRate": 0.1}) for n in range(MANY)]

    assert {event.context["sampleRate"] for event in kept(two, events)} == {0.02}
    assert {event.context["sampleRate"] for event in kept(one, events)} == {0.04}
    assert len(kept(two, events)) == pytest.approx(0.2 * MANY, abs=80)
    assert len(kept(one, events)) == pytest.approx(0.4 * MANY, abs=100)


def test_other_event_types_are_all_kept_as_they_are() -> None:
    other = event(1, event_type="q")

    assert sampling(tenth={"sample": 0.000001})(other, 1) is other
