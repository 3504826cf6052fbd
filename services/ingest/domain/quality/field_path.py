"""Fields of events as rules name them: `event_data.customer.phone`, `context.ip`, `user_id`.

One value stands in several places of an event: every way in copies ids, and some copy more. Naming one of those names
them all, since what is hidden in one would else be read in another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from shared.definition_error import DefinitionError

DATA = "event_data"
CONTEXT = "context"
IDS = ("user_id", "anonymous_id", "session_id", "job_id")
_ROOTS = (DATA, CONTEXT)
_OTHER_NAMES = {"properties": DATA}
_MAX_STEPS = 20
_MAX_CHARACTERS = 500
_DOT = re.compile(r"(?<!\\)\.")


@dataclass(frozen=True, slots=True)
class FieldPath:
    """`root` is an id, with no steps, or an object of the event, with the names that lead into it."""

    root: str
    steps: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join([self.root, *(step.replace(".", "\\.") for step in self.steps)])


def _within(root: str, *names: str) -> tuple[FieldPath, ...]:
    return tuple(FieldPath(root, tuple(name.split("."))) for name in names)


_CLOUDEVENT = _within(CONTEXT, "cloudevent.subject", "cloudevent.partitionkey")
_EITHER = (*_within(DATA, "distinct_id", "alias", "$anon_distinct_id"), *_CLOUDEVENT)
"""Users in some events, visitors in others."""
_READ_AS_ID: Mapping[str, tuple[FieldPath, ...]] = {
    "user_id": _within(DATA, "userId"),
    "anonymous_id": _within(DATA, "anonymousId"),
    "session_id": _within(DATA, "sessionId"),
    "job_id": _within(DATA, "jobId", "importJobId", "migrationJobId"),
}
"""Where an id is read from if an event does not state it: these are the id."""
_ALSO: Mapping[str, tuple[FieldPath, ...]] = {
    "user_id": (
        *_within(DATA, "user_id", "$user_id"),
        *_within(CONTEXT, "userId", "traits.userId", "traits.id"),
        *_EITHER,
    ),
    "anonymous_id": (
        *_within(DATA, "anonymous_id", "$device_id", "previousId"),
        *_within(CONTEXT, "anonymousId", "traits.anonymousId"),
        *_EITHER,
    ),
    "session_id": (*_within(DATA, "session_id", "$session_id"), *_within(CONTEXT, "sessionId")),
    "job_id": _within(DATA, "job_id"),
}
"""Where clients leave copies."""
_SAME = (
    (*_within(CONTEXT, "ip"), *_within(DATA, "$ip")),
    (*_within(CONTEXT, "userAgent"), *_within(DATA, "$raw_user_agent")),
)
"""Beside ids."""


def parse_path(text: object, place: str) -> FieldPath:
    """Raises DefinitionError."""
    if not isinstance(text, str) or not text or len(text) > _MAX_CHARACTERS:
        raise DefinitionError(place, "must be the path of a field, such as event_data.email")
    root, *steps = (step.replace("\\.", ".") for step in _DOT.split(text))
    root = _OTHER_NAMES.get(root, root)
    if root in IDS and not steps:
        return FieldPath(root)
    if root not in _ROOTS or not steps or len(steps) > _MAX_STEPS or not all(steps):
        known = f"{DATA}.… or {CONTEXT}.…, or one of {', '.join(IDS)}"
        raise DefinitionError(place, f"must be {known}; a dot within a name is written \\.")
    return FieldPath(root, tuple(steps))


def identity_of(path: FieldPath) -> str | None:
    """The id that the field is; None if it is no id."""
    if path.root in IDS:
        return path.root
    return next((id for id, paths in _READ_AS_ID.items() if path in paths), None)


def everywhere(path: FieldPath) -> tuple[FieldPath, ...]:
    """All places where the field's value stands."""
    identity = identity_of(path)
    if identity is not None:
        return FieldPath(identity), *_READ_AS_ID[identity], *_ALSO[identity]
    return next((places for places in _SAME if path in places), (path,))
