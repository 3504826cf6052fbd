"""OFREP 0.3.0 on the wire: what a request's context must be, answers and errors."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from services.assignment.domain.decision import Reason
from services.assignment.domain.facts import Ids
from services.assignment.domain.switches import Off
from shared import strict_json
from shared.clock import to_iso

OFF = "off"
"""The variant of a flag that is off, and of an experiment that has none to give."""
MAX_ID_LENGTH = 200
MAX_BODY = 64 * 1024
_MAX_QUOTED = 200

TARGETING_KEY = "targetingKey"
_ID_NAMES = {
    "user": ("user_id", "userId"),
    "anonymous": ("anonymous_id", "anonymousId"),
    "session": ("session_id", "sessionId"),
    "job": ("job_id", "jobId", "importJobId", "migrationJobId"),
}
"""Attributes that hold an id, by kind; the first that is there counts."""


class EvaluationReason(Enum):
    """Why a value was given, in OpenFeature's words: its clients refuse others."""

    STATIC = "STATIC"
    SPLIT = "SPLIT"
    DISABLED = "DISABLED"


class ErrorCode(Enum):
    PARSE_ERROR = "PARSE_ERROR"
    INVALID_CONTEXT = "INVALID_CONTEXT"
    TARGETING_KEY_MISSING = "TARGETING_KEY_MISSING"
    FLAG_NOT_FOUND = "FLAG_NOT_FOUND"


class EvaluationError(Exception):
    """An answer without evaluation: 404 for an unknown flag, else 400, the one status whose code all clients read."""

    def __init__(self, code: ErrorCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details if len(details) <= _MAX_QUOTED else details[:_MAX_QUOTED] + "…"

    @property
    def status(self) -> int:
        return 404 if self.code is ErrorCode.FLAG_NOT_FOUND else 400

    def body(self, key: str) -> bytes:
        quoted = key[:_MAX_QUOTED]
        return msgspec.json.encode({"key": quoted, "errorCode": self.code.value, "errorDetails": self.details})


_decoder = msgspec.json.Decoder(dict[str, Any])
"""A struct would skip over fields that it does not know without looking whether they are JSON."""


def context_of(raw: bytes) -> dict[str, Any]:
    """The context of a request's body. Raises EvaluationError."""
    if len(raw) > MAX_BODY:
        raise EvaluationError(ErrorCode.INVALID_CONTEXT, f"a request may have at most {MAX_BODY} bytes")
    try:
        context = strict_json.decode(raw, _decoder).get("context")
    except strict_json.InvalidJsonError as error:
        malformed = error.violation is strict_json.Violation.MALFORMED
        code = ErrorCode.PARSE_ERROR if malformed else ErrorCode.INVALID_CONTEXT
        raise EvaluationError(code, str(error)) from None
    if context is None:
        return {}
    if not isinstance(context, dict):
        raise EvaluationError(ErrorCode.INVALID_CONTEXT, "context must be an object")
    return context


def unit_of(context: Mapping[str, Any]) -> str | None:
    """The targeting key, a whole number as decimal text; None if there is none. Raises EvaluationError."""
    return _id(context, TARGETING_KEY)


def ids_of(context: Mapping[str, Any], kind: str) -> Ids:
    """The ids in a context; the targeting key is the unit of this kind if no attribute of its own names it.

    Raises EvaluationError.
    """
    targeting_key = unit_of(context)
    found = {
        name: next((text for place in places if (text := _id(context, place)) is not None), None)
        for name, places in _ID_NAMES.items()
    }
    if found[kind] is None:
        found[kind] = targeting_key
    if found[kind] is None:
        raise EvaluationError(ErrorCode.TARGETING_KEY_MISSING, f"this experiment assigns by {kind}: send its id")
    return Ids(**found)


def _id(context: Mapping[str, Any], name: str) -> str | None:
    value = context.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str | int) or isinstance(value, bool) or len(text := str(value)) > MAX_ID_LENGTH:
        raise EvaluationError(
            ErrorCode.INVALID_CONTEXT, f"{name} must be a text of at most {MAX_ID_LENGTH} characters"
        )
    return text


def evaluation(
    key: str, value: Any, reason: EvaluationReason, variant: str, metadata: Mapping[str, bool | str | int]
) -> bytes:
    """A successful answer's body; without a `value` (None) the caller's default counts."""
    body: dict[str, Any] = {"key": key, "reason": reason.value, "variant": variant, "metadata": metadata}
    if value is not None:
        body["value"] = value
    return msgspec.json.encode(body)


def reason_of(reason: Reason) -> EvaluationReason:
    """An experiment's reason in OpenFeature's words."""
    if reason in (Reason.SPLIT, Reason.STICKY, Reason.STORE_UNREADABLE):
        return EvaluationReason.SPLIT
    return EvaluationReason.DISABLED


def switch_metadata(off: Off | None, *, probe: bool = False) -> dict[str, bool | str | int]:
    """What holds it off and since when, or that the unit is let through to probe."""
    if off is not None:
        return {"cause": off.cause, "off_since": to_iso(off.since)}
    return {"probe": True} if probe else {}
