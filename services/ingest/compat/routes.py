"""The paths of other products' clients, before the application `rest`."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec

from services.ingest.bodies import BodyReader
from services.ingest.compat.cloudevents import CloudEvents
from services.ingest.compat.paths import (
    BROWSER_PATHS,
    CLOUDEVENTS,
    POSTHOG_CAPTURE,
    POSTHOG_EVENTS,
    SEGMENT_BATCHES,
    SEGMENT_CALLS,
)
from services.ingest.compat.posthog import PostHogCapture
from services.ingest.compat.request import Admit, Handler, Request
from services.ingest.compat.segment import SegmentCalls
from services.ingest.intake import Intake
from shared.clock import Clock
from shared.http import AsgiApp, AsgiScope, Problem, Receive, Send, presented_key, send_response
from shared.keys import Principal

_ENCODER = msgspec.json.Encoder()
_MAX_QUERY_FIELDS = 50


class CompatibleRoutes:
    """Each path with what answers it. `admit` decides about keys, which may stand in the body."""

    def __init__(self, intake: Intake, admit: Admit, clock: Clock, rest: AsgiApp) -> None:
        self._intake = intake
        self._bodies = BodyReader()
        self._admit = admit
        self._clock = clock
        self._rest = rest
        segment, posthog, cloudevents = SegmentCalls(intake), PostHogCapture(intake), CloudEvents(intake)
        self._handlers: dict[str, Handler] = {
            **dict.fromkeys(SEGMENT_CALLS, segment.one),
            **dict.fromkeys(SEGMENT_BATCHES, segment.many),
            **dict.fromkeys(POSTHOG_CAPTURE, posthog.capture),
            **dict.fromkeys(POSTHOG_EVENTS, posthog.analytics),
            **dict.fromkeys(CLOUDEVENTS, cloudevents),
        }

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        handler = self._handlers.get(scope["path"])
        if handler is None:
            await self._rest(scope, receive, send)
            return
        allowed = {"Access-Control-Allow-Origin": "*"} if scope["path"] in BROWSER_PATHS else {}
        try:
            if scope["method"] == "OPTIONS":
                await send_response(send, 200, b"", headers={**_preflight(scope), **allowed})
                return
            if scope["method"] != "POST":
                raise Problem(
                    405, "method_not_allowed", "events are sent with POST", headers={"Allow": "POST, OPTIONS"}
                )
            # Who shows no key in a header is only known after the body has been read.
            key = presented_key(scope["headers"])
            principal = None if key is None else self._admit(key)
            self._intake.check_room(principal)

            async def answer_to(body: bytes) -> None:
                answer = await handler(self._request(scope, body, principal))
                await send_response(send, answer.status, _ENCODER.encode(answer.body), headers=allowed)

            await self._bodies.read(scope, receive, answer_to)
        except Problem as problem:
            raise _for_clients(problem, allowed) from None

    def _request(self, scope: AsgiScope, body: bytes, principal: Principal | None) -> Request:
        return Request(
            path=scope["path"],
            query=_query(scope),
            headers=scope["headers"],
            body=body,
            received_at=self._clock(),
            principal=principal,
            admit=self._admit,
        )


def _query(scope: AsgiScope) -> Mapping[str, str]:
    try:
        return dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), max_num_fields=_MAX_QUERY_FIELDS))
    except ValueError:
        return {}


def _preflight(scope: AsgiScope) -> dict[str, str]:
    """Browsers ask whether a page of another origin may send, senders of CloudEvents whether they may at all."""
    headers = {"Allow": "POST, OPTIONS"}
    for name, value in scope["headers"]:
        if name == b"access-control-request-headers":
            headers["Access-Control-Allow-Methods"] = "POST, OPTIONS"
            headers["Access-Control-Allow-Headers"] = value.decode("latin-1")
            headers["Access-Control-Max-Age"] = "86400"
        elif name == b"webhook-request-origin":
            headers["WebHook-Allowed-Origin"] = value.decode("latin-1")
            headers["WebHook-Allowed-Rate"] = "*"
    return headers


def _for_clients(problem: Problem, headers: Mapping[str, str]) -> Problem:
    """The same with the fields that one or the other client looks for besides `status` and `detail`.

    One that misses them takes the refusal for a failure of the network and sends the same again and again.
    """
    fields = {"code": problem.reason, "message": problem.detail, "error": problem.detail}
    return Problem(
        problem.status,
        problem.reason,
        problem.detail,
        headers={**problem.headers, **headers},
        extra={**fields, **problem.extra},
    )
