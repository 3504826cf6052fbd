"""Who an anonymous visitor turned out to be, from events that carry both ids. The earliest such event decides."""

from __future__ import annotations

from services.aggregator.domain.deltas import Deltas, Link
from services.aggregator.domain.frame import Frame, is_unit

_MAX_KEY_BYTES = 2_600
"""Organisation and visitor are a primary key, and Postgres refuses index entries of more than 2,700 bytes."""


def collect_links(deltas: Deltas, frame: Frame) -> None:
    """Ties go to the lesser user id, so that the order of events means nothing."""
    both = [i for i, event in enumerate(frame.events) if event.anonymous_id and event.user_id]
    if not both:
        return
    times, counted = frame.times.tolist(), frame.verdicts.counted
    for i in both:
        event = frame.events[i]
        anonymous, user = event.anonymous_id, event.user_id
        if not counted[i] or anonymous == user or not is_unit(anonymous) or not is_unit(user):
            continue
        if not _is_key(event.organisation, anonymous):
            continue
        key, link = (event.organisation, anonymous), Link(times[i], user)
        if key not in deltas.links or link < deltas.links[key]:
            deltas.links[key] = link


def _is_key(organisation: str, anonymous: str) -> bool:
    if len(organisation) + len(anonymous) <= _MAX_KEY_BYTES // 4:
        return True
    return len(organisation.encode()) + len(anonymous.encode()) <= _MAX_KEY_BYTES
