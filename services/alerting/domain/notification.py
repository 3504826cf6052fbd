"""What people are told about an incident: one message for each of its transitions and each channel."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["info", "warning", "error", "critical"]
Action = Literal["trigger", "acknowledge", "resolve"]

MAX_DEDUP_KEY = 255
"""Characters that PagerDuty takes."""
_MAX_DEPTH = 16
_MAX_TEXT = 20_000
_MAX_ITEMS, _MAX_ITEM_TEXT = 500, 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One transition of an incident, as every channel that it goes to shall tell it.

    `notify` names the channels; None means every channel that the organisation has. `dedup_key` stays the same
    through the incident (see `dedup_key_of`), `at` is when it was decided, in microseconds UTC.
    """

    organisation: str
    notify: tuple[str, ...] | None
    alert_key: str
    dedup_key: str
    action: Action
    severity: Severity
    title: str
    message: str
    at: int
    data: Mapping[str, Any] = field(default_factory=dict)
    """Evidence: shown field by field."""
    runbook_url: str | None = None
    dashboard_url: str | None = None
    alert_id: int | None = None


def dedup_key_of(organisation: str, alert_key: str, incident: int) -> str:
    """The name of an alert's incident for all receivers; what would be too long ends in a hash."""
    key = f"{organisation}/{alert_key}/{incident}"
    if len(key) <= MAX_DEDUP_KEY:
        return key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{key[: MAX_DEDUP_KEY - len(digest) - 1]}-{digest}"


def storable(text: str, limit: int = _MAX_TEXT) -> str:
    """At most `limit` characters, without what Postgres and JSON cannot hold: U+0000 and lone surrogates."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def storable_data(value: Any, depth: int = 1) -> Any:
    """The value as JSON that every receiver reads: no alert is lost for what it quotes."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**53) < value < 2**53 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return storable(value, _MAX_ITEM_TEXT)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        items = list(value.items())[:_MAX_ITEMS]
        return {storable(str(name), _MAX_ITEM_TEXT): storable_data(part, depth + 1) for name, part in items}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple):
        return [storable_data(part, depth + 1) for part in value[:_MAX_ITEMS]]
    return storable(str(value), _MAX_ITEM_TEXT)
