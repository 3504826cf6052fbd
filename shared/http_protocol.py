"""HTTP/1.1 as uvicorn speaks it, kept from three faults of its.

A request that asks for another protocol than WebSocket (Java's client asks for h2c, in the first request of every
connection) loses its body there; it is served as if it had not asked. And bytes that are no HTTP are answered at
once, even before the requests that came ahead of them on the same connection; here they wait their turn. And it waits
without end for a request that has begun, or never begins; here a silent client is told so and its connection ended.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from shared.joined_writes import JoinedWrites


def _problem(status: int, reason: str, detail: str) -> bytes:
    """A whole answer, after which the connection ends."""
    body = orjson.dumps(
        {
            "type": "about:blank",
            "title": reason.replace("_", " "),
            "status": status,
            "reason": reason,
            "detail": detail,
        }
    )
    head = b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    return STATUS_LINE[status] + head + body


_REFUSAL = _problem(400, "malformed_request", "this is no valid HTTP/1.1 request")
_TIMEOUT = _problem(408, "request_timeout", "the rest of the request has not come")


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _declined = False
    """The request at hand asks for another protocol: it is parsed once more without that."""
    _heard_at = 0.0
    """When the client said something last, by the event loop's clock."""
    _broken = False
    """What came last is no HTTP: it is said so when all requests before have been answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(cast(asyncio.Transport, JoinedWrites(transport, self.loop)))
        self._heard_at = self.loop.time()

    def end_if_silent(self, seconds: float) -> None:
        """Gives a client up that has said nothing for so long, while it is its turn."""
        if self._waits_for_client() and self.loop.time() - self._heard_at > seconds:
            cycle = self.cycle
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
                if not cycle.response_started:
                    self.transport.write(_TIMEOUT)
            self.transport.close()

    def _waits_for_client(self) -> bool:
        """For the rest of a request, or for the first one. Between two requests uvicorn ends the connection."""
        if self.transport.is_closing() or self.flow.read_paused or self.pipeline:
            return False
        if self.cycle is None:
            return True
        if self.cycle.response_complete:
            return self.timeout_keep_alive_task is None
        return bool(self.cycle.more_body)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        self._unset_keepalive_if_required()
        while not self._broken:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                elif self._declined:
                    data = self._without_upgrade() + data[upgrade.args[0] :]
                    continue
                else:
                    self._refuse()
            except httptools.HttpParserError:
                self._refuse()
            return

    def _should_upgrade(self) -> bool:
        return self.parser.get_method() == b"GET" and super()._should_upgrade()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and not self._should_upgrade():
            self._declined = self.parser.get_method() != b"CONNECT"  # there is nothing to serve without its tunnel
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._is_put_off():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_put_off():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._heard_at = self.loop.time()  # until now it was not the turn of a request that has come meanwhile
        if self._broken and not self.pipeline:
            self._say_malformed()
        else:
            super().on_response_complete()

    def _is_put_off(self) -> bool:
        return self.parser.should_upgrade() and not self._should_upgrade()

    def _without_upgrade(self) -> bytes:
        """The head of the request, for a parser that has not seen it yet."""
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self._declined = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _refuse(self) -> None:
        self.logger.info("Invalid HTTP request received.")
        newest = self.cycle
        self._broken = True
        if newest is None or newest.response_complete:
            self._say_malformed()
        elif newest.more_body:
            # It is the newest itself whose body is broken: either it runs, or it waits behind others.
            if self.pipeline:
                self.pipeline.popleft()
            elif newest.response_started:
                self.transport.close()
            else:
                newest.disconnected = True
                self._say_malformed()

    def _say_malformed(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_REFUSAL)
            self.transport.close()
