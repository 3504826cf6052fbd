"""Other products' formats as our events: pure translation, one module a product."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.ingest.domain.compat import cloudevents, posthog, segment
from services.ingest.domain.normalise import EventBody, Rejected

READERS: Mapping[str, Callable[[bytes], EventBody | Rejected]] = {
    "segment": lambda raw: segment.event_of(raw, segment.Common()),
    "posthog": lambda raw: posthog.event_of(raw, posthog.Common()),
    "cloudevents": cloudevents.event_of,
}
"""Origin of a dead letter → what reads its payload without the request that was around it."""
