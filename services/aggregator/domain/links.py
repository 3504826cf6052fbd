"""Who an anonymous visitor turned out to be, from events that carry both ids. The earliest such event decides."""

from __future__ import annotations

from services.aggregator.domain.deltas import Deltas, Link
from services.aggregator.domain.frame import Frame, is_unit

_MAX_KEY_BYTES = 2_600
"""Organisation and visitor are a primary key, and Postgres refuses index entries of more than 2,700 bytes."""


def collect_links(deltas: Deltas, frame: Frame) -> None:
    """Ties go to the lesser user id, so that the order of events means nothing."""
    anonymous_ids = [event.anonymous_id for event in frame.events]
    if not any(anonymous_ids):
        return
    both = [i for i, anonymous_id in enumerate(anonymous_ids) if anonymous_id and frame.events[i].user_id]
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
