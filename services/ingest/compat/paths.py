"""Where other products' clients send to. These paths are open to all: the key may stand in the body."""

from __future__ import annotations

SEGMENT_CALLS = {
    f"/v1/{name}": call
    for call in ("track", "identify", "page", "screen", "group", "alias")
    for name in (call, call[0])
}
"""Path → call. The browser library uses the first letters."""

SEGMENT_BATCHES = frozenset({"/v1/batch", "/v1/b", "/v1/import"})


def _both(*paths: str) -> frozenset[str]:
    """Clients do not agree on the slash at the end."""
    return frozenset(paths) | {f"{path}/" for path in paths}


POSTHOG_CAPTURE = _both("/capture", "/batch", "/e", "/i/v0/e")
POSTHOG_EVENTS = _both("/i/v1/analytics/events")
CLOUDEVENTS = _both("/cloudevents")

BROWSER_PATHS = frozenset(SEGMENT_CALLS) | SEGMENT_BATCHES | POSTHOG_CAPTURE | POSTHOG_EVENTS
"""Asked from web pages of other origins too."""

COMPATIBLE_PATHS = BROWSER_PATHS | CLOUDEVENTS
