"""The platform's REST API as an operator uses it: set an experiment up, watch it, read what was counted."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from examples.imports.definitions import Definitions, Document
from examples.imports.domain.comparison import VariantCounted
from examples.imports.domain.journeys import Journeys
from examples.imports.domain.valve import BreakerReport, FlagAnswer, FlagState
from examples.imports.transport import Answer, Api, Lost
from shared.clock import from_datetime

_AB = "/api/v1/ab-testing"
_STREAMING = "/api/v1/streaming-analytics"
_JOURNEY_FIELDS = ("started", "completed", "abandoned_after_navigation", "abandoned_timeout", "in_progress")


_PARTING_SECONDS = 3.0
_PARTING_LOOK_SECONDS = 0.05


class PlatformError(Exception):
    """An answer that does not let the run go on; the text names the request and the answer."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What became of the events that match one metric."""

    counted: int
    late: int
    duplicates: int
    invalid: int


class Platform:
    """`admin` and `reader` carry their keys. Raises PlatformError, and GaveUpError after a deadline."""

    def __init__(self, admin: Api, reader: Api) -> None:
        self._admin = admin
        self._reader = reader
        self._sent: list[Document] = []

    async def set_up(self, definitions: Definitions, *, deadline: float) -> int:
        """Sends every definition, creates the experiment with its variants and starts it. Returns its id."""
        for document in definitions.documents:
            self._sent.append(document)
            await self._call("PUT", _path(document), document.spec, deadline)
        created = await self._call("POST", f"{_AB}/experiments", definitions.experiment, deadline)
        identifier = int(created["id"])
        for variant in definitions.variants:
            await self._call("POST", f"{_AB}/experiments/{identifier}/variants", variant, deadline)
        await self._call("POST", f"{_AB}/experiments/{identifier}/start", None, deadline)
        return identifier

    @asynccontextmanager
    async def leaving_nothing(self) -> AsyncIterator[None]:
        """After the block, in which the run is set up, nothing of it decides or tells any more: its receivers will be
        gone.

        What its rules had to say is resolved and told first. A platform that does not answer is left as it is.
        """
        try:
            yield
        finally:
            for document in self._sent:
                if document.kind in ("rule", "breaker"):
                    body = msgspec.json.encode({**document.spec, "enabled": False})
                    await self._admin.once("PUT", _path(document), body)
            until = asyncio.get_running_loop().time() + _PARTING_SECONDS
            for document in self._sent:
                if document.kind == "rule":
                    await self._shows(document, until, lambda rule: all(g["state"] == "ok" for g in rule["groups"]))
            for document in self._sent:
                if document.kind == "channel":
                    await self._shows(document, until, lambda channel: channel["pending"] == 0)
                    await self._admin.once("DELETE", _path(document))

    async def _shows(self, document: Document, until: float, wanted: Callable[[Any], bool]) -> None:
        """Returns when the definition's present state is as wanted, at the latest at the instant `until`."""
        while asyncio.get_running_loop().time() < until:
            answer = await self._admin.once("GET", _path(document))
            if not isinstance(answer, Lost) and answer.ok and wanted(answer.body):
                return
            await asyncio.sleep(_PARTING_LOOK_SECONDS)

    async def totals(self, metric: str) -> Totals | None:
        """None while the platform does not answer or does not know the metric yet."""
        body = await self._look(f"{_STREAMING}/metrics/{quote(metric, safe='')}")
        if body is None:
            return None
        totals = body["totals"]
        return Totals(totals["counted"], totals["late"], totals["duplicates"], totals["invalid"])

    async def variants(self, experiment_id: int, definitions: Definitions) -> dict[str, VariantCounted] | None:
        """The experiment's results by variant; None while the platform does not answer."""
        body = await self._look(f"{_AB}/experiments/{experiment_id}/results")
        if body is None:
            return None
        completed, duration = definitions.metric("imports_completed"), definitions.metric("import_duration")
        return {
            name: VariantCounted(
                units=variant["sample_size"],
                completed=variant["metrics"].get(completed, {}).get("units", 0),
                mean_duration=variant["metrics"].get(duration, {}).get("mean"),
            )
            for name, variant in body["variants"].items()
        }

    async def journeys(self, metric: str) -> dict[str, Journeys] | None:
        """What became of the imports of each variant; None while the platform does not answer."""
        readings = await self._look(f"{_STREAMING}/metrics?metric_name={quote(metric, safe='')}&time_window=total")
        if readings is None:
            return None
        found: dict[str, dict[str, int]] = {}
        for reading in readings:
            if reading["aggregation_type"] in _JOURNEY_FIELDS:
                counts = found.setdefault(reading["group"]["properties.variant"], {})
                counts[reading["aggregation_type"]] = reading["metric_value"]
        return {variant: Journeys(**counts) for variant, counts in found.items()}

    async def breaker(self, key: str) -> BreakerReport | None:
        """Its state and how often it has opened and closed; None while the platform does not answer."""
        body = await self._look(f"/api/v1/admin/breakers/{quote(key, safe='')}", self._admin)
        if body is None:
            return None
        closed = [t["at"] for t in reversed(body["transitions"]) if t["to"] == "closed" != t["from"]]
        times = tuple(from_datetime(datetime.fromisoformat(at)) for at in closed)
        return BreakerReport(body["state"], body["openings"], body["closings"], times)

    async def dead_letters(self, experiment_key: str, *, limit: int) -> int | None:
        """How many different events of the run lie among the newest `limit` dead letters; None without an answer."""
        body = await self._look(f"{_STREAMING}/dead-letters?limit={limit}")
        if body is None:
            return None
        payloads = [payload_of(item) for item in body["items"]]
        return len({p.get("event_id") for p in payloads if _belongs_to(p, experiment_key)})

    async def _call(self, method: str, path: str, body: Any, deadline: float) -> Any:
        raw = None if body is None else msgspec.json.encode(body)
        answer = await self._admin.persistently(method, path, raw, deadline=deadline)
        if not answer.ok:
            raise PlatformError(f"{method} {path} was answered with {answer.status}: {answer.body}")
        return answer.body

    async def _look(self, path: str, api: Api | None = None) -> Any:
        """One try: whoever watches comes again. A refusal is no hiccup and raises."""
        answer = await (api or self._reader).once("GET", path)
        if isinstance(answer, Lost) or answer.retryable:
            return None
        if not answer.ok:
            raise PlatformError(f"GET {path} was answered with {answer.status}: {answer.body}")
        return answer.body


def _path(document: Document) -> str:
    return f"/api/v1/admin/{document.kind}s/{quote(document.key, safe='')}"


def variant_of(answer: Answer) -> str:
    """The variant's name in the answer of `assign`. Raises PlatformError."""
    body = answer.body
    variant = body.get("variant") if isinstance(body, dict) and answer.ok else None
    if not isinstance(variant, dict) or not body.get("assigned"):
        raise PlatformError(f"assign was answered with {answer.status}: {body}")
    return str(variant["variant_name"])


def flag_of(answer: Answer) -> FlagAnswer:
    """What an evaluation over OFREP says; without a value the product's own default, off, holds.

    Raises PlatformError.
    """
    body = answer.body
    if not isinstance(body, dict) or not answer.ok:
        raise PlatformError(f"the flag was answered with {answer.status}: {body}")
    metadata = body.get("metadata") or {}
    if body.get("value") is not True:
        return FlagAnswer(FlagState.OFF, metadata.get("cause"))
    return FlagAnswer(FlagState.PROBE if metadata.get("probe") else FlagState.ON, metadata.get("cause"))


def payload_of(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """A dead letter's event, also where it is JSON that only a lenient parser reads; empty if it is none."""
    payload = item.get("payload")
    if payload is None and item.get("payload_base64"):
        try:
            payload = json.loads(base64.b64decode(item["payload_base64"]))
        except (ValueError, RecursionError):  # another client's rubbish, not an event of the run
            payload = None
    return payload if isinstance(payload, dict) else {}


def _belongs_to(payload: Mapping[str, Any], experiment_key: str) -> bool:
    data = payload.get("event_data")
    return isinstance(data, dict) and data.get("experimentKey") == experiment_key
