"""A gateway in memory that answers as the platform does, and misbehaves on request."""

from __future__ import annotations

import base64
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

from services.ingest.domain.batch_body import NoBatch, events_of
from services.ingest.domain.normalise import Rejected
from shared import strict_json
from shared.clock import HOUR, SECOND, system_clock
from shared.messages import Event
from tests.unit.imports.fake_guard import HASTE, FakeGuard
from tests.unit.ingest.normalised import normalise

Mishap = Callable[[int], str | None]
"""Number of the request (from 1) → None, `before` (503, nothing stored) or `after` (stored, then 502)."""


class FakeGateway:
    """Judges events with ingest's own rules; counts each id once; too old ones are late."""

    def __init__(self, mishap: Mishap = lambda _: None) -> None:
        self.events: dict[str, Event] = {}
        self.late: set[str] = set()
        self.duplicates = 0
        self.letters: list[dict[str, Any]] = []
        self.metrics: dict[str, Any] = {}
        self.experiment: dict[str, Any] = {}
        self.variants: list[dict[str, Any]] = []
        self.started = False
        self.units: dict[str, str] = {}
        self.requests = Counter[str]()
        self.forget: Callable[[Event], bool] = lambda _: False
        """Acknowledged and lost, as no platform may."""
        self.guard = FakeGuard()
        self._mishap = mishap
        self._number = itertools.count(1)
        self._ids = map(str, itertools.count(1))

    def application(self) -> web.Application:
        app = web.Application(client_max_size=16 * 2**20)
        streaming, ab = "/api/v1/streaming-analytics", "/api/v1/ab-testing"
        app.add_routes(
            [
                web.post(f"{streaming}/events", self._one),
                web.post(f"{streaming}/events/batch", self._batch),
                web.get(f"{streaming}/metrics", self._journeys),
                web.get(streaming + "/metrics/{key}", self._totals),
                web.get(f"{streaming}/dead-letters", self._dead_letters),
                web.put("/api/v1/admin/metrics/{key}", self._define),
                web.post(f"{ab}/experiments", self._create),
                web.post(ab + "/experiments/{id}/variants", self._add_variant),
                web.post(ab + "/experiments/{id}/start", self._start),
                web.get(ab + "/experiments/{id}/results", self._results),
                web.post(f"{ab}/assign", self._assign),
                *self.guard.routes(),
            ]
        )
        return app

    async def _one(self, request: web.Request) -> web.Response:
        return await self._taking(request, self._take_one)

    async def _batch(self, request: web.Request) -> web.Response:
        return await self._taking(request, self._take_batch)

    async def _taking(self, request: web.Request, take: Callable[[bytes], web.Response]) -> web.Response:
        raw = await request.read()
        self.requests["events"] += 1
        mishap = self._mishap(next(self._number))
        if mishap == "before":
            return web.json_response({"reason": "overloaded"}, status=503, headers={"Retry-After": "0"})
        answer = take(raw)
        return web.Response(status=502) if mishap == "after" else answer

    def _take_one(self, raw: bytes) -> web.Response:
        verdict = self._judge(raw)
        if isinstance(verdict, Event):
            return web.json_response({"event_id": verdict.event_id, "status": "accepted"}, status=202)
        return web.json_response({"reason": verdict.reason.value, "detail": verdict.detail}, status=422)

    def _take_batch(self, raw: bytes) -> web.Response:
        parts = events_of(raw)
        if isinstance(parts, NoBatch):
            return web.json_response({"reason": parts.fault.value}, status=400)
        verdicts = [self._judge(part) for part in parts]
        results = [
            {"event_id": v.event_id, "status": "accepted" if isinstance(v, Event) else "invalid"} for v in verdicts
        ]
        accepted = sum(isinstance(v, Event) for v in verdicts)
        return web.json_response({"accepted": accepted, "results": results}, status=202 if accepted else 422)

    def _judge(self, raw: bytes) -> Event | Rejected:
        now = system_clock()
        verdict = normalise(raw, organisation="o", received_at=now, context={}, new_id=lambda: next(self._ids))
        if isinstance(verdict, Rejected):
            try:
                shown = {"payload": strict_json.loads(raw)}
            except strict_json.InvalidJsonError:
                shown = {"payload_base64": base64.b64encode(raw).decode()}
            self.letters.insert(0, {"id": next(self._ids), "reason": verdict.reason.value, **shown})
        elif verdict.event_id in self.events:
            self.duplicates += 1
        elif not self.forget(verdict):
            self.events[verdict.event_id] = verdict
            self.guard.count(verdict)
            if verdict.time < now - 24 * HOUR:
                self.late.add(verdict.event_id)
        return verdict

    async def _define(self, request: web.Request) -> web.Response:
        self.metrics[request.match_info["key"]] = msgspec.json.decode(await request.read())
        return web.json_response({"status": "created", "version": 1}, status=201)

    async def _create(self, request: web.Request) -> web.Response:
        self.experiment = msgspec.json.decode(await request.read())
        return web.json_response({"id": 7, **self.experiment}, status=201)

    async def _add_variant(self, request: web.Request) -> web.Response:
        self.variants.append(msgspec.json.decode(await request.read()))
        return web.json_response({"id": len(self.variants)}, status=201)

    async def _start(self, request: web.Request) -> web.Response:
        self.started = True
        return web.json_response({"status": "running"})

    async def _assign(self, request: web.Request) -> web.Response:
        body = msgspec.json.decode(await request.read())
        assert self.started
        names = [variant["variant_name"] for variant in self.variants]
        name = self.units.setdefault(body["user_id"], names[len(self.units) % 2])
        return web.json_response({"variant": {"variant_name": name}, "assigned": True, "reason": "split"})

    async def _totals(self, request: web.Request) -> web.Response:
        if request.match_info["key"] not in self.metrics:
            return web.json_response({"reason": "not_found"}, status=404)
        totals = {
            "counted": len(self.events) - len(self.late),
            "late": len(self.late),
            "duplicates": self.duplicates,
            "invalid": 0,
        }
        return web.json_response({"totals": totals})

    async def _journeys(self, request: web.Request) -> web.Response:
        spec = self.metrics[request.query["metric_name"]]
        late = system_clock() - int(spec["timeout"].removesuffix("s")) * SECOND // HASTE
        counts: dict[str, Counter[str]] = {}
        for job in self._jobs().values():
            start = job.get(spec["start"]["event"])
            if start is None:
                continue
            counted = counts.setdefault(start.properties["variant"], Counter())
            counted["started"] += 1
            counted[self._outcome(spec, job, overdue=start.time < late)] += 1
        fields = (
            "started",
            "completed",
            "abandoned_after_navigation",
            "abandoned_timeout",
            "in_progress",
            "abandoned",
        )
        return web.json_response(
            [
                {"group": {"properties.variant": name}, "aggregation_type": field, "metric_value": c[field]}
                for name, c in counts.items()
                for field in fields
            ]
        )

    def _jobs(self) -> dict[str, dict[str, Event]]:
        """Job → event type → its event, of navigations only the one that navigates away."""
        jobs: dict[str, dict[str, Event]] = {}
        for event in self.events.values():
            navigates = event.properties.get("userAction", "navigate_away") == "navigate_away"
            if event.job_id is not None and navigates:
                jobs.setdefault(event.job_id, {})[event.event_type] = event
        return jobs

    def _outcome(self, spec: dict[str, Any], job: dict[str, Event], *, overdue: bool) -> str:
        if spec["complete"]["event"] in job:
            return "completed"
        if spec["navigate"]["event"] in job and (overdue or spec["dead"]["event"] in job):
            return "abandoned_after_navigation"
        return "abandoned_timeout" if overdue else "in_progress"

    async def _dead_letters(self, request: web.Request) -> web.Response:
        return web.json_response({"items": self.letters[: int(request.query["limit"])]})

    async def _results(self, request: web.Request) -> web.Response:
        key = self.experiment["key"]
        body: dict[str, Any] = {}
        for variant in self.variants:
            name = variant["variant_name"]
            done = [
                e.properties["totalDuration"]
                for e in self.events.values()
                if e.event_type == "data_import_completed" and self.units.get(e.user_id or "") == name
            ]
            mean = sum(done) / len(done) if done else None
            metrics = {
                f"{key}.imports_completed": {"count": len(done), "units": len(done), "mean": 1.0},
                f"{key}.import_duration": {"count": len(done), "units": len(done), "mean": mean},
            }
            sample = sum(given == name for given in self.units.values())
            body[name] = {"sample_size": sample, "metrics": metrics if done else {}}
        return web.json_response({"variants": body})


@asynccontextmanager
async def serving(gateway: FakeGateway) -> AsyncIterator[str]:
    """Its URL, on a free port."""
    runner = web.AppRunner(gateway.application(), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
