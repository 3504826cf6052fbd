"""The kinds of telemetry: what `event_data` of each holds.

They are events like any other. Milestones and errors are told, each step of progress is not, unless asked for or
sampled. Durations are in milliseconds, of a monotonic clock. Fields that are not named here may be added freely, and
those that may be absent may also be null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

PIPELINES = ("csv_import", "batch_enrichment", "ai_scan")
"""Those of the reference application; any other name will do."""
ERROR_CODES = ("E_GEMINI_TIMEOUT", "E_CONNECTION_LOST", "E_ENRICHMENT_FAILED", "E_TOKEN_EXPIRED")
"""Likewise."""

_NAME = 100
Pipeline = Annotated[
    str,
    Meta(
        min_length=1, max_length=_NAME, description="What the job does; `unknown` if not known", examples=[*PIPELINES]
    ),
]
ErrorCode = Annotated[str, Meta(min_length=1, max_length=_NAME, examples=[*ERROR_CODES])]
Text = Annotated[str, Meta(max_length=2_000)]
Count = Annotated[int, Meta(ge=0)]
Bytes = Annotated[int, Meta(ge=0, description="Bytes")]
Milliseconds = Annotated[float, Meta(ge=0, description="Milliseconds")]


class Kind(msgspec.Struct, rename="camel", kw_only=True):
    """Base of all kinds."""


class Traffic(Kind, kw_only=True):
    """What went over a connection, or over those of a job, until now."""

    message_count: Annotated[int, Meta(ge=0, description="Messages sent to the client")] | None = None
    messages_received: Count | None = None
    messages_sent_bytes: Bytes | None = None
    average_message_size: Annotated[float, Meta(ge=0, description="Bytes a message sent")] | None = None
    throttled_messages: (
        Annotated[int, Meta(ge=0, description="Messages that a throttle held back or merged")] | None
    ) = None
    reconnect_count: Count | None = None


class Connected(Kind, kw_only=True):
    """A connection is open."""

    pipeline: Pipeline | None = None


class Reconnected(Kind, kw_only=True):
    """A client that had lost its connection is back; no `websocket_connected` goes with it."""

    pipeline: Pipeline | None = None
    reconnect_count: Annotated[int, Meta(ge=1, description="Which return of this client to its job it is")]


class Disconnected(Traffic, kw_only=True):
    """A connection has ended, with what went over it."""

    pipeline: Pipeline | None = None
    connection_duration: Milliseconds
    close_code: (
        Annotated[int, Meta(ge=1000, le=4999, description="The WebSocket close code; 1006: none came")] | None
    ) = None
    clean: (
        Annotated[bool, Meta(description="Whether an end was meant: short connections are a fault only otherwise")]
        | None
    ) = None


class Failed(Kind, kw_only=True):
    """A connection did not come about."""

    pipeline: Pipeline | None = None
    error: Text
    error_code: ErrorCode | None = None


class JobStarted(Kind, kw_only=True):
    """A job has begun."""

    pipeline: Pipeline
    total_count: Annotated[int, Meta(ge=0, description="Records to be processed")] | None = None


class _JobEnded(Traffic, kw_only=True):
    pipeline: Pipeline
    duration: Milliseconds
    success_count: Count | None = None
    failure_count: Count | None = None


class JobCompleted(_JobEnded, kw_only=True):
    """A job has come to its end, whatever became of single records."""


class JobFailed(_JobEnded, kw_only=True):
    """A job was given up."""

    error_code: ErrorCode | None = None


class JobProgress(Kind, kw_only=True):
    """How far a job is: only where asked for, or sampled."""

    pipeline: Pipeline
    processed_count: Count
    total_count: Count | None = None
    sample_rate: (
        Annotated[float, Meta(gt=0, le=1, description="Of how many such events this is one: 0.1 stands for ten")]
        | None
    ) = None


class Error(Kind, kw_only=True):
    """Something went wrong; every one is told."""

    pipeline: Pipeline
    error_code: ErrorCode
    provider: Annotated[str, Meta(max_length=_NAME, examples=["gemini"])] | None = None
    retryable: Annotated[bool, Meta(description="Absent: it is not")] | None = None


class Heartbeat(Kind, kw_only=True):
    """A ping has been answered."""

    pipeline: Pipeline
    rtt_ms: Annotated[
        float, Meta(ge=0, description="Milliseconds from the ping to its echo, both by the sender's own clock")
    ]


class Throttled(Kind, kw_only=True):
    """Messages were held back or merged."""

    pipeline: Pipeline
    throttled_messages: Annotated[int, Meta(ge=1, description="How many since the last such event; absent: 1")] = 1


KINDS: Mapping[str, type[Kind]] = {
    "websocket_connected": Connected,
    "websocket_reconnected": Reconnected,
    "websocket_disconnected": Disconnected,
    "websocket_failed": Failed,
    "websocket_job_started": JobStarted,
    "websocket_job_completed": JobCompleted,
    "websocket_job_failed": JobFailed,
    "websocket_job_progress": JobProgress,
    "websocket_error": Error,
    "websocket_heartbeat": Heartbeat,
    "websocket_throttled": Throttled,
}
"""Event type → what its `event_data` holds."""

OF_A_JOB = frozenset(
    {"websocket_job_started", "websocket_job_completed", "websocket_job_failed", "websocket_job_progress"}
)
"""These name the job they are of: an event without `job_id` is none of them."""
