"""HTTP/1.1 as uvicorn speaks it, kept from two faults of its.

A request that asks for another protocol than WebSocket (Java's client asks for h2c, in the first request of every
connection) loses its body there; it is served as if it had not asked. And bytes that are no HTTP are answered at
once, even before the requests that came ahead of them on the same connection; here they wait their turn.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from shared.joined_writes import JoinedWrites

_MALFORMED = (
    b'{"type":"about:blank","title":"malformed request","status":400,"reason":"malformed_request",'
    b'"detail":"this is no valid HTTP/1.1 request"}'
)
_REFUSAL = (
    STATUS_LINE[400]
    + b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(_MALFORMED)
    + _MALFORMED
)


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _declined = False
    """The request at hand asks for another protocol: it is parsed once more without that."""
    _broken = False
    """What came last is no HTTP: it is said so when all requests before have been answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(cast(asyncio.Transport, JoinedWrites(transport, self.loop)))

    def data_received(self, data: bytes) -> None:
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
