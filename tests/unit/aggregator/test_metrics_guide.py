"""The guide to metrics: every definition in it is one, and what it says of units over time is so."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.aggregator.domain.fold import fold
from services.aggregator.domain.kinds.kind import LED, Cell, Part
from services.aggregator.domain.kinds.streak import Streak
from services.aggregator.domain.metrics import KINDS, parse_definition
from services.aggregator.domain.operations import COALESCE, FUNCTIONS, IF
from services.aggregator.domain.states import merged
from shared.clock import DAY, HOUR, MINUTE, SECOND
from tests.unit.aggregator.builders import NOW, definition, distinct, event, judged, plan_of
from tests.unit.aggregator.unit_table import UnitTable
from tidegate.definitions import Document, parse

GUIDE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
DOCUMENTS = [
    document
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL), start=1)
    for document in parse(text, f"example {number}")
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.key)
def test_every_example_is_a_definition(document: Document) -> None:
    assert parse_definition("acme", document.key, 1, document.spec).kind.type == document.spec["type"]


def test_the_guide_names_every_type_and_function() -> None:
    headings = " ".join(re.findall(r"^### (.*)$", GUIDE, re.MULTILINE)).split()
    assert set(headings) >= set(KINDS)
    assert all(f"`{name}" in GUIDE or f" `{name}(" in GUIDE for name in (*FUNCTIONS, IF, COALESCE))


Values = dict[str, Any]


def read(key: str, *told: Any, later: int = 0, documents: Sequence[Document] = DOCUMENTS) -> Values:
    """What the guide's metric reads once a clock has passed NOW + `later`: aggregation, and part → value.

    Of all windows and groups together. `documents` are the guide's, or others.
    """
    (document,) = [d for d in documents if d.key == key]
    metric = definition(**document.spec)
    deltas = fold(*judged(distinct(told)), plan_of(metric))
    assert not any(c.invalid for c in deltas.counters.values())
    assert not isinstance(metric.kind, Streak)
    cells: dict[Part, Cell] = {}
    for delta in (*deltas.windows, *UnitTable().tell(deltas, NOW + later)[0]):
        name = json.loads(delta.group)[0] if delta.series.component in LED else ""
        cell = cells.setdefault((delta.series.component, name), Cell())
        cell.add(delta.n, delta.sum, delta.sum_squares, delta.min, delta.max, b"")
        cell.state = merged(cell.state, delta.state)
    readings = metric.kind.read(cells, metric.kind.aggregations)
    return {r.aggregation if r.part is None else f"{r.aggregation} {r.part}": r.value for r in readings}


def did(kind: str, at: int = 0, *, user: str = "u", session: str = "s", job: str = "j", **properties: Any) -> Any:
    ids = {"user_id": user, "session_id": session, "job_id": job}
    return event(event_type=kind, time=NOW + at, received_at=NOW + at, properties=properties, **ids)


def away(at: int, action: str = "navigate_away", **ids: str) -> Any:
    return did("background_import_engagement", at, userAction=action, **ids)


@pytest.mark.parametrize(
    ("told", "later", "outcome"),
    [
        ([did("data_import_completed", DAY)], HOUR, "completed"),
        ([did("data_import_completed", -1)], HOUR, "completed"),
        ([away(1), did("import_cancelled", 2)], 0, "abandoned_after_navigation"),
        ([away(1)], 30 * MINUTE, "abandoned_after_navigation"),
        ([did("realtime_import_started", 20 * MINUTE)], 30 * MINUTE, "abandoned_timeout"),
        ([away(1)], 29 * MINUTE, "in_progress"),
    ],
)
def test_a_journey_ends_as_the_guide_says(told: list[Any], later: int, outcome: str) -> None:
    found = read("imports", did("background_import_started"), *told, later=later)
    names = ("completed", "abandoned_after_navigation", "abandoned_timeout", "in_progress")
    assert {name: found[name] for name in names if found[name]} == {outcome: 1}
    assert found["started"] == 1


def test_a_return_is_timed_from_completion_on() -> None:
    came = [away(at * SECOND, "check_status") for at in (1, 7)]
    found = read("imports", did("background_import_started"), did("data_import_completed", 2 * SECOND), *came)
    assert (found["reached:checked"], found["avg:return_time"], found["avg_duration"]) == (1, 5_000, 2_000)


STAGES = (
    "migration_session_started",
    "file_upload_completed",
    "ai_analysis_completed",
    "field_mapping_review_completed",
    "data_import_completed",
)


def test_a_funnel_is_of_stages_in_order_and_explains_who_stayed_behind() -> None:
    told = [
        *(did(stage, 5 * i, session="all") for i, stage in enumerate(STAGES)),
        *(did(stage, 0, session="at once") for stage in reversed(STAGES)),
        did(STAGES[0], session="early"),
        did(STAGES[1], -1, session="early"),
        did(STAGES[0], session="late"),
        did(STAGES[1], DAY + 1, session="late"),
        did(STAGES[0], session="failed"),
        did("import_error", 1, session="failed", errorCode="before"),
        did(STAGES[1], DAY, session="failed"),
        did("import_error", DAY, session="failed", errorCode="size"),
        did("import_error", DAY, session="failed"),
    ]
    found = read("import_funnel", *told[:-1])
    assert [found[f"reached:{name}"] for name in ("started", "uploaded", "analyzed", "completed")] == [5, 3, 2, 2]
    assert (found["conversion:uploaded"], found["overall_conversion"], found["dropped:started"]) == (0.6, 0.4, 2)
    assert {name: n for name, n in found.items() if name.startswith("drop_off")} == {"drop_off uploaded|size": 1}
    assert "drop_off started|" in read("import_funnel", did(STAGES[0]), did("import_error", 1))


def test_a_ticket_counts_once_and_every_session_before_it_is_with_it() -> None:
    ticket = {"category": "import_issue", "ticketId": "t1"}
    told = [
        did("migration_session_started", 0, session="a"),
        did("migration_session_started", HOUR, session="b"),
        did("migration_session_started", 3 * HOUR, session="c"),
        did("migration_session_started", 0, session="d", user="another"),
        did("support_ticket_created", 2 * HOUR, session="e", **ticket),
        did("support_ticket_created", 2 * HOUR + 1, session="e", **ticket),
        did("support_ticket_created", 2 * HOUR, session="e", category="billing", ticketId="t2"),
    ]
    found = read("import_sessions", *told)
    assert (found["with_rate:import_ticket"], found["matched_rate:import_ticket"]) == (0.5, 0.25)


def test_each_import_is_activated_by_itself() -> None:
    told = [did("data_import_completed", at, job=f"j{at}", finalStatus="success") for at in (0, 3)]
    told += [did("pageview", at) for at in range(1, 6)]
    told.append(did("data_import_completed", 0, user="idle", job="idle", finalStatus="success"))
    found = read("activation", *told)
    assert (found["imported"], found["with:active"], found["with:engaged"]) == (3, 2, 1)


def test_value_is_of_those_whose_import_succeeded() -> None:
    told = [did("migration_session_started", user=u) for u in ("a", "b", "c")]
    told += [did("data_import_completed", HOUR, user=u, finalStatus="success") for u in ("a", "b")]
    told += [did("first_client_interaction", at, user="a") for at in (MINUTE, 2 * HOUR)]
    found = read("time_to_value", *told)
    assert (found["within_rate:reached_value"], found["avg:to_value"]) == (0.5, HOUR / 1_000)


def test_only_first_attempts_are_first_attempts() -> None:
    ends = [("a", "j1", "failed"), ("a", "j2", "success"), ("b", "j3", "success")]
    told = [did("data_import_started", i, user=u, job=j) for i, (u, j, _) in enumerate(ends)]
    told += [did("data_import_completed", 9, user=u, job=j, finalStatus=s) for u, j, s in ends]
    found = read("first_attempts", *told)
    assert (found["first_attempt_success"], found["share:failed"]) == (0.5, pytest.approx(1 / 3))


def test_a_notification_is_opened_once_however_often_it_is_opened() -> None:
    def noted(number: int, *actions: str) -> list[Any]:
        kind = "import_notification_interaction"
        made = [
            did(kind, i, action=a, notificationId=number, notificationType="email") for i, a in enumerate(actions)
        ]
        return [*made, did("another", 1, action="opened", notificationId=number)]

    told = [*noted(1, "received", "opened", "opened", "clicked_view_results"), *noted(2, "received")]
    found = read("notifications", *told)
    assert (found["count"], found["conversion:opened"], found["conversion:clicked"]) == (2, 0.5, 1)
    assert read("click_through_rate", *told) == {"avg": 0.5}


def test_connections_are_summed_up_by_what_they_said_when_they_ended() -> None:
    ends = [
        did("websocket_disconnected", reconnectCount=2, connectionDuration=500, throttledMessages=1, messageCount=3),
        did(
            "websocket_disconnected", reconnectCount=0, connectionDuration=1_500, throttledMessages=0, messageCount=6
        ),
    ]
    assert read("throttle_rate", *ends) == {"avg": 0.1}
    assert read("reconnects_per_connection", *ends) == {"avg": 1, "max": 2}
    assert read("connection_seconds", *ends)["avg"] == 1
    begun = [did(kind) for kind in (*["websocket_connected"] * 3, "websocket_failed")]
    assert read("connection_success", *begun) == {"avg": 0.75}
    errors = read("errors_by_code", did("websocket_error", errorCode="E_GEMINI_TIMEOUT", provider="gemini"))
    assert errors["share E_GEMINI_TIMEOUT"] == 1


def test_a_score_weighs_events_and_a_bounce_is_a_session_without_any() -> None:
    told = [*(did(kind) for kind in ("impression", "click", "conversion", "error")), did("impression", session="t")]
    assert read("performance_score", *told) == {"sum": 6}
    assert read("visitors", *told)["unique"] == 1
    assert read("bounces", *told, later=HOUR)["share:bounced"] == 0.5
