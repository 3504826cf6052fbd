"""The analytics events of the import product: S0's and S1's names and fields."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from examples.imports.domain.behaviour import Survey

EXPERIMENT_NAME = "import_processing_mode"
"""What the product calls the experiment, in every run; the key is fresh for each run."""

COMPLETED = "data_import_completed"
STARTED = "migration_session_started"
IMPORT_STARTED = "import_processing_experiment_assigned"
"""The one event of both variants that S0 sends when an import starts; its abandonment query begins there, too."""
FAILED = "failed"
"""The `finalStatus` of an import of which nothing stayed."""


@dataclass(frozen=True, slots=True)
class AppEvent:
    """One event as a client holds it. `time` in µs since the epoch; `data` becomes the event's properties."""

    event_id: str
    event_type: str
    time: int
    user_id: str
    session_id: str
    job_id: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """How an import ended. Durations in milliseconds."""

    final_status: str
    """`success`, `partial_success` or `failed`."""
    records_processed: int
    records_successful: int
    records_failed: int
    total_ms: float
    error_categories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """How long the stages of one session took, in milliseconds."""

    upload_ms: float
    review_ms: float
    session_ms: float


class Session:
    """Builds the events of one user's session, with ids that no other session or run uses."""

    def __init__(self, experiment_key: str, user: str) -> None:
        self.experiment_key = experiment_key
        self.user_id = user
        self.session_id = f"session_{user}"
        self.job_id = f"job_{user}"
        self._count = 0

    def event(self, event_type: str, time: int, data: Mapping[str, Any], *, of_job: bool = False) -> AppEvent:
        """Any event of this session; `of_job` ties it to the session's import job."""
        self._count += 1
        return AppEvent(
            event_id=f"{self.user_id}_{self._count}",
            event_type=event_type,
            time=time,
            user_id=self.user_id,
            session_id=self.session_id,
            job_id=self.job_id if of_job else None,
            data={"experimentKey": self.experiment_key, "sessionId": self.session_id, **data},
        )

    def session_started(self, time: int) -> AppEvent:
        return self.event(STARTED, time, {"userId": self.user_id, "entryPoint": "onboarding"})

    def upload_completed(self, time: int, *, upload_ms: float, size: int, name: str) -> AppEvent:
        data = {"uploadDuration": round(upload_ms, 3), "totalFileSize": size, "fileCount": 1, "fileName": name}
        return self.event("file_upload_completed", time, data)

    def analysis_completed(self, time: int, *, total_ms: float, records: int, entity: str) -> AppEvent:
        data = {"totalDuration": round(total_ms, 3), "estimatedRecords": records, "entityType": entity}
        return self.event("ai_analysis_completed", time, data)

    def review_completed(self, time: int, *, review_ms: float, mapped: int, unmapped: Sequence[str]) -> AppEvent:
        data = {"reviewDuration": round(review_ms, 3), "fieldsMapped": mapped, "fieldsUnmapped": list(unmapped)}
        return self.event("field_mapping_review_completed", time, data)

    def diverted(self, time: int, *, flag: str, cause: str | None) -> AppEvent:
        """Imports are switched off: the user sees S1's maintenance page instead."""
        data = {"userId": self.user_id, "flag": flag, "cause": cause, "page": "/maintenance"}
        return self.event("import_diverted", time, data)

    def assigned(self, time: int, *, variant: str, estimated_ms: int) -> AppEvent:
        """The user has a variant and the import starts: the first event of the job, in both variants."""
        data = {
            "userId": self.user_id,
            "importJobId": self.job_id,
            "variant": variant,
            "estimatedDurationMs": estimated_ms,
            "experimentName": EXPERIMENT_NAME,
        }
        return self.event(IMPORT_STARTED, time, data, of_job=True)

    def background_started(self, time: int, *, estimated_ms: int) -> AppEvent:
        data = {
            "importJobId": self.job_id,
            "variant": "background",
            "estimatedDurationMinutes": math.ceil(estimated_ms / 60_000),
            "userNavigatedAway": False,
        }
        return self.event("background_import_started", time, data, of_job=True)

    def engagement(self, time: int, *, action: str, from_start_ms: float) -> AppEvent:
        data = {
            "importJobId": self.job_id,
            "userAction": action,
            "timeFromStart": round(from_start_ms, 3),
            "variant": "background",
        }
        return self.event("background_import_engagement", time, data, of_job=True)

    def cancelled(self, time: int) -> AppEvent:
        """The user took the background job back before it was done."""
        data = {"importJobId": self.job_id, "variant": "background"}
        return self.event("background_import_cancelled", time, data, of_job=True)

    def notification(self, time: int, *, kind: str, action: str) -> AppEvent:
        data = {"notificationType": kind, "action": action, "importJobId": self.job_id, "variant": "background"}
        return self.event("import_notification_interaction", time, data, of_job=True)

    def progress(self, time: int, *, percentage: int, stage: str, variant: str) -> AppEvent:
        data = {"jobId": self.job_id, "progressPercentage": percentage, "currentStage": stage, "variant": variant}
        return self.event("import_progress_update", time, data, of_job=True)

    def fallback(self, time: int, *, reason: str) -> AppEvent:
        data = {"originalVariant": "background", "fallbackReason": reason, "jobId": self.job_id}
        return self.event("import_fallback_triggered", time, data, of_job=True)

    def completed(self, time: int, outcome: ImportOutcome, times: SessionTimes, *, variant: str) -> AppEvent:
        data = {
            "migrationJobId": self.job_id,
            "variant": variant,
            "finalStatus": outcome.final_status,
            "recordsProcessed": outcome.records_processed,
            "recordsSuccessful": outcome.records_successful,
            "recordsFailed": outcome.records_failed,
            "totalDuration": round(outcome.total_ms, 3),
            "totalSessionDuration": round(times.session_ms, 3),
            "uploadDuration": round(times.upload_ms, 3),
            "reviewDuration": round(times.review_ms, 3),
            "errorCategories": list(outcome.error_categories),
        }
        return self.event(COMPLETED, time, data, of_job=True)

    def survey(self, time: int, answers: Survey, *, variant: str) -> AppEvent:
        data = {**asdict(answers), "trigger": "import_completion", "variant": variant}
        return self.event("satisfaction_survey_completed", time, data)

    def pageview(self, time: int, path: str) -> AppEvent:
        return self.event("pageview", time, {"path": path})

    def first_client_interaction(self, time: int) -> AppEvent:
        return self.event("first_client_interaction", time, {"userId": self.user_id})

    def help_viewed(self, time: int) -> AppEvent:
        return self.event("import_help_viewed", time, {"topic": "file_formats"})
