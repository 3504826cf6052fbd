"""One event type's schema: which version judges, and what becomes of what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from services.ingest.domain.normalise import Reason, Rejected
from services.ingest.domain.quality.aside import Aside, SetAside, Status, WarnedEvent
from services.ingest.domain.quality.json_schema import MAX_PARTS
from services.ingest.domain.quality.schema import SchemaCheck, parse_schema
from shared.definition_error import DefinitionError
from shared.messages import Event
from shared.topics import EVENTS

ONE = {"version": 1, "schema": {"required": ["amount"]}}
TWO = {"version": 2, "schema": {"required": ["amount", "currency"]}}


def event(data: dict[str, Any], **context: Any) -> Event:
    return Event(
        organisation="acme",
        event_id="e-1",
        event_type="order",
        time=1,
        received_at=2,
        user_id="u-1",
        context=context,
        properties=data,
    )


def spec(mode: str = "reject", *versions: dict[str, Any]) -> dict[str, Any]:
    return {"mode": mode, "versions": list(versions or (ONE,))}


def test_what_fits_is_handed_on_as_it_is() -> None:
    sent = event({"amount": 1})
    assert parse_schema("order", spec()).judge(sent) is sent


def test_a_warning_goes_with_the_event_and_is_stored() -> None:
    sent = event({}, appVersion="3")
    verdict = parse_schema("order", spec("warn")).judge(sent)

    assert isinstance(verdict, WarnedEvent)
    warning = 'event_data: "amount" is a required property (schema version 1)'
    assert verdict.context == {"appVersion": "3", "schemaWarning": warning}
    stored = EVENTS.decode(EVENTS.encode(verdict))
    assert (stored.event_id, stored.user_id, stored.context["schemaWarning"]) == ("e-1", "u-1", warning)
    assert sent.context == {"appVersion": "3"}


def test_what_is_quarantined_keeps_its_id_and_reason() -> None:
    verdict = parse_schema("order", spec("quarantine")).judge(event({}))
    assert isinstance(verdict, SetAside)
    assert (verdict.reason, verdict.status, verdict.event_id) == (Aside.SCHEMA_MISMATCH, Status.QUARANTINED, "e-1")


def test_what_is_rejected_is_invalid() -> None:
    verdict = parse_schema("order", spec("reject")).judge(event({}))
    assert isinstance(verdict, Rejected)
    assert (verdict.reason, verdict.event_id) == (Reason.SCHEMA_MISMATCH, "e-1")


@pytest.mark.parametrize("named", [1, "1"], ids=["number", "text"])
def test_an_event_is_judged_by_the_version_that_it_names(named: Any) -> None:
    schema = parse_schema("order", spec("reject", TWO, ONE))
    assert isinstance(schema.judge(event({"amount": 1}, schemaVersion=named)), Event)


def test_without_a_name_it_is_judged_by_the_newest() -> None:
    verdict = parse_schema("order", spec("reject", TWO, ONE)).judge(event({"amount": 1}))
    assert isinstance(verdict, Rejected)
    assert verdict.detail.endswith("(schema version 2)")


@pytest.mark.parametrize("named", [3, "v2", True, 1.0, [1], "9" * 5_000], ids=lambda named: str(named)[:8])
def test_a_version_that_is_not_there_is_a_mismatch(named: Any) -> None:
    verdict = parse_schema("order", spec("reject", ONE, TWO)).judge(
        event({"amount": 1, "currency": "EUR"}, schemaVersion=named)
    )
    assert isinstance(verdict, Rejected)
    assert verdict.detail == "context.schemaVersion names no version of the schema; there are 1, 2"


def test_other_event_types_take_any_data() -> None:
    check = SchemaCheck({"invoice": parse_schema("invoice", spec())})
    sent = event({})
    assert check(sent, 0) is sent


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        (None, "spec"),
        ({}, "spec.mode"),
        ({"mode": "drop", "versions": [ONE]}, "spec.mode"),
        ({"mode": ["warn"], "versions": [ONE]}, "spec.mode"),
        ({"mode": "warn"}, "spec.versions"),
        ({"mode": "warn", "versions": []}, "spec.versions"),
        ({"mode": "warn", "versions": "1"}, "spec.versions"),
        ({"mode": "warn", "versions": [ONE] * 51}, "spec.versions"),
        ({"mode": "warn", "versions": [ONE, ONE]}, "spec.versions[1].version"),
        ({"mode": "warn", "versions": [{"version": 0, "schema": {}}]}, "spec.versions[0].version"),
        ({"mode": "warn", "versions": [{"version": True, "schema": {}}]}, "spec.versions[0].version"),
        ({"mode": "warn", "versions": [{"schema": {}}]}, "spec.versions[0]"),
        ({"mode": "warn", "versions": [{"version": 1, "schema": True}]}, "spec.versions[0].schema"),
        ({"mode": "warn", "versions": [ONE], "description": 1}, "spec.description"),
        ({"mode": "warn", "versions": [ONE], "removed": True}, "spec.removed"),
        (
            {
                "mode": "warn",
                "versions": [{"version": n, "schema": {"enum": [0] * (MAX_PARTS - 10)}} for n in range(1, 6)],
            },
            "spec.versions[3]",
        ),
    ],
    ids=range(16),
)
def test_a_faulty_spec_is_refused_with_its_place(broken: Any, place: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        parse_schema("order", broken)
    assert refusal.value.place == place


@pytest.mark.parametrize("key", ["", " ", "x" * 201], ids=["empty", "blank", "long"])
def test_an_event_type_that_none_can_be_called_is_refused(key: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        parse_schema(key, spec())
    assert refusal.value.place == "key"
