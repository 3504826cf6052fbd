"""`tidegate dead-letters` against a small server of the test's own, which answers in pages."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner, Result

from tidegate.cli import app

PATH = "/api/v1/streaming-analytics/dead-letters"
LINES = '{"n":1}\n{"n":"a\u2028b\u0085c"}\n'.encode()


def _item(n: int) -> dict[str, Any]:
    names = ("id", "rejected_at", "state", "origin", "reason", "detail")
    return {name: f"{name}-{n}" for name in names}


def _page(cursor: str | None, **content: Any) -> dict[str, Any]:
    """The first of two pages leads to the second."""
    return {**content, "searched": 1, "next_cursor": None if cursor else "there"}


class Letters(BaseHTTPRequestHandler):
    received: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        type(self).received.append((url.path, query))
        cursor = query.get("cursor")
        counts = {"by_reason": {"r": 2}, "by_origin": {"http": 2}, "by_state": {"open": 2}, "by_day": {"d": {"r": 2}}}
        if url.path == f"{PATH}/export":
            self._answer(200, LINES)
        elif url.path == f"{PATH}/counts":
            self._json(200, _page(cursor, **counts))
        elif query.get("reason") == "faulty":
            self._json(422, {"detail": "no such thing", "reason": "schema_violation"})
        else:
            self._json(200, _page(cursor, items=[_item(2 if cursor else 1)]))

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"] or 0))
        body = json.loads(content) if content else {}
        type(self).received.append((self.path, body))
        if self.path == f"{PATH}/replay":
            verdicts = {"found": 3, "valid": 2, "replayed": 2, "invalid": {"too_deep": 1}, "hindered": {}}
            self._json(200, _page(body["cursor"], **verdicts))
        elif self.path == f"{PATH}/discard":
            self._json(200, _page(body["cursor"], found=2, discarded=2))
        elif self.path.endswith("/replay"):
            self._json(202, {"id": "x", "event_id": "e-1", "status": "accepted"})
        else:
            self._json(200, {"id": "x", "state": "discarded"})

    def _json(self, status: int, body: Any) -> None:
        self._answer(status, json.dumps(body).encode())

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def gateway() -> Iterator[str]:
    Letters.received.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Letters) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _run(gateway: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["dead-letters", *arguments, "--url", gateway, "--key", "k"])


def test_a_list_follows_its_pages_as_far_as_was_asked(gateway: str) -> None:
    one = _run(gateway, "list", "--limit", "1", "--reason", "r", "--in", "open", "--type", "t")
    all_ = _run(gateway, "list")

    assert one.stdout == "id-1  rejected_at-1  state-1  origin-1  reason-1  detail-1\n"
    assert [line.split()[0] for line in all_.stdout.splitlines()] == ["id-1", "id-2"]
    assert Letters.received == [
        (PATH, {"reason": "r", "event_type": "t", "state": "open", "limit": "1"}),
        (PATH, {"limit": "20"}),
        (PATH, {"limit": "20", "cursor": "there"}),
    ]


def test_counts_of_all_pages_are_added(gateway: str) -> None:
    found = json.loads(_run(gateway, "counts", "--json").stdout)

    assert found["total"] == 4
    assert (found["by_reason"], found["by_day"]) == ({"r": 4}, {"d": {"r": 4}})
    assert "4 dead letters\n  reason r: 4\n" in _run(gateway, "counts").stdout


def test_an_export_is_written_line_by_line(gateway: str, tmp_path: Path) -> None:
    file = tmp_path / "letters.ndjson"

    assert _run(gateway, "export", "--output", str(file), "--text", "x").exit_code == 0
    assert file.read_bytes() == LINES == _run(gateway, "export").stdout_bytes
    assert Letters.received[0] == (f"{PATH}/export", {"text": "x"})


def test_one_letter_or_all_that_fit_are_replayed(gateway: str) -> None:
    one = _run(gateway, "replay", "a/b", "--patch", '{"x":null}', "--rename", "old=new")
    many = _run(gateway, "replay", "--reason", "r", "--dry-run")

    assert one.stdout == "a/b is event e-1\n"
    assert many.stdout == "6 found, 4 valid, 4 replayed\n  too_deep: 2\n"
    filters = {"filter": {"reason": "r"}, "dry_run": True, "rename": {}, "patch": None}
    assert Letters.received == [
        (f"{PATH}/a%2Fb/replay", {"rename": {"old": "new"}, "patch": {"x": None}}),
        (f"{PATH}/replay", {**filters, "cursor": None}),
        (f"{PATH}/replay", {**filters, "cursor": "there"}),
    ]


def test_all_letters_are_not_discarded_by_mistake(gateway: str) -> None:
    assert _run(gateway, "discard").exit_code == 2
    assert Letters.received == []
    assert _run(gateway, "discard", "x").stdout == "x is discarded\n"
    assert _run(gateway, "discard", "--origin", "http").stdout == "4 discarded\n"


@pytest.mark.parametrize(
    "words",
    [["replay", "x", "--dry-run"], ["replay", "x", "--reason", "r"], ["discard", "x", "--until", "2026-11-01"]],
)
def test_one_letter_is_not_settled_where_something_else_was_meant(gateway: str, words: list[str]) -> None:
    assert _run(gateway, *words).exit_code == 2
    assert Letters.received == []


@pytest.mark.parametrize("options", [["--rename", "x"], ["--rename", "=x"], ["--patch", "{"], ["--patch", "[]"]])
def test_a_correction_that_cannot_be_read_is_not_sent(gateway: str, options: list[str]) -> None:
    assert _run(gateway, "replay", *options).exit_code == 2
    assert Letters.received == []


def test_what_is_refused_is_said(gateway: str) -> None:
    refused = _run(gateway, "list", "--reason", "faulty")

    assert refused.exit_code == 1
    assert "422 no such thing (schema_violation)" in refused.output
