"""Many events normalised in one go: most of them are ordinary, and cost less than half.

What is said of an ordinary event here is what `normalised` says of it; every other one is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from services.ingest.domain.client_context import merged
from services.ingest.domain.kinds.catalogue import DEMANDS
from services.ingest.domain.normalise import (
    ANONYMOUS_ALIAS,
    EARLIEST,
    FRACTIONS,
    JOB_ALIASES,
    MAX_AHEAD,
    MAX_EVENT_TYPE_CHARACTERS,
    MAX_ID_CHARACTERS,
    SESSION_ALIAS,
    USER_ALIAS,
    EventBody,
    Rejected,
    normalised,
    second_of,
)
from shared.messages import Event

_ALIASES = frozenset((USER_ALIAS, ANONYMOUS_ALIAS, SESSION_ALIAS, *JOB_ALIASES))
_NEVER = 2**62
"""Microseconds: too late, whatever it is added to."""


def all_normalised(
    bodies: Iterable[EventBody | Rejected],
    *,
    organisation: str,
    received_at: int,
    context: Mapping[str, str],
    new_id: Callable[[], str],
) -> list[Event | Rejected]:
    """What `normalised` says of each, in order; what has been rejected stays so.

    Events that state no context of their own share one dict.
    """
    verdicts: list[Event | Rejected] = []
    shared = dict(context)
    latest = received_at + MAX_AHEAD
    have_no_alias, fraction_of, most = _ALIASES.isdisjoint, FRACTIONS.get, MAX_ID_CHARACTERS
    for body in bodies:
        if isinstance(body, Rejected):
            verdicts.append(body)
            continue
        event_id, user_id, anonymous_id = body.event_id, body.user_id, body.anonymous_id
        session_id, job_id, own = body.session_id, body.job_id, body.context
        data = body.event_data or {}
        if not have_no_alias(data):
            # What is not plain text here is found below, and left to `normalised` with all that comes after it.
            if user_id is None:
                user_id = data.get(USER_ALIAS)
            if anonymous_id is None:
                anonymous_id = data.get(ANONYMOUS_ALIAS)
            if session_id is None:
                session_id = data.get(SESSION_ALIAS)
            if job_id is None:
                for name in JOB_ALIASES:
                    if (job_id := data.get(name)) is not None:
                        break
        time, text = received_at, body.event_timestamp
        if text is not None:
            time = (second_of(text[:19]) or 0) + fraction_of(text[19:], _NEVER)
        if (
            EARLIEST <= time <= latest
            and (event_id is None or (isinstance(event_id, str) and 0 < len(event_id) <= most))
            and (user_id is None or (isinstance(user_id, str) and 0 < len(user_id) <= most))
            and (anonymous_id is None or (isinstance(anonymous_id, str) and 0 < len(anonymous_id) <= most))
            and (session_id is None or (isinstance(session_id, str) and 0 < len(session_id) <= most))
            and (job_id is None or (isinstance(job_id, str) and 0 < len(job_id) <= most))
            and _is_ordinary(body.event_type)
        ):
            verdicts.append(
                Event(
                    organisation=organisation,
                    event_id=event_id or new_id(),
                    event_type=body.event_type,
                    time=time,
                    received_at=received_at,
                    user_id=user_id,
                    anonymous_id=anonymous_id,
                    session_id=session_id,
                    job_id=job_id,
                    data_source_id=body.data_source_id or 1,
                    context=shared if own is None else merged(context, own),
                    properties=data,
                )
            )
        else:
            verdicts.append(
                normalised(body, organisation=organisation, received_at=received_at, context=context, new_id=new_id)
            )
    return verdicts


@lru_cache(maxsize=4_096)
def _is_ordinary(event_type: str) -> bool:  # a property of the value, no decision
    """Whether it is a valid type of which nothing further is demanded."""
    return 0 < len(event_type) <= MAX_EVENT_TYPE_CHARACTERS and not event_type.isspace() and event_type not in DEMANDS
