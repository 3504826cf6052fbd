"""The platform's REST API as an operator uses it: set an experiment up, watch it, read what was counted."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from examples.imports.definitions import Definitions
from examples.imports.domain.comparison import VariantCounted
from examples.imports.transport import Answer, Api, Lost

_AB = "/api/v1/ab-testing"
_STREAMING = "/api/v1/streaming-analytics"


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

    async def set_up(self, definitions: Definitions, *, deadline: float) -> int:
        """Defines the metrics, creates the experiment with its variants and starts it. Returns its id."""
        for key, spec in definitions.metrics.items():
            await self._call("PUT", f"/api/v1/admin/metrics/{quote(key, safe='')}", spec, deadline)
        created = await self._call("POST", f"{_AB}/experiments", definitions.experiment, deadline)
        identifier = int(created["id"])
        for variant in definitions.variants:
            await self._call("POST", f"{_AB}/experiments/{identifier}/variants", variant, deadline)
        await self._call("POST", f"{_AB}/experiments/{identifier}/start", None, deadline)
        return identifier

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

    async def _look(self, path: str) -> Any:
        """One try: whoever watches comes again. A refusal is no hiccup and raises."""
        answer = await self._reader.once("GET", path)
        if isinstance(answer, Lost) or answer.retryable:
            return None
        if not answer.ok:
            raise PlatformError(f"GET {path} was answered with {answer.status}: {answer.body}")
        return answer.body


def variant_of(answer: Answer) -> str:
    """The variant's name in the answer of `assign`. Raises PlatformError."""
    body = answer.body
    variant = body.get("variant") if isinstance(body, dict) and answer.ok else None
    if not isinstance(variant, dict) or not body.get("assigned"):
        raise PlatformError(f"assign was answered with {answer.status}: {body}")
    return str(variant["variant_name"])


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
