"""The OpenAPI description of refusals, which are the same whatever a route does: RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
_ALWAYS = {
    "400": "The URL or the body cannot be read",
    "401": "No valid API key",
    "403": "The key may not do this",
    "503": "Something that this needs is away; ask again after `Retry-After` seconds",
}
_OF_A_BODY = {"413": "The body is too large", "422": "The body does not say what it has to; `reason` says why"}
_OF_PARAMETERS = {"422": "A parameter does not say what it has to; `detail` names it"}
_OF_A_NAME = {"404": "There is nothing of that name"}


def add_problems(schema: dict[str, Any]) -> None:
    """Completes operations whose refusals nobody has described by hand."""
    for path, operation in _operations(schema):
        answers: dict[str, Any] = operation["responses"]
        if any("application/problem+json" in answer.get("content", {}) for answer in answers.values()):
            continue
        known = {**_ALWAYS}
        known |= _OF_PARAMETERS if operation.get("parameters") else {}
        known |= _OF_A_BODY if "requestBody" in operation else {}
        known |= _OF_A_NAME if "{" in path else {}
        answers.pop("422", None)  # the framework's own form, which is never sent
        for status, text in known.items():
            answers.setdefault(status, {"description": text})
        for status, answer in answers.items():
            if status >= "400":
                answer["content"] = _CONTENT
    for unused in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(unused, None)


def _operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            yield path, operation
