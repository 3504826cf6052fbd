"""The presets for tickets, surveys, resources and predictions read what events of these kinds tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import deploy
from shared.clock import HOUR, to_iso
from tests.unit.aggregator.builders import NOW, event
from tests.unit.aggregator.test_metrics_guide import Values, did
from tests.unit.aggregator.test_metrics_guide import read as read_of
from tidegate.definitions import parse

PRESETS = Path(next(iter(deploy.__path__))) / "presets"
DOCUMENTS = [
    document
    for name in ("support", "resources", "predictions")
    for file in sorted((PRESETS / name).glob("*.yaml"))
    for document in parse(file.read_text("utf-8"), str(file))
]


def read(key: str, *told: Any) -> Values:
    return read_of(key, *told, documents=DOCUMENTS)


def ticket(
    id: str, *, created: int, updated: int, resolved: int | None = None, category: str = "import_issue"
) -> Any:
    """Hours before NOW."""
    said: dict[str, Any] = {
        "ticketId": id,
        "category": category,
        "priority": "high",
        "created_at": to_iso(NOW - created * HOUR),
        "updated_at": to_iso(NOW - updated * HOUR),
        "resolved_at": None if resolved is None else to_iso(NOW - resolved * HOUR),
    }
    return event(event_type="support_ticket", user_id="u", time=NOW, properties=said)


EXPORTS = [
    ticket("t1", created=50, updated=50),
    ticket("t2", created=40, updated=40, category="billing"),
    ticket("t1", created=50, updated=49, resolved=49),
    ticket("t2", created=40, updated=39),
    ticket("t3", created=30, updated=30, category="billing"),
]
"""What a help desk exports: t1 is resolved after an hour, t2 turns out to be about an import."""


def test_a_help_desks_exports_count_each_ticket_once_by_its_latest_state() -> None:
    for sent in (EXPORTS, [*EXPORTS, *EXPORTS], EXPORTS[::-1]):
        assert read("support_tickets", *sent) == {"count": 3}
        assert read("support_tickets_open", *sent) == {"count": 2}
        hours = read("import_ticket_resolution_hours", *sent)
        assert (hours["count"], hours["avg"], hours["share<=2"]) == (1, 1, 1)


def test_tickets_of_a_session_are_those_about_imports_that_were_created_within_a_day() -> None:
    sessions = [did("migration_session_started", -at * HOUR, session=f"s{at}") for at in (51, 41, 31)]
    found = read("import_ticket_rate", *sessions, *EXPORTS, *EXPORTS)
    assert (found["started"], found["matched:import_ticket"]) == (3, 2)
    assert found["with:import_ticket"] == 2


def test_answers_are_read_by_question() -> None:
    answers = [
        did("satisfaction_survey_completed", overall_rating=n, likelihood_to_recommend=n + 5) for n in (1, 4, 5)
    ]
    found = read("survey_answers", *answers)
    assert found["avg overall_rating"] == pytest.approx(10 / 3)
    assert found["nps likelihood_to_recommend"] == pytest.approx(100 / 3)
    assert read("surveys", *answers) == {"count": 3}


@pytest.mark.parametrize("resource", ["cpu", "memory", "storage"])
def test_utilization_is_averaged(resource: str) -> None:
    samples = [event(event_type="resource_sample", properties={resource: level}) for level in (0.5, 0.9)]
    found = read(f"{resource}_utilization", *samples)
    assert (found["count"], found["avg"], found["max"]) == (2, pytest.approx(0.7), 0.9)


def test_predictions_are_counted_and_their_confidence_averaged() -> None:
    told = [did("prediction", prediction_type="churn", model_id=10, confidence_score=score) for score in (0.89, 0.31)]
    assert read("predictions", *told, did("prediction", prediction_type="churn")) == {"count": 3}
    found = read("prediction_confidence", *told)
    assert (found["count"], found["avg"], found["share<0.5"]) == (2, pytest.approx(0.6), 0.5)
