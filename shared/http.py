"""HTTP as all services speak it: problem details, keys, operational endpoints, request metrics, one server.

`service_app` wraps a service's own routes (FastAPI or bare ASGI). From outside in:
operational endpoints → request metrics → problems → authentication → body limit → routes.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import uvicorn
from aiokafka.errors import KafkaError
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.security import APIKeyHeader
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from shared import strict_json
from shared.http_protocol import HttpProtocol
from shared.keys import KeyRing, Principal, Refusal, permits
from shared.messages import Scope
from shared.postgres import RETRYABLE

logger = logging.getLogger(__name__)

AsgiScope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[AsgiScope, Receive, Send], Awaitable[None]]
Needed = Callable[[str, str], Scope | None]
"""(method, path) → the scope a key must have; None lets everyone in."""
Ready = Callable[[], str | None]
"""None when the service can work, else what it waits for."""

MAX_BODY = 8 * 1024 * 1024
MAX_SOCKET_MESSAGE = 1024 * 1024
"""Bytes of a WebSocket message after decompression; a longer one ends the connection (1009)."""


_RETRY_SPREAD = 2
"""Seconds."""
_MAX_DETAIL = 6_000
"""Characters: details quote what was sent, which may be long."""


class Problem(Exception):  # noqa: N818  # the name the standard (RFC 9457) gives it
    """An answer other than success: a status, a machine-readable `reason` and a sentence for people."""

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        detail = detail if len(detail) <= _MAX_DETAIL else detail[:_MAX_DETAIL] + "…"
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def body(self) -> bytes:
        return msgspec.json.encode(
            {
                "type": "about:blank",
                "title": self.reason.replace("_", " "),
                "status": self.status,
                "reason": self.reason,
                "detail": self.detail,
                **self.extra,
            }
        )


def unavailable(detail: str, *, reason: str = "unavailable", retry_after: int = 1) -> Problem:
    """503: to be sent again after `retry_after` seconds, or up to two more, so that not all come back at once."""
    wait = random.randint(retry_after, retry_after + _RETRY_SPREAD)
    return Problem(503, reason, detail, headers={"Retry-After": str(wait)})


def bad_json(error: strict_json.InvalidJsonError) -> Problem:
    """400 for what does not parse, 422 for what parses but is refused."""
    status = 400 if error.violation is strict_json.Violation.MALFORMED else 422
    return Problem(status, error.violation.value, str(error))


class StrictRoute(APIRoute):
    """A FastAPI route whose JSON body and URL are checked strictly before anything else sees them."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            if "\x00" in request.url.path or "%00" in str(request.url.query):
                raise Problem(400, strict_json.Violation.NUL.value, "the URL holds U+0000")
            body = await request.body()
            if body:
                try:
                    strict_json.loads(body)
                except strict_json.InvalidJsonError as error:
                    raise bad_json(error) from None
                # It is JSON, whatever the client calls it: `curl --data` calls everything a form.
                others = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
                request.scope["headers"] = [*others, (b"content-type", b"application/json")]
            return await handle(request)

        return strict


_KEY_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False)
KEY_SECURITY: list[dict[str, list[str]]] = [{_KEY_HEADER.scheme_name: []}]
"""The OpenAPI `security` of operations that are described by hand."""


def new_api(title: str, service: str, description: str) -> FastAPI:
    """A FastAPI application that answers problems as RFC 9457 and shows its schema at the gateway.

    While Kafka or Postgres is away its answers are 503 with Retry-After.
    """
    api = FastAPI(
        title=title,
        description=description,
        openapi_url=f"/api/v1/openapi/{service}.json",
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        # Only describes the key, for the documentation's "Authorize": `service_app` is what checks it.
        dependencies=[Depends(_KEY_HEADER)],
    )
    api.openapi_version = "3.0.3"  # the newest that the Swagger UI of our package shows
    api.router.route_class = StrictRoute
    api.add_exception_handler(Problem, _on_problem)
    api.add_exception_handler(HTTPException, _on_http_exception)
    api.add_exception_handler(RequestValidationError, _on_validation_error)
    for outage in (KafkaError, *RETRYABLE):
        api.add_exception_handler(outage, _on_outage)
    return api


def principal_of(request: Request) -> Principal:
    """Who asks (a FastAPI dependency)."""
    principal: Principal = request.scope["principal"]
    return principal


async def _on_problem(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return _as_response(problem)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed_methods(request)) or headers.get("Allow", "")
    return _as_response(Problem(error.status_code, reason, str(error.detail), headers=headers))


def _allowed_methods(request: Request) -> list[str]:
    """Of the path itself: where `/things/{id}` fits as well as `/things/all`, only what the latter takes.

    The framework names those of the first route that fits, of however many.
    """
    fitting = [
        (context.path.count("{"), context.methods)
        for context in iter_route_contexts(request.app.routes)
        if context.path and context.methods and compile_path(context.path)[0].match(request.scope["path"])
    ]
    fewest = min((parameters for parameters, _ in fitting), default=0)
    return sorted({method for parameters, methods in fitting if parameters == fewest for method in methods})


_MAX_FAULTS = 20
_MAX_FAULT_TEXT = 200


async def _on_validation_error(_: Request, error: Exception) -> Response:
    """Names the first faults, each in short: an answer must not grow with what was sent."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    faults = [
        {"where": ".".join(map(str, e["loc"]))[:_MAX_FAULT_TEXT], "what": str(e["msg"])[:_MAX_FAULT_TEXT]}
        for e in found[:_MAX_FAULTS]
    ]
    detail = "; ".join(f"{f['where']}: {f['what']}" for f in faults)
    if len(found) > _MAX_FAULTS:
        detail += f"; and {len(found) - _MAX_FAULTS} more"
    return _as_response(Problem(422, "schema_violation", detail, extra={"errors": faults}))


async def _on_outage(_: Request, error: Exception) -> Response:
    """A neighbour is away: the caller may try again."""
    logger.warning("a request met an outage", extra={"error": repr(error)})
    return _as_response(unavailable(f"a store does not answer: {type(error).__name__}"))


def _as_response(problem: Problem) -> Response:
    return Response(
        problem.body(),
        status_code=problem.status,
        headers=problem.headers,
        media_type="application/problem+json",
    )


async def send_response(
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> None:
    """A whole answer from a bare ASGI route."""
    raw = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
    raw += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Problem) -> None:
    await send_response(
        send, problem.status, problem.body(), content_type="application/problem+json", headers=problem.headers
    )


async def read_body(receive: Receive) -> bytes:
    """The whole request body. The body limit has been applied outside."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts = [body]
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "disconnected", "the client went away before the end of the body")
        parts.append(message.get("body", b""))
    return b"".join(parts)


class RequestMetrics:
    """Requests and their duration by method and status class; no label comes from the request's path."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "tidegate_http_requests_total", "HTTP requests answered", ["method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "tidegate_http_request_seconds",
            "Time from the first byte of a request to the end of its answer",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )

        self._answered: dict[tuple[str, int], Counter] = {}

    def observe(self, method: str, status: int, seconds: float) -> None:
        known = method if method in _METHODS else "OTHER"
        answered = self._answered.get((known, status))
        if answered is None:
            answered = self._answered[known, status] = self._requests.labels(known, str(status))
        answered.inc()
        self._seconds.observe(seconds)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def service_app(
    routes: AsgiApp,
    *,
    keys: KeyRing,
    needed: Needed,
    ready: Ready,
    registry: CollectorRegistry,
    max_body: Callable[[AsgiScope], int] = lambda _: MAX_BODY,
    sockets: AsgiApp | None = None,
    exposition: Callable[[], Awaitable[bytes]] | None = None,
) -> AsgiApp:
    """The whole application of a service around its `routes`; `max_body` is in bytes, as they are sent.

    `exposition` is what `/metrics` shows, by default the `registry` alone. WebSockets go to `sockets`, by default to
    `routes`, which authenticates them itself (`admitted`).
    """
    metrics = RequestMetrics(registry)
    sockets = sockets or routes

    async def own_metrics() -> bytes:
        return generate_latest(registry)

    show = exposition or own_metrics

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await sockets(scope, receive, send)
            return
        if scope["path"] in _OPERATIONAL:
            await _answer_operational(scope, send, show, ready)
            return
        started = time.perf_counter()
        status = 500

        async def observed_send(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            _authenticate(scope, keys, needed, ready)
            await routes(scope, _limited(scope, receive, max_body(scope)), observed_send)
        except Problem as problem:
            await send_problem(observed_send, problem)
        finally:
            metrics.observe(scope["method"], status, time.perf_counter() - started)

    return app


_OPERATIONAL = frozenset({"/metrics", "/healthz", "/readyz"})


async def _answer_operational(
    scope: AsgiScope, send: Send, exposition: Callable[[], Awaitable[bytes]], ready: Ready
) -> None:
    path = scope["path"]
    if path == "/metrics":
        text = await exposition()
        await send_response(send, 200, text, content_type="text/plain; version=0.0.4; charset=utf-8")
    elif path == "/healthz":
        await send_response(send, 200, b'{"status":"alive"}')
    else:
        waiting_for = ready()
        if waiting_for is None:
            await send_response(send, 200, b'{"status":"ready"}')
        else:
            await send_problem(send, unavailable(waiting_for, reason="not_ready"))


def _authenticate(scope: AsgiScope, keys: KeyRing, needed: Needed, ready: Ready) -> None:
    wanted = needed(scope["method"], scope["path"])
    if wanted is not None:
        scope["principal"] = admitted(presented_key(scope["headers"]), wanted, keys, ready)


def admitted(key: str | None, wanted: Scope, keys: KeyRing, ready: Ready) -> Principal:
    """Who presents `key`, which must permit what `wanted` does. Raises Problem 401, 403 or, until `ready`, 503."""
    found = keys.identify(key)
    if found is Refusal.UNKNOWN and (waiting_for := ready()) is not None:
        raise unavailable(waiting_for, reason="not_ready")  # the key may be one that has not reached us yet
    if isinstance(found, Refusal):
        raise Problem(
            401,
            found.value,
            "send an API key as `Authorization: Bearer KEY`, `X-API-Key: KEY` or the user name of Basic",
            headers={"WWW-Authenticate": "Bearer"},
        )
    refusal = permits(found.scope, wanted)
    if refusal is not None:
        raise Problem(403, refusal.value, f"this needs a key with scope {wanted}; yours has {found.scope}")
    return found


def presented_key(headers: list[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"x-api-key":
            return value.decode("latin-1").strip()
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].decode("latin-1").strip()
        if name == b"authorization" and value[:6].lower() == b"basic ":
            return _basic_key(value[6:])
    return None


def _basic_key(credentials: bytes) -> str | None:
    """The user name, or the password if that is empty: clients that know only Basic send the key as one of them."""
    try:
        user, _, password = base64.b64decode(credentials.strip(), validate=True).decode("latin-1").partition(":")
    except ValueError:
        return None
    return user or password


def _limited(scope: AsgiScope, receive: Receive, max_body: int) -> Receive:
    """Counts bytes while they stream in, so that a lying Content-Length helps nobody.

    A route that asks for a body hears that it is too large, and can refuse it in its own words.
    """
    seen = 0
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > max_body:
            seen = int(value)

    async def limited() -> MutableMapping[str, Any]:
        nonlocal seen
        if seen > max_body:
            raise _too_large(max_body)
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > max_body:
            raise _too_large(max_body)
        return message

    return limited


def _too_large(max_body: int) -> Problem:
    """The rest of the body is not waited for: with the connection it ends."""
    detail = f"a request body may have at most {max_body} bytes"
    return Problem(413, "body_too_large", detail, headers={"Connection": "close"})


_TICKS_BETWEEN_LOOKS = 10
"""A tick is a tenth of a second."""
_FAREWELL_SECONDS = 2.0


def _is_closing(connection: object) -> bool:
    return isinstance(connection, WebSocketsSansIOProtocol) and connection.close_sent


class _Uvicorn(uvicorn.Server):
    """Without uvicorn's way of raising the signal again once it has served: the service's own shutdown follows.

    Now and then it ends the connections of clients that owe the rest of a request and say nothing.

    Before connections are ended, `drain` may end its own in its own way: uvicorn cuts WebSockets off.
    """

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]] | None, silence: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._silence = silence

    async def on_tick(self, counter: int) -> bool:
        if not counter % _TICKS_BETWEEN_LOOKS:
            for connection in list(self.server_state.connections):
                if isinstance(connection, HttpProtocol):
                    connection.end_if_silent(self._silence)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        if self._drain is not None:
            await self._drain()
            await self._said_farewell()
        await super().shutdown(sockets)

    async def _said_farewell(self) -> None:
        """Lets WebSockets that were closed hear the other side's answer: cut off with something left to read, their
        last words would be lost with the rest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                while any(_is_closing(connection) for connection in self.server_state.connections):
                    await asyncio.sleep(0.01)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            try:
                yield
            finally:
                self._captured_signals.clear()


def bound(host: str, port: int, *, shared: bool) -> socket.socket:
    """A socket that does not listen yet; `shared` with others of this user that are bound alike (SO_REUSEPORT).

    Raises OSError that names the address if it is taken.
    """
    holder = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host, port))
    except OSError as error:
        holder.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
    return holder


class Server:
    """Serves an ASGI application inside the running event loop; on a `shared` port beside other processes of ours.

    Clients that owe the rest of a request, or the first one, and say nothing for `silence` seconds are given up.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        host: str,
        port: int,
        drain: Callable[[], Awaitable[None]] | None = None,
        shared: bool = False,
        silence: float = 60.0,
    ) -> None:
        self._address = (host, port)
        self._shared = shared
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,  # nothing asks where a request comes from
            timeout_graceful_shutdown=10,
            http=HttpProtocol,
            ws="websockets-sansio",
            ws_max_size=MAX_SOCKET_MESSAGE,
            ws_per_message_deflate=False,  # a compressor takes 40 KiB a connection, more than all the rest
        )
        self._server = _Uvicorn(config, drain, silence)

    async def run(self) -> None:
        """Returns after SIGINT or SIGTERM, when the requests in flight have been answered.

        Raises OSError that names the address if it is taken.
        """
        host, port = self._address
        listener = bound(host, port, shared=self._shared)
        listener.listen(4096)
        logger.info("listening", extra={"host": host, "port": port})
        await self._server.serve(sockets=[listener])

    def stop(self) -> None:
        self._server.should_exit = True
