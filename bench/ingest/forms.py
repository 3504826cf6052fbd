"""How each kind of system wants its events: the same JSON of each event, in its own wrapping and at its own path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_EVENTS = "/api/v1/streaming-analytics/events"


@dataclass(frozen=True, slots=True)
class Form:
    """A body is `opening`, the events with `separator` between them, and `closing`.

    `path` is where one event goes, `batch_path` where more go; `{topic}` in it stands for the topic's name.
    """

    name: str
    path: str
    batch_path: str
    content_type: str
    opening: bytes = b""
    separator: bytes = b"\n"
    closing: bytes = b""
    wraps_one: bool = True

    def body(self, events: Sequence[bytes], *, is_batch: bool) -> bytes:
        """`events` as JSON objects; a batch may happen to have only one."""
        if not is_batch and not self.wraps_one:
            (event,) = events
            return event
        return self.opening + self.separator.join(events) + self.closing

    def path_for(self, *, is_batch: bool, topic: str) -> str:
        return (self.batch_path if is_batch else self.path).replace("{topic}", topic)


TIDEGATE = Form(
    "tidegate", _EVENTS, f"{_EVENTS}/batch", "application/json", b'{"events":[', b",", b"]}", wraps_one=False
)
BENTO = Form("bento", "/post", "/post", "application/x-ndjson")
STRIMZI = Form(
    "strimzi",
    "/topics/{topic}",
    "/topics/{topic}",
    "application/vnd.kafka.json.v2+json",
    b'{"records":[{"value":',
    b'},{"value":',
    b"}]}",
)
FORMS = {form.name: form for form in (TIDEGATE, BENTO, STRIMZI)}


def form_of(system: str) -> Form:
    """By what the system's name begins with: `bento-tuned` is a `bento`. Any other takes what ours takes."""
    return FORMS.get(system.partition("-")[0], TIDEGATE)
