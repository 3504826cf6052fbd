"""What every service's HTTP does, around a tiny application."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, MutableMapping
from typing import Annotated, Any

import httpx
import pytest
from aiokafka.errors import KafkaConnectionError
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from shared.http import (
    AsgiApp,
    AsgiScope,
    Problem,
    Receive,
    Send,
    new_api,
    principal_of,
    read_body,
    send_response,
    service_app,
    unavailable,
)
from shared.keys import KeyRing, Principal, describe_key, new_key
from shared.messages import Scope

KEYS: dict[Scope, str] = {"ingest": new_key(), "read": new_key(), "admin": new_key()}
RING = KeyRing(describe_key(key, organisation="acme", scope=scope) for scope, key in KEYS.items())
MAX_BODY = 1_000


class Note(BaseModel, extra="forbid"):
    text: str
    count: int = 0


def api() -> FastAPI:
    found = new_api("Notes", "notes", "For tests.")

    @found.post("/notes", status_code=201)
    async def create(note: Note) -> Note:
        return note

    @found.get("/notes/{name}")
    async def read(name: str, search: str = "") -> list[str]:
        return [name, search]

    @found.delete("/notes/{name}")
    async def remove(name: str) -> None:
        return None

    @found.put("/notes/all")
    async def replace_all() -> None:
        return None

    @found.get("/whoami")
    async def whoami(principal: Annotated[Principal, Depends(principal_of)]) -> dict[str, str]:
        return {"organisation": principal.organisation, "scope": principal.scope}

    @found.get("/refused")
    async def refused() -> None:
        raise Problem(409, "already_there", "There is one.", headers={"X-Hint": "y"}, extra={"id": 7})

    @found.get("/outage")
    async def outage() -> None:
        raise KafkaConnectionError()

    @found.get("/slow-store")
    async def slow_store() -> None:
        raise TimeoutError()

    @found.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError()

    return found


async def bare_bug(scope: AsgiScope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError()


async def echo(scope: AsgiScope, receive: Receive, send: Send) -> None:
    await send_response(send, 200, b"%d" % len(await read_body(receive)), headers={"X-Echo": "yes"})


def needed(method: str, path: str) -> Scope | None:
    if path == "/open":
        return None
    return "ingest" if path == "/echo" else "admin" if method == "DELETE" else "read"


class Service:
    """The application under test, with its registry and what it waits for."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.waiting_for: str | None = None
        fast = api()

        async def routes(scope: AsgiScope, receive: Receive, send: Send) -> None:
            bare = {"/echo": echo, "/open": echo, "/bare-bug": bare_bug}
            await bare.get(scope["path"], fast)(scope, receive, send)

        self.app: AsgiApp = service_app(
            routes,
            keys=RING,
            needed=needed,
            ready=lambda: self.waiting_for,
            registry=self.registry,
            max_body=lambda _: MAX_BODY,
        )

    async def request(
        self, method: str, path: str, *, key: str | None = KEYS["read"], **options: Any
    ) -> httpx.Response:
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **options.pop("headers", {})}
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(method, path, headers=headers, **options)

    def counted(self, method: str, status: int) -> float:
        labels = {"method": method, "status": str(status)}
        return self.registry.get_sample_value("tidegate_http_requests_total", labels) or 0.0


@pytest.fixture
def service() -> Service:
    return Service()


def assert_problem(response: httpx.Response, status: int, reason: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert (body["status"], body["reason"], body["type"]) == (status, reason, "about:blank")
    assert body["title"]
    assert body["detail"]
    return body


@pytest.mark.parametrize("header", ["Authorization", "authorization", "X-API-Key"])
async def test_a_key_is_taken_from_either_header(service: Service, header: str) -> None:
    value = KEYS["read"] if header == "X-API-Key" else f"bEARER  {KEYS['read']} "
    response = await service.request("GET", "/whoami", key=None, headers={header: value})
    assert response.json() == {"organisation": "acme", "scope": "read"}


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "key_missing"),
        ({"Authorization": "Basic abc"}, "key_missing"),
        ({"Authorization": "Bearer "}, "key_missing"),
        ({"X-API-Key": ""}, "key_missing"),
        ({"Authorization": f"Bearer {new_key()}"}, "key_unknown"),
        ({"X-API-Key": "é"}, "key_unknown"),
    ],
)
async def test_without_a_known_key_the_answer_is_401(service: Service, headers: dict[str, str], reason: str) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    response = await service.request("GET", "/whoami", key=None, headers=encoded)
    assert_problem(response, 401, reason)
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_key_of_another_scope_is_refused_with_both_scopes_named(service: Service) -> None:
    body = assert_problem(await service.request("POST", "/echo", content=b"x"), 403, "scope_insufficient")
    assert "ingest" in body["detail"]
    assert "read" in body["detail"]


async def test_an_admin_key_may_do_everything(service: Service) -> None:
    assert (await service.request("POST", "/echo", key=KEYS["admin"], content=b"abc")).text == "3"


async def test_nothing_is_told_about_paths_to_those_without_a_key(service: Service) -> None:
    assert_problem(await service.request("GET", "/nowhere", key=None), 401, "key_missing")


async def test_an_open_path_needs_no_key(service: Service) -> None:
    response = await service.request("POST", "/open", key=None, content=b"abcd")
    assert (response.status_code, response.text, response.headers["x-echo"]) == (200, "4", "yes")


async def test_an_unknown_path_is_404_and_a_wrong_method_405(service: Service) -> None:
    assert_problem(await service.request("GET", "/nowhere"), 404, "not_found")
    response = await service.request("PUT", "/whoami")
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET"


async def test_a_405_names_all_methods_of_the_path_and_only_of_that_path(service: Service) -> None:
    for path, allowed in (("/notes/one", "DELETE, GET"), ("/notes/all", "PUT"), ("/notes", "POST")):
        response = await service.request("PATCH", path)
        assert_problem(response, 405, "method_not_allowed")
        assert response.headers["allow"] == allowed


async def test_a_problem_carries_its_headers_and_extra_fields(service: Service) -> None:
    response = await service.request("GET", "/refused")
    assert assert_problem(response, 409, "already_there") == {
        "type": "about:blank",
        "title": "already there",
        "status": 409,
        "reason": "already_there",
        "detail": "There is one.",
        "id": 7,
    }
    assert response.headers["x-hint"] == "y"


@pytest.mark.parametrize("path", ["/outage", "/slow-store"])
async def test_while_a_store_is_away_callers_are_asked_to_come_back(service: Service, path: str) -> None:
    response = await service.request("GET", path)
    assert_problem(response, 503, "unavailable")
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "malformed_json"),
        (b'{"text": "x"} {}', 400, "malformed_json"),
        (b'{"text": "\xff"}', 400, "malformed_json"),
        (b'{"text": "\\u0000"}', 422, "nul_character"),
        (b'{"text": "\\ud800"}', 422, "lone_surrogate"),
        (b'{"text": "x", "count": 1e400}', 422, "non_finite_number"),
        (b'{"text": "x", "count": 1180591620717411303424}', 422, "integer_out_of_range"),
        (b'{"text": ' + b"[" * 65 + b"]" * 65 + b"}", 422, "too_deep"),
        (b'{"text": 5}', 422, "schema_violation"),
        (b"[]", 422, "schema_violation"),
        (b"", 422, "schema_violation"),
    ],
)
async def test_a_bad_body_is_the_callers_fault_and_says_why(
    service: Service, body: bytes, status: int, reason: str
) -> None:
    response = await service.request("POST", "/notes", content=body, headers={"Content-Type": "application/json"})
    assert_problem(response, status, reason)


@pytest.mark.parametrize("said", ["application/x-www-form-urlencoded", "text/plain", "nonsense", None])
async def test_a_json_body_is_taken_whatever_the_client_calls_it(service: Service, said: str | None) -> None:
    headers = {} if said is None else {"Content-Type": said}
    answer = await service.request("POST", "/notes", key=KEYS["admin"], content=b'{"text": "a"}', headers=headers)
    assert (answer.status_code, answer.json()) == (201, {"text": "a", "count": 0})


async def test_a_schema_violation_names_every_faulty_place(service: Service) -> None:
    body = assert_problem(await service.request("POST", "/notes", json={"count": "x"}), 422, "schema_violation")
    assert {e["where"] for e in body["errors"]} == {"body.text", "body.count"}


async def test_an_answer_does_not_grow_with_the_faults_of_the_body(service: Service) -> None:
    many = {"text": "a", **{f"x{i}": 1 for i in range(60)}}
    body = assert_problem(await service.request("POST", "/notes", json=many), 422, "schema_violation")
    assert len(body["errors"]) == 20
    assert body["detail"].endswith("; and 40 more")
    long = {"text": "a", "y" * 800: 1}
    body = assert_problem(await service.request("POST", "/notes", json=long), 422, "schema_violation")
    assert len(body["errors"][0]["where"]) == 200
    assert len(Problem(422, "long", "z" * 1_000_000).body()) < 10_000


@pytest.mark.parametrize("path", ["/notes/a%00b", "/notes/a?search=%00", "/whoami?x=1&y=%00"])
async def test_a_nul_in_the_url_never_reaches_a_store(service: Service, path: str) -> None:
    assert_problem(await service.request("GET", path), 400, "nul_character")


async def test_a_percent_sign_before_zeros_is_only_text(service: Service) -> None:
    assert (await service.request("GET", "/notes/a%2500b?search=%2500")).json() == ["a%00b", "%00"]


@pytest.mark.parametrize(("path", "scope"), [("/echo", "ingest"), ("/notes", "read")])
async def test_a_body_that_says_it_is_too_large_is_refused_unread(service: Service, path: str, scope: Scope) -> None:
    response = await service.request("POST", path, key=KEYS[scope], content=b"x" * (MAX_BODY + 1))
    assert_problem(response, 413, "body_too_large")


@pytest.mark.parametrize(("path", "scope"), [("/echo", "ingest"), ("/notes", "read")])
async def test_a_body_without_a_length_is_cut_off_while_it_streams(service: Service, path: str, scope: Scope) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100_000:
            sent += 300
            yield b"x" * 300

    assert_problem(await service.request("POST", path, key=KEYS[scope], content=endless()), 413, "body_too_large")
    assert sent <= MAX_BODY + 600, "the rest was never asked for"


async def test_a_body_of_exactly_the_limit_passes(service: Service) -> None:
    response = await service.request("POST", "/echo", key=KEYS["ingest"], content=b"x" * MAX_BODY)
    assert response.text == str(MAX_BODY)


async def test_a_client_that_goes_away_within_its_body_is_told_nothing_new() -> None:
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    with pytest.raises(Problem) as refused:
        await read_body(receive)
    assert (refused.value.status, refused.value.reason) == (400, "disconnected")


async def test_the_operational_endpoints_need_no_key(service: Service) -> None:
    assert (await service.request("GET", "/healthz", key=None)).json() == {"status": "alive"}
    assert (await service.request("GET", "/readyz", key=None)).json() == {"status": "ready"}
    metrics = await service.request("GET", "/metrics", key=None)
    assert metrics.status_code == 200
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "tidegate_http_requests_total" in metrics.text


async def test_a_service_that_waits_is_alive_but_not_ready_and_says_for_what(service: Service) -> None:
    service.waiting_for = "Kafka"
    response = await service.request("GET", "/readyz", key=None)
    assert assert_problem(response, 503, "not_ready")["detail"] == "Kafka"
    assert (await service.request("GET", "/healthz", key=None)).status_code == 200


def test_who_is_to_come_again_is_not_told_the_same_time_as_all_others() -> None:
    asked = {unavailable("later", retry_after=5).headers["Retry-After"] for _ in range(200)}
    assert asked == {"5", "6", "7"}


async def test_a_key_that_a_starting_service_has_not_heard_of_yet_may_be_tried_again(service: Service) -> None:
    service.waiting_for = "Kafka"
    response = await service.request("GET", "/whoami", key=new_key())
    assert assert_problem(response, 503, "not_ready")["detail"] == "Kafka"
    assert response.headers["retry-after"] in {"1", "2", "3"}
    assert_problem(await service.request("GET", "/whoami", key=None), 401, "key_missing")
    assert (await service.request("GET", "/whoami")).status_code == 200
    service.waiting_for = None
    assert_problem(await service.request("GET", "/whoami", key=new_key()), 401, "key_unknown")


async def test_requests_are_counted_by_method_and_status_and_nothing_else(service: Service) -> None:
    for i in range(5):
        await service.request("GET", f"/nowhere/{i}")
        await service.request(f"ODD{i}", "/whoami")
    await service.request("GET", "/whoami", key=None)
    assert service.counted("GET", 404) == 5
    assert service.counted("OTHER", 405) == 5
    assert service.counted("GET", 401) == 1
    text = (await service.request("GET", "/metrics", key=None)).text
    assert "nowhere" not in text
    assert "ODD" not in text
    assert service.registry.get_sample_value("tidegate_http_request_seconds_count") == 11


@pytest.mark.parametrize("path", ["/bug", "/bare-bug"])
async def test_a_fault_of_ours_is_counted_as_one(service: Service, path: str) -> None:
    assert (await service.request("GET", path)).status_code == 500
    assert service.counted("GET", 500) == 1


async def test_the_schema_stands_where_the_gateway_shows_it(service: Service) -> None:
    schema = json.loads((await service.request("GET", "/api/v1/openapi/notes.json")).content)
    assert schema["openapi"] == "3.0.3"
    assert set(schema["paths"]) == {
        "/notes",
        "/notes/{name}",
        "/notes/all",
        "/whoami",
        "/refused",
        "/outage",
        "/slow-store",
        "/bug",
    }
