"""Receivers of alerts on loopback ports: Slack's webhook, PagerDuty's Events API v2 and a mail server.

They take what the real ones take, refuse what they refuse, remember what came, and misbehave when told to.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult

from examples.imports.domain.inbox import Channel, Received, RefusedError, mail, pagerduty_event, slack_message
from shared.clock import Clock, system_clock

_HOST = "127.0.0.1"
_TOO_LARGE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fault:
    """How one attempt goes wrong.

    `answer`: the status (HTTP, or SMTP after the data) and what is said; `hang`: no answer, ever; `close`: the
    connection ends without one; `hold`: all goes well, but not before `release`. With `accepts` the message is taken
    all the same: its sender cannot know.
    """

    kind: Literal["answer", "hang", "close", "hold"]
    status: int = 500
    text: str = "internal error"
    retry_after: str | None = None
    location: str | None = None
    accepts: bool = False


class Receivers:
    """`messages` holds what was accepted, in order; `attempts` counts what was tried, by channel."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._faults: dict[Channel, deque[Fault]] = {"slack": deque(), "pagerduty": deque(), "email": deque()}
        self._changed = asyncio.Condition()
        self._released = asyncio.Event()
        self._hook = f"/services/T{secrets.token_hex(4)}/B{secrets.token_hex(4)}/{secrets.token_hex(12)}"
        self.messages: list[Received] = []
        self.attempts: dict[Channel, int] = {"slack": 0, "pagerduty": 0, "email": 0}
        self.refusals: list[tuple[Channel, str]] = []
        self.envelopes: list[tuple[str, tuple[str, ...], bytes]] = []
        """Of each mail: sender, recipients, content."""
        self.logins: list[tuple[str, str]] = []
        self.http_port = 0
        self.smtp_port = 0
        self.host = _HOST
        self.routing_key = secrets.token_hex(16)

    @property
    def slack_url(self) -> str:
        return f"http://{self.host}:{self.http_port}{self._hook}"

    @property
    def pagerduty_url(self) -> str:
        return f"http://{self.host}:{self.http_port}/v2/enqueue"

    def misbehave(self, channel: Channel, *faults: Fault) -> None:
        """The next attempts on `channel` go wrong like this, one after the other; those after them go well."""
        self._faults[channel].extend(faults)

    def release(self) -> None:
        """What was held, or will be, goes on."""
        self._released.set()

    def of(self, channel: Channel) -> list[Received]:
        return [message for message in self.messages if message.channel == channel]

    def incidents(self) -> dict[str, str]:
        """PagerDuty's view: the last action by dedup key, whatever its repeats."""
        return {message.id: message.action for message in self.of("pagerduty")}

    async def until(self, condition: Callable[[], bool], *, seconds: float = 30) -> None:
        """Returns once `condition`, asked whenever something was tried, holds. Raises TimeoutError."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    async def http(self, request: web.Request) -> web.StreamResponse:
        """Both HTTP receivers, and `GET /messages`."""
        if request.method == "GET" and request.path == "/messages":
            return web.json_response([message.as_json() for message in self.messages])
        if request.path == "/v2/enqueue":
            return await self._post(request, "pagerduty", pagerduty_event, _pagerduty_answer, _pagerduty_refusal)
        if request.path == self._hook:
            return await self._post(request, "slack", slack_message, _slack_answer, _slack_refusal)
        return web.Response(status=404, text="no_service")

    async def _post(
        self,
        request: web.Request,
        channel: Channel,
        read: Callable[[bytes, int], Received],
        answer: Callable[[Received], web.Response],
        refusal: Callable[[RefusedError], web.Response],
    ) -> web.StreamResponse:
        body = await request.read()
        fault = await self._attempted(channel)
        if fault is not None and not fault.accepts:
            return await _misbehaved(request, fault)
        try:
            message = read(body, self._clock())
        except RefusedError as error:
            self.refusals.append((channel, str(error)))
            return refusal(error)
        await self._take(message)
        return answer(message) if fault is None else await _misbehaved(request, fault)

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        fault = await self._attempted("email")
        if fault is None or fault.accepts:
            try:
                message = mail(envelope.content, self._clock())
            except RefusedError as error:
                self.refusals.append(("email", str(error)))
                return str(error)
            self.envelopes.append((envelope.mail_from, tuple(envelope.rcpt_tos), envelope.content))
            await self._take(message)
        if fault is None:
            return "250 2.0.0 OK: queued"
        if fault.kind == "hang":
            await asyncio.Event().wait()
        if fault.kind == "close" and server.transport is not None:
            server.transport.close()
        return f"{fault.status} {fault.text}"

    def authenticate(self, server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        name, password = data.login.decode(), data.password.decode()
        self.logins.append((name, password))
        return AuthResult(success=password != "wrong", handled=password != "wrong")

    async def _attempted(self, channel: Channel) -> Fault | None:
        async with self._changed:
            self.attempts[channel] += 1
            self._changed.notify_all()
        fault = self._faults[channel].popleft() if self._faults[channel] else None
        if fault is not None and fault.kind == "hold":
            await self._released.wait()
            return None
        return fault

    async def _take(self, message: Received) -> None:
        async with self._changed:
            self.messages.append(message)
            self._changed.notify_all()


@asynccontextmanager
async def open_receivers(
    *, clock: Clock = system_clock, tls: ssl.SSLContext | None = None, implicit_tls: bool = False
) -> AsyncIterator[Receivers]:
    """Receivers on free ports of 127.0.0.1. With `tls` the mail server offers STARTTLS, or speaks TLS at once."""
    loop = asyncio.get_running_loop()
    receivers = Receivers(clock)
    app = web.Application(client_max_size=_TOO_LARGE)
    app.router.add_route("*", "/{path:.*}", receivers.http)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, _HOST, 0).start()
    receivers.http_port = runner.addresses[0][1]
    sessions: set[SMTP] = set()

    def session() -> SMTP:
        protocol = SMTP(
            receivers,
            hostname="receivers.example",
            loop=loop,
            data_size_limit=_TOO_LARGE,
            tls_context=None if implicit_tls else tls,
            authenticator=receivers.authenticate,
            auth_require_tls=False,
        )
        sessions.add(protocol)
        return protocol

    mails = await loop.create_server(session, _HOST, 0, ssl=tls if implicit_tls else None)
    receivers.smtp_port = mails.sockets[0].getsockname()[1]
    try:
        yield receivers
    finally:
        mails.close()
        for protocol in sessions:
            if protocol.transport is not None:
                protocol.transport.close()
        await runner.cleanup()


async def _misbehaved(request: web.Request, fault: Fault) -> web.StreamResponse:
    if fault.kind == "hang":
        await asyncio.Event().wait()
    if fault.kind == "close":
        assert request.transport is not None
        request.transport.close()
    wanted = {"Retry-After": fault.retry_after, "Location": fault.location}
    headers = {name: value for name, value in wanted.items() if value is not None}
    return web.Response(status=fault.status, text=fault.text, headers=headers)


def _slack_answer(_: Received) -> web.Response:
    return web.Response(text="ok")


def _slack_refusal(error: RefusedError) -> web.Response:
    return web.Response(status=400, text=str(error))


def _pagerduty_answer(message: Received) -> web.Response:
    return web.json_response({"status": "success", "message": "Event processed", "dedup_key": message.id}, status=202)


def _pagerduty_refusal(error: RefusedError) -> web.Response:
    body = {"status": "invalid event", "message": "Event object is invalid", "errors": list(error.errors)}
    return web.json_response(body, status=400)


async def _serve() -> None:
    """For trying out by hand: runs until it is interrupted."""
    async with open_receivers() as receivers:
        where = {
            "slack": receivers.slack_url,
            "pagerduty": receivers.pagerduty_url,
            "routing_key": receivers.routing_key,
            "smtp": f"{receivers.host}:{receivers.smtp_port}",
            "messages": f"http://{receivers.host}:{receivers.http_port}/messages",
        }
        print(json.dumps(where, indent=2), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    argparse.ArgumentParser(description="Receivers for trying out by hand, until Ctrl-C.").parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve())
