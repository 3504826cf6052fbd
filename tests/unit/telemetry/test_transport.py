"""Requests over real sockets: kept connections, those that the other side has closed, and answers that never come."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tidegate.telemetry.transport import PATH, HttpTransport, LostError


class Server(ThreadingHTTPServer):
    """Answers with `status` and `headers`. `hangs_up`: closes after each answer, `silent`: closes instead of one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 202
        self.headers: dict[str, str] = {}
        self.hangs_up = False
        self.silent = False
        self.connections = 0
        self.requests: list[tuple[str, str | None, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, self.headers["X-API-Key"], body))
        if self.server.silent:
            self.close_connection = True
            return
        self.send_response(self.server.status)
        for name, value in {"Content-Length": "2", **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"{}")
        self.close_connection = self.server.hangs_up

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_requests_share_a_connection_and_carry_the_key() -> None:
    with serving() as server:
        transport = HttpTransport(f"{server.url}/base/", "tg_key", timeout=5)
        answers = [transport.post(b"1"), transport.post(b"2")]
        transport.close()
    assert [answer.status for answer in answers] == [202, 202]
    assert server.requests == [(f"/base{PATH}", "tg_key", b"1"), (f"/base{PATH}", "tg_key", b"2")]
    assert server.connections == 1


def test_a_connection_that_the_other_side_has_closed_is_replaced_at_once() -> None:
    with serving() as server:
        server.hangs_up = True
        transport = HttpTransport(server.url, "k", timeout=5)
        for _ in range(5):
            assert transport.post(b"1").status == 202
        transport.close()
    assert server.connections == 5


def test_without_an_answer_the_events_are_lost_from_sight() -> None:
    with serving() as server:
        server.silent = True
        transport = HttpTransport(server.url, "k", timeout=5)
        with pytest.raises(LostError):
            transport.post(b"1")
        server.silent = False
        assert transport.post(b"1").status == 202
        transport.close()


def test_nobody_listening_is_no_answer() -> None:
    with serving() as server:
        url = server.url
    with pytest.raises(LostError):
        HttpTransport(url, "k", timeout=5).post(b"1")


def test_a_host_that_cannot_be_asked_for_is_no_answer() -> None:
    with pytest.raises(LostError):
        HttpTransport(f"http://{'a' * 70}.example", "k", timeout=5).post(b"1")


def test_the_line_break_behind_a_key_from_a_file_is_left_out() -> None:
    with serving() as server:
        transport = HttpTransport(server.url, "tg_key\n", timeout=5)
        transport.post(b"1")
        transport.close()
    assert [key for _, key, _ in server.requests] == ["tg_key"]


@pytest.mark.parametrize("key", ["", "tg_\nkey", "tg_ké", "tg_key\nX-Other: 1", "Bearer tg_key"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_quoted(key: str) -> None:
    with pytest.raises(ValueError, match=r"^the key is empty or holds what no header can carry$"):
        HttpTransport("http://127.0.0.1", key, timeout=1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3.0), ("0", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None), ("9" * 400, None)],
)
def test_retry_after_is_read_in_seconds(text: str, seconds: float | None) -> None:
    with serving() as server:
        server.status, server.headers = 503, {"Retry-After": text}
        transport = HttpTransport(server.url, "k", timeout=5)
        answer = transport.post(b"1")
        transport.close()
    assert (answer.status, answer.retry_after) == (503, seconds)


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://x", "http://"])
def test_what_is_no_url_of_a_platform_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="looks like"):
        HttpTransport(url, "k", timeout=1)
