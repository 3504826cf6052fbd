"""The part of the gateway in memory that guards: a flag over OFREP, one breaker over the imports, its messages."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any

import aiohttp
import aiosmtplib
import msgspec
from aiohttp import web

from shared.clock import Clock, system_clock, to_iso
from shared.messages import Event

_THRESHOLD_FIELD = "failure_threshold"
HASTE = 5
"""Breakers and journeys wait so many times shorter here than they are told to."""


class FakeGuard:
    """Opens, probes and closes as the platform's breaker does; every transition goes to every channel at once."""

    def __init__(self, clock: Clock = system_clock) -> None:
        self.definitions: dict[str, dict[str, dict[str, Any]]] = {}
        """Kind → key → spec."""
        self.transitions: list[dict[str, str]] = []
        self.state = "closed"
        self.stuck = False
        """Set to keep the flag off for good, as no breaker may."""
        self._clock = clock
        self._since = 0
        self._success = 0
        self._failures: list[int] = []
        self._sending: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.put("/api/v1/admin/{kind:flags|channels|rules|breakers}/{key}", self._define),
            web.delete("/api/v1/admin/channels/{key}", self._remove),
            web.get("/api/v1/admin/breakers/{key}", self._show),
            web.get("/api/v1/admin/rules/{key}", self._show_rule),
            web.get("/api/v1/admin/channels/{key}", self._show_channel),
            web.post("/ofrep/v1/evaluate/flags/{key}", self._evaluate),
        ]

    def count(self, event: Event) -> None:
        """Takes an event that was accepted for the first time."""
        if event.event_type != "data_import_completed" or not self._breakers:
            return
        self._pass_time()
        if event.properties["finalStatus"] == "failed":
            self._failures.append(event.time)
        else:
            self._success = max(self._success, event.time)
        floor = max(self._success, self._since)
        self._failures = [time for time in self._failures if time > floor]
        if self.state == "closed" and len(self._failures) >= self._spec[_THRESHOLD_FIELD]:
            self._move("open", "trigger")
        elif self.state == "half_open" and self._success > self._since:
            self._move("closed", "resolve")
        elif self.state == "half_open" and self._failures:
            self._move("open", None)

    async def settled(self) -> None:
        """Returns when every message has been delivered."""
        await asyncio.gather(*self._sending)

    @property
    def _breakers(self) -> Mapping[str, dict[str, Any]]:
        return self.definitions.get("breakers", {})

    @property
    def _spec(self) -> dict[str, Any]:
        return next(iter(self._breakers.values()))

    def _pass_time(self) -> None:
        if self.state == "open" and not self.stuck and self._is_due():
            self._move("half_open", None)

    def _is_due(self) -> bool:
        return self._clock() >= self._since + 1000 * int(self._spec["timeout_ms"]) // HASTE

    def _move(self, state: str, action: str | None) -> None:
        self._since = self._clock()
        self.transitions.insert(0, {"from": self.state, "to": state, "at": to_iso(self._since)})
        self.state = state
        if action is not None:
            for spec in self.definitions["channels"].values():
                self._start(_SEND[spec["type"]](spec, action, f"Import circuit breaker: {state}"))

    def _start(self, sending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _define(self, request: web.Request) -> web.Response:
        kind, key = request.match_info["kind"], request.match_info["key"]
        self.definitions.setdefault(kind, {})[key] = msgspec.json.decode(await request.read())
        return web.json_response({"key": key, "status": "created", "version": 1}, status=201)

    async def _remove(self, request: web.Request) -> web.Response:
        del self.definitions["channels"][request.match_info["key"]]
        return web.json_response({"status": "removed"})

    async def _show(self, request: web.Request) -> web.Response:
        if request.match_info["key"] not in self._breakers:
            return web.json_response({"reason": "not_found"}, status=404)
        self._pass_time()
        moves = [(t["from"], t["to"]) for t in self.transitions]
        return web.json_response(
            {
                "state": self.state,
                "openings": moves.count(("closed", "open")),
                "closings": sum(to == "closed" for _, to in moves),
                "transitions": self.transitions,
            }
        )

    async def _show_rule(self, request: web.Request) -> web.Response:
        return web.json_response({"groups": [{"state": "ok"}]})

    async def _show_channel(self, request: web.Request) -> web.Response:
        return web.json_response({"pending": len(self._sending)})

    async def _evaluate(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        if key not in self.definitions.get("flags", {}):
            return web.json_response({"key": key, "errorCode": "FLAG_NOT_FOUND"}, status=404)
        unit = msgspec.json.decode(await request.read())["context"]["targetingKey"]
        self._pass_time()
        if self.state == "closed":
            return web.json_response({"key": key, "value": True, "reason": "STATIC", "variant": "on", "metadata": {}})
        cause = {"cause": f"breaker:{next(iter(self._breakers))}"}
        if self.state == "half_open" and zlib.crc32(unit.encode()) % 100 < self._spec["probe_percentage"]:
            metadata = {**cause, "probe": True}
            return web.json_response(
                {"key": key, "value": True, "reason": "SPLIT", "variant": "on", "metadata": metadata}
            )
        return web.json_response(
            {"key": key, "value": False, "reason": "DISABLED", "variant": "off", "metadata": cause}
        )


async def _to_slack(spec: Mapping[str, Any], action: str, text: str) -> None:
    await _post(spec["url"], {"text": f"{action}: {text}"})


async def _to_pagerduty(spec: Mapping[str, Any], action: str, text: str) -> None:
    payload = {"summary": text, "source": "fake", "severity": "critical"}
    body = {"routing_key": spec["routing_key"], "event_action": action, "dedup_key": "breaker/1", "payload": payload}
    await _post(spec["url"], body)


async def _to_email(spec: Mapping[str, Any], action: str, text: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = spec["from"], ", ".join(spec["to"]), f"{action}: {text}"
    message["Message-ID"] = make_msgid(domain="fake.example")
    message["Date"] = format_datetime(datetime.now(UTC))
    message.set_content(text)
    await aiosmtplib.send(message, hostname=spec["host"], port=spec["port"], start_tls=False)


async def _post(url: str, body: Mapping[str, Any]) -> None:
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        response.raise_for_status()


_SEND = {"slack": _to_slack, "pagerduty": _to_pagerduty, "email": _to_email}
