"""Rules as they come from their topic, and what they do to requests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.ingest.domain.quality.hash_period import Rotation
from services.ingest.quality.inspections import Inspections
from services.ingest.quality.intake_rules import IntakeRules
from tests.unit.ingest.quality.rules import FixedKeys, put_rules
from tests.unit.ingest.service import Service

GOOGLE = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
MAIL = {"hash": ["event_data.email"], "rotate": "month"}


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    async with service.client:
        yield service


async def test_what_robots_send_is_answered_as_taken_and_not_stored(service: Service) -> None:
    put_rules(service.inspections, {"robots": {"bots": "drop"}, "mail": MAIL})

    single = await service.one({"event_type": "a", "event_id": "1"}, **{"User-Agent": GOOGLE})
    batch = await service.batch([{"event_type": "a", "context": {"userAgent": GOOGLE}}, {"event_type": "a"}])

    assert (single.status_code, single.json()["status"], single.json()["reason"]) == (202, "dropped", "bot")
    assert batch.json()["accepted"] == 1
    assert [verdict["status"] for verdict in batch.json()["results"]] == ["dropped", "accepted"]
    assert (len(service.stored()), service.dead()) == (1, [])
    assert service.metric("events_set_aside_total", reason="bot") == 2


async def test_robots_and_samples_are_decided_before_anything_is_hidden(service: Service) -> None:
    hidden = {"drop": ["context.userAgent", "job_id"]}
    sample = {"event_types": ["p"], "sample": 0.5, "by": "job", "salt": "s"}
    put_rules(service.inspections, {"a-hidden": hidden, "robots": {"bots": "mark"}, "sample": sample})
    events = [{"event_type": "p", "job_id": f"j{n}", "context": {"userAgent": GOOGLE}} for n in range(200)]

    first = (await service.batch(events)).json()["results"]
    second = (await service.batch(events)).json()["results"]

    assert [one["status"] for one in first] == [one["status"] for one in second]
    assert {one["status"] for one in first} == {"accepted", "dropped"}
    assert {(event.job_id, len(event.context)) for event in service.stored()} == {(None, 2)}
    assert all(event.context == {"bot": True, "sampleRate": 0.5} for event in service.stored())


def test_a_rule_that_is_removed_or_switched_off_is_no_longer_in_force() -> None:
    inspections = Inspections()
    rules = IntakeRules(inspections)
    rules.hash_with(FixedKeys())
    rules.learn("acme", "mail", MAIL)
    rules.learn("acme", "robots", {"bots": "drop"})
    rules.learn("other", "day", {**MAIL, "rotate": "day"})
    assert rules.rotations() == {"acme": {Rotation.MONTH}, "other": {Rotation.DAY}}
    assert inspections.of("acme") is not None

    rules.learn("acme", "mail", {**MAIL, "enabled": False})
    rules.learn("acme", "robots", None)

    assert inspections.of("acme") is None
    assert rules.rotations() == {"other": {Rotation.DAY}}


def test_a_rule_that_cannot_be_read_is_in_nobodys_way_once_it_is_replaced() -> None:
    inspections = Inspections()
    rules = IntakeRules(inspections)
    rules.learn("acme", "newer", {"encrypt": ["user_id"]})
    unread = inspections.of("acme")
    rules.learn("acme", "newer", {"drop": ["user_id"]})
    read = inspections.of("acme")

    assert unread is not None
    assert unread.guard is not None
    assert unread.guard.refusal(1) is not None
    assert read is not None
    assert read.guard is not None
    assert read.guard.refusal(1) is None
