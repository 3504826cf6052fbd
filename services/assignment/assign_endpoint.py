"""POST /api/v1/ab-testing/assign as bare ASGI: the hot path, without a framework between socket and decision."""

from __future__ import annotations

from typing import Any

import msgspec

from services.assignment.assigner import Assigner
from services.assignment.domain.facts import Ids
from shared import strict_json
from shared.http import KEY_SECURITY, AsgiApp, AsgiScope, Problem, Receive, Send, bad_json, read_body, send_response

ASSIGN = "/api/v1/ab-testing/assign"
MAX_ID_LENGTH = 200
_MAX_BODY = 64 * 1024


class AssignRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Names the experiment and the unit; numeric ids become decimal text. `context` may pick a stratum."""

    experiment_id: int | str | None = None
    experiment_key: str | None = None
    user_id: int | str | None = None
    session_id: int | str | None = None
    job_id: int | str | None = None
    anonymous_id: int | str | None = None
    context: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(AssignRequest)


def with_assign(assigner: Assigner, others: AsgiApp) -> AsgiApp:
    """Answers the hot path itself and leaves every other request to `others`."""

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != ASSIGN:
            await others(scope, receive, send)
            return
        if scope["method"] != "POST":
            raise Problem(405, "method_not_allowed", "POST a body here", headers={"Allow": "POST"})
        raw = await read_body(receive)
        if len(raw) > _MAX_BODY:
            raise Problem(413, "body_too_large", f"a request to assign may have at most {_MAX_BODY} bytes")
        try:
            request = strict_json.decode(raw, _decoder)
        except strict_json.InvalidJsonError as error:
            raise bad_json(error) from None
        ids = Ids(
            user=id_text("user_id", request.user_id),
            anonymous=id_text("anonymous_id", request.anonymous_id),
            session=id_text("session_id", request.session_id),
            job=id_text("job_id", request.job_id),
        )
        body = await assigner.assign(scope["principal"].organisation, _reference(request), ids, request.context)
        await send_response(send, 200, body)

    return app


def id_text(field: str, value: int | str | None) -> str | None:
    """Raises Problem for text that cannot be an id."""
    if value is None:
        return None
    text = str(value)
    if not text or len(text) > MAX_ID_LENGTH:
        raise Problem(422, "bad_id", f"{field} must have 1 to {MAX_ID_LENGTH} characters")
    return text


def _reference(request: AssignRequest) -> int | str:
    if (request.experiment_id is None) == (request.experiment_key is None):
        raise Problem(422, "experiment_missing", "send either experiment_id or experiment_key")
    return request.experiment_id if request.experiment_id is not None else request.experiment_key or ""


def openapi_path() -> tuple[dict[str, Any], dict[str, Any]]:
    """(path item, component schemas) that describe the endpoint to OpenAPI."""
    (body,), components = msgspec.json.schema_components([AssignRequest], ref_template="#/components/schemas/{name}")
    operation = {
        "tags": ["assign"],
        "summary": "Assign variant",
        "security": KEY_SECURITY,
        "description": "The unit's variant. The first answer of a unit records its exposure; later ones repeat it.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": "variant is null only where an experiment without control is not running. With reason "
                "`killed` come `cause` and `off_since`: the unit gets the control and is not counted",
                "content": {"application/json": {"example": _EXAMPLE}},
            },
            "404": {"description": "experiment_not_found"},
            "422": {"description": "unit_missing, experiment_missing, bad_id or what is wrong with the JSON"},
        },
    }
    return {"post": operation}, components


_EXAMPLE = {
    "variant": {
        "id": 2,
        "experiment_id": 1,
        "variant_name": "Treatment",
        "variant_type": "treatment",
        "model_id": 124,
        "model_version": "v2.0",
        "traffic_percentage": 50.0,
        "config": {},
    },
    "assigned": True,
    "experiment_id": 1,
    "experiment_key": "model-version-comparison",
    "reason": "split",
    "version": 4,
}
