"""Events that say that they are of a known kind are judged by its schema, everybody's own events are not.

The published schemas say the same as the check.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # its stubs are another package

from services.ingest.domain.kinds.catalogue import DEMANDS, FAMILIES, TELEMETRY
from services.ingest.domain.kinds.family import Family
from services.ingest.domain.kinds.schema import as_text, schema_of
from services.ingest.domain.normalise import Reason, Rejected
from services.ingest.domain.prediction_body import read_prediction
from shared.messages import Event
from tests.unit.ingest.test_telemetry_kinds import judged

DOCS = Path(__file__).parents[3] / "docs"
FAMILY_OF = {event_type: family for family in FAMILIES for event_type in family.kinds}
TICKET = {"ticketId": "t-1", "category": "import_issue"}
PREDICTED = {"prediction_type": "churn", "input_data": {"customer_id": 123}, "prediction_result": {"risk": "high"}}
EXPERIMENT = {"experiment_id": 1, "variant_id": "treatment"}

VALID: list[tuple[str, dict[str, Any]]] = [
    ("impression", {**EXPERIMENT, "metadata": {"page": "/"}}),
    ("click", {"experiment_id": "checkout"}),
    ("engagement", {**EXPERIMENT, "engagement_time": 1_500}),
    ("error", {**EXPERIMENT, "error_code": "E_1", "error_message": "no"}),
    ("custom", {**EXPERIMENT, "custom_type": "scrolled"}),
    *(
        ("conversion", {"conversion_type": name, "value": 1})
        for name in ("Purchase", "SignUp", "Download", "Share", "Engagement")
    ),
    ("conversion", {"conversion_type": "Custom", "custom_type": "lead", "value": 0.5, "conversion_id": 7}),
    ("conversion", {"conversion_type": "Purchase", "value": -9.99, "attribution": {"source": "mail"}, **EXPERIMENT}),
    ("prediction", PREDICTED),
    ("prediction", {**PREDICTED, "model_id": 10, "confidence_score": 1}),
    ("prediction", {**PREDICTED, "model_id": "m", "confidence_score": 0.0}),
    ("support_ticket", TICKET),
    ("support_ticket", {"ticketId": 7, "category": "x", "priority": None, "resolved_at": None}),
    (
        "support_ticket_created",
        {**TICKET, "created_at": "2026-03-02T12:00:00Z", "priority": "high", "status": "open"},
    ),
    (
        "support_ticket_resolved",
        {**TICKET, "created_at": "2026-03-02T12:00:00Z", "resolved_at": "2026-03-02T13:00:00+01:00"},
    ),
    (
        "satisfaction_survey_completed",
        {
            "overall_rating": 5,
            "ease_of_use": 1,
            "speed_rating": 4.0,
            "reliability": None,
            "likelihood_to_recommend": 0,
        },
    ),
    ("resource_sample", {"cpu": 0, "memory": 0.7, "storage": 1, "host": "a"}),
]

INVALID: list[tuple[str, dict[str, Any], str]] = [
    ("impression", {"experiment_id": {}}, "experiment_id"),
    ("click", {**EXPERIMENT, "metadata": []}, "metadata"),
    ("engagement", {**EXPERIMENT, "engagement_time": -1}, "engagement_time"),
    ("error", {**EXPERIMENT, "error_code": ""}, "error_code"),
    ("custom", EXPERIMENT, "custom_type"),
    ("conversion", {"conversion_type": "purchase", "value": 1}, "one of Purchase, SignUp, Download, Share"),
    ("conversion", {"conversion_type": "Purchase"}, "value"),
    ("conversion", {"conversion_type": "Purchase", "value": "9.99"}, "value"),
    ("conversion", {"conversion_type": "Purchase", "value": True}, "value"),
    ("conversion", {"conversion_type": "Custom", "value": 1}, "custom_type"),
    ("conversion", {"conversion_type": "Custom", "value": 1, "custom_type": None}, "custom_type"),
    ("conversion", {"conversion_type": "Share", "value": 1, "attribution": "mail"}, "attribution"),
    ("prediction", {"prediction_type": "churn"}, "input_data"),
    ("prediction", {**PREDICTED, "prediction_type": ""}, "prediction_type"),
    ("prediction", {**PREDICTED, "prediction_result": 0.7}, "prediction_result"),
    ("prediction", {**PREDICTED, "confidence_score": 1.01}, "confidence_score"),
    ("prediction", {**PREDICTED, "model_id": 1.5}, "model_id"),
    ("support_ticket", {"category": "x"}, "ticketId"),
    ("support_ticket", {}, "ticketId"),
    ("support_ticket", {"ticketId": "", "category": "x"}, "ticketId"),
    ("support_ticket_created", {"ticketId": 1}, "category"),
    ("support_ticket_created", {**TICKET, "created_at": 1_729_593_000}, "created_at"),
    ("support_ticket_resolved", {**TICKET, "created_at": "2026-03-02T12:00:00Z"}, "resolved_at"),
    ("satisfaction_survey_completed", {"overall_rating": 6}, "overall_rating"),
    ("satisfaction_survey_completed", {"overall_rating": 4.5}, "overall_rating"),
    (
        "satisfaction_survey_completed",
        {"overall_rating": 4, "likelihood_to_recommend": 11},
        "likelihood_to_recommend",
    ),
    ("resource_sample", {"cpu": 70}, "cpu"),
    ("resource_sample", {"memory": -0.1}, "memory"),
]

OWN: list[tuple[str, dict[str, Any]]] = [
    ("click", {"button": "save", "variant_id": {}}),
    ("error", {"error_code": 5, "metadata": []}),
    ("custom", {}),
    ("conversion", {"value": "much", "attribution": 5}),
    ("prediction", {"confidence_score": 70, "weather": "rain"}),
    ("support_ticket_created", {"id": 5, "category": None}),
    ("satisfaction_survey_completed", {"score": 100}),
    ("resource_sample", {"disk": "full"}),
]


def told(event_type: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"event_type": event_type, "user_id": "u-1", "event_data": data}


def valid_by_schema(event: dict[str, Any]) -> bool:
    return bool(Draft202012Validator(schema_of(FAMILY_OF[event["event_type"]])).is_valid(event))


def test_every_kind_beside_telemetry_has_an_example_here() -> None:
    telemetry, *others = FAMILIES
    kinds = {event_type for family in others for event_type in family.kinds}
    assert {event_type for event_type, _ in VALID} == kinds == set(DEMANDS) - set(telemetry.kinds)


@pytest.mark.parametrize(("event_type", "data"), VALID, ids=str)
def test_a_valid_one_is_an_event_that_holds_what_was_sent(event_type: str, data: dict[str, Any]) -> None:
    event = told(event_type, {**data, "of_our_own": ["x"]})
    found = judged(event)
    assert isinstance(found, Event), found
    assert found.properties == event["event_data"]
    assert valid_by_schema(event)


@pytest.mark.parametrize(("event_type", "data", "named"), INVALID, ids=str)
def test_a_violation_names_kind_and_field(event_type: str, data: dict[str, Any], named: str) -> None:
    event = told(event_type, data)
    found = judged(event)
    assert isinstance(found, Rejected)
    assert (found.reason, found.event_id) == (Reason.SCHEMA, "e-1")
    assert found.detail.startswith(f"{event_type}: ")
    assert named in found.detail
    assert not valid_by_schema(event)


@pytest.mark.parametrize(("event_type", "data"), OWN, ids=str)
def test_an_event_without_a_kinds_mark_is_somebodys_own(event_type: str, data: dict[str, Any]) -> None:
    event = told(event_type, data)
    assert isinstance(judged(event), Event)
    assert valid_by_schema(event)


@pytest.mark.parametrize(
    ("event_type", "data"),
    [("click", EXPERIMENT), ("conversion", {"conversion_type": "Purchase", "value": 1})],
    ids=["click", "conversion"],
)
def test_what_happens_in_an_experiment_happens_to_somebody(event_type: str, data: dict[str, Any]) -> None:
    nobodys = {"event_type": event_type, "event_data": data}
    found = judged(nobodys)
    assert isinstance(found, Rejected)
    assert "user_id" in found.detail
    assert not valid_by_schema(nobodys)
    for id in ("user_id", "anonymous_id", "session_id", "job_id"):
        assert isinstance(judged({**nobodys, id: "x"}), Event)
        assert valid_by_schema({**nobodys, id: "x"})


def test_a_violation_does_not_say_what_was_sent() -> None:
    found = judged(told("conversion", {"conversion_type": "secret", "value": 1}))
    assert isinstance(found, Rejected)
    assert "secret" not in found.detail


def test_what_the_guide_sends_is_accepted() -> None:
    guide = (DOCS / "events.md").read_text("utf-8")
    sent = [msgspec.json.decode(body) for body in re.findall(r"^send '(.*?)'$", guide, re.DOTALL | re.MULTILINE)]
    assert len(sent) >= 6
    for event in sent:
        assert DEMANDS[event["event_type"]].applies_to(event["event_data"])
        assert isinstance(judged(event), Event)
    (prediction,) = re.findall(r"/predictions\" -d '(.*?)'$", guide, re.DOTALL | re.MULTILINE)
    assert not isinstance(read_prediction(prediction.encode()), Rejected)
    assert set(DEMANDS) - set(TELEMETRY.kinds) <= set(re.findall(r"`(\w+)`", guide))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_published_schemas_are_valid_and_current(family: Family) -> None:
    Draft202012Validator.check_schema(schema_of(family))
    file = f"{family.name}.schema.json"
    current = (DOCS / file).read_text("utf-8") == as_text(family)
    assert current, f"run `python -m services.ingest.domain.kinds.schema {family.name} > docs/{file}`"
