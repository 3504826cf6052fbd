"""Names and fields of the analytics events, word for word as the product documents them."""

from __future__ import annotations

import pytest

from examples.imports.domain.behaviour import Survey
from examples.imports.domain.events import IMPORT_STARTED, AppEvent, ImportOutcome, Session, SessionTimes

_OUTCOME = ImportOutcome("partial_success", 100, 90, 10, 1234.5678, ("invalid_number",))
_TIMES = SessionTimes(upload_ms=10, review_ms=20, session_ms=3000)


def _all(session: Session) -> list[AppEvent]:
    return [
        session.session_started(1),
        session.upload_completed(2, upload_ms=12.5, size=1000, name="a.csv"),
        session.analysis_completed(3, total_ms=5, records=100, entity="planes"),
        session.review_completed(4, review_ms=6, mapped=9, unmapped=("note",)),
        session.assigned(5, variant="background", estimated_ms=61_000),
        session.background_started(6, estimated_ms=61_000),
        session.engagement(7, action="navigate_away", from_start_ms=1),
        session.notification(8, kind="email", action="opened"),
        session.progress(9, percentage=25, stage="importing", variant="background"),
        session.fallback(10, reason="refused"),
        session.completed(11, _OUTCOME, _TIMES, variant="realtime"),
        session.survey(12, Survey(5, 4, 3, 4, 9), variant="realtime"),
        session.pageview(13, "/dashboard"),
        session.first_client_interaction(14),
        session.help_viewed(15),
        session.diverted(16, flag="data_import_enabled", cause="breaker:data_import"),
        session.cancelled(17),
    ]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("migration_session_started", {"sessionId", "userId"}),
        ("file_upload_completed", {"sessionId", "uploadDuration"}),
        ("ai_analysis_completed", {"sessionId", "totalDuration"}),
        ("field_mapping_review_completed", {"sessionId", "reviewDuration"}),
        (
            "import_processing_experiment_assigned",
            {"userId", "variant", "estimatedDurationMs", "experimentName"},
        ),
        (
            "background_import_started",
            {"sessionId", "importJobId", "variant", "estimatedDurationMinutes", "userNavigatedAway"},
        ),
        ("background_import_engagement", {"sessionId", "importJobId", "userAction", "timeFromStart", "variant"}),
        ("import_notification_interaction", {"notificationType", "action", "importJobId", "variant"}),
        ("import_progress_update", {"jobId", "progressPercentage", "currentStage", "variant"}),
        ("import_fallback_triggered", {"originalVariant", "fallbackReason", "jobId"}),
        (
            "data_import_completed",
            {
                "sessionId",
                "migrationJobId",
                "finalStatus",
                "recordsProcessed",
                "recordsSuccessful",
                "recordsFailed",
                "totalDuration",
                "totalSessionDuration",
                "uploadDuration",
                "errorCategories",
            },
        ),
        (
            "satisfaction_survey_completed",
            {"overall_rating", "ease_of_use", "speed_rating", "reliability", "likelihood_to_recommend"},
        ),
    ],
)
def test_each_event_has_its_documented_fields(name: str, fields: set[str]) -> None:
    (event,) = (e for e in _all(Session("key", "u")) if e.event_type == name)
    assert fields <= event.data.keys()


def test_every_event_names_the_run_and_its_user_and_has_an_id_of_its_own() -> None:
    events = _all(Session("key", "u1")) + _all(Session("key", "u2"))
    assert all(event.data["experimentKey"] == "key" for event in events)
    assert len({event.event_id for event in events}) == len(events)
    assert {event.user_id for event in events} == {"u1", "u2"}


def test_events_of_the_job_carry_its_id_beside_the_product_s_own_field() -> None:
    session = Session("key", "u")
    completed = session.completed(1, _OUTCOME, _TIMES, variant="realtime")
    assert completed.job_id == completed.data["migrationJobId"] == session.job_id
    assert session.session_started(1).job_id is None


def test_the_job_of_both_variants_begins_with_one_and_the_same_event() -> None:
    session = Session("key", "u")
    for variant in ("realtime", "background"):
        event = session.assigned(1, variant=variant, estimated_ms=1)
        assert (event.event_type, event.job_id, event.data["variant"]) == (IMPORT_STARTED, session.job_id, variant)


def test_a_diverted_user_has_no_job_yet() -> None:
    event = Session("key", "u").diverted(1, flag="f", cause=None)
    assert (event.event_type, event.job_id, event.data["page"]) == ("import_diverted", None, "/maintenance")


def test_the_estimate_in_minutes_is_rounded_up() -> None:
    started = Session("key", "u").background_started(1, estimated_ms=60_001)
    assert started.data["estimatedDurationMinutes"] == 2
