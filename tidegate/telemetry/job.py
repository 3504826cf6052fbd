"""One background job, whose progress clients may watch over several connections."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Any
from uuid import uuid4

from tidegate.telemetry.connection import Connection
from tidegate.telemetry.context import ClientContext
from tidegate.telemetry.guard import harmless
from tidegate.telemetry.policy import Policy
from tidegate.telemetry.scope import MAX_NAME, Recorder, Subject, error_fields, milliseconds
from tidegate.telemetry.stats import Tally
from tidegate.telemetry.traffic import Traffic


class Job:
    """Made by `Telemetry.job`. To be used by one thread, or event loop, at a time.

    As a context manager it is started on entry, and at the end completed, or failed with the exception's name.
    """

    def __init__(self, recorder: Recorder, tally: Tally, policy: Policy, subject: Subject) -> None:
        self.tally = tally
        self.traffic = Traffic()
        """What went over all of its connections."""
        self._recorder = recorder
        self._policy = policy
        self._subject = subject
        self._began = recorder.monotonic()
        self._progress = 0.0
        self._over = False

    def __enter__(self) -> Job:
        self.started()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._over:
            return
        if kind is None:
            self.completed()
        else:
            self.failed(kind.__name__)

    def connection(self, *, connection_id: str | None = None, context: ClientContext | None = None) -> Connection:
        """Of a client that watches this job; what goes over it counts for the job too."""
        subject = replace(
            self._subject, session_id=connection_id or uuid4().hex, context=context or self._subject.context
        )
        return Connection(self._recorder, self.tally, self._policy, subject, self.traffic)

    @harmless
    def started(self, total_count: int | None = None) -> None:
        self._began = self._recorder.monotonic()
        self._tell("websocket_job_started", {} if total_count is None else {"totalCount": total_count})

    @harmless
    def progress(self, processed_count: int, total_count: int | None = None) -> None:
        """Told only as far as the policy's `progress` allows."""
        self._progress += self._policy.progress
        if self._progress < 1:
            return
        self._progress -= 1
        fields: dict[str, Any] = {"processedCount": processed_count, "sampleRate": self._policy.progress}
        self._tell("websocket_job_progress", fields if total_count is None else {**fields, "totalCount": total_count})

    @harmless
    def completed(self, success_count: int | None = None, failure_count: int | None = None) -> None:
        self._over = True
        self._tell("websocket_job_completed", self._ended(success_count, failure_count))

    @harmless
    def failed(
        self, code: str | None = None, success_count: int | None = None, failure_count: int | None = None
    ) -> None:
        self._over = True
        fields = self._ended(success_count, failure_count)
        self._tell("websocket_job_failed", fields if code is None else {**fields, "errorCode": code[:MAX_NAME]})

    @harmless
    def error(self, code: str, *, provider: str | None = None, retryable: bool = False) -> None:
        self._tell("websocket_error", error_fields(self._subject.pipeline, code, provider, retryable))

    def _ended(self, success_count: int | None, failure_count: int | None) -> dict[str, Any]:
        counts = {"successCount": success_count, "failureCount": failure_count}
        return {
            "duration": milliseconds(self._recorder.monotonic() - self._began),
            **{name: count for name, count in counts.items() if count is not None},
            **self.traffic.fields(),
        }

    def _tell(self, event_type: str, fields: dict[str, Any]) -> None:
        self._recorder.note(event_type, {"pipeline": self._subject.pipeline, **fields}, self._subject)
