"""POST /ofrep/v1/evaluate/flags/{key} as bare ASGI, so that a client pays as little as possible for each flag."""

from __future__ import annotations

from typing import Any

from services.assignment.evaluator import Evaluator
from services.assignment.ofrep import EvaluationError
from shared.http import KEY_SECURITY, AsgiApp, AsgiScope, Problem, Receive, Send, read_body, send_response

EVALUATE = "/ofrep/v1/evaluate/flags/"


def with_evaluate(evaluator: Evaluator, others: AsgiApp) -> AsgiApp:
    """Answers single-flag evaluation itself and leaves every other request to `others`."""

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(EVALUATE):
            await others(scope, receive, send)
            return
        if scope["method"] != "POST":
            raise Problem(405, "method_not_allowed", "POST a body here", headers={"Allow": "POST"})
        # Clients send the key as it is, without encoding it: whatever follows the prefix is the key.
        key = scope["path"][len(EVALUATE) :]
        raw = await read_body(receive)
        try:
            body = await evaluator.evaluate(scope["principal"].organisation, key, raw)
        except EvaluationError as error:
            await send_response(send, error.status, error.body(key))
        else:
            await send_response(send, 200, body)

    return app


def openapi_path() -> dict[str, Any]:
    """The path item that describes the endpoint to OpenAPI."""
    refused = {"application/json": {"example": _REFUSED}}
    operation = {
        "tags": ["flags"],
        "summary": "Evaluate flag (OFREP)",
        "security": KEY_SECURITY,
        "description": (
            "A plain flag's value, or an experiment's variant for the unit that `targetingKey` names (or one of the "
            "context's user_id, session_id, job_id). The first answer of an experiment's unit records its exposure."
        ),
        "parameters": [{"name": "key", "in": "path", "required": True, "schema": {"type": "string"}}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _REQUEST}}},
        "responses": {
            "200": {
                "description": "without `value` the caller's own default counts",
                "content": {"application/json": {"examples": {name: {"value": e} for name, e in _EXAMPLES.items()}}},
            },
            "400": {"description": "PARSE_ERROR, INVALID_CONTEXT or TARGETING_KEY_MISSING", "content": refused},
            "404": {"description": "FLAG_NOT_FOUND", "content": refused},
        },
    }
    return {"post": operation}


_REQUEST = {
    "type": "object",
    "properties": {
        "context": {
            "type": "object",
            "nullable": True,
            "properties": {"targetingKey": {"type": "string", "maxLength": 200, "description": "Names the unit."}},
            "additionalProperties": True,
        }
    },
    "example": {"context": {"targetingKey": "user-1", "plan": "pro"}},
}
_REFUSED = {"key": "checkout", "errorCode": "FLAG_NOT_FOUND", "errorDetails": "there is no flag 'checkout'"}
_EXAMPLES = {
    "on": {"key": "imports", "value": True, "reason": "STATIC", "variant": "on", "metadata": {"version": 3}},
    "off": {
        "key": "imports",
        "value": False,
        "reason": "DISABLED",
        "variant": "off",
        "metadata": {"version": 3, "cause": "breaker:imports", "off_since": "2026-01-02T03:04:05.000006Z"},
    },
    "experiment": {
        "key": "checkout-test",
        "value": "treatment",
        "reason": "SPLIT",
        "variant": "treatment",
        "metadata": {"version": 4, "experiment_id": 1, "assigned": True, "assignment_reason": "split"},
    },
}
