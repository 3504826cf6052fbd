"""Ids for events that came without one, from the request's Idempotency-Key.

The same key in the same organisation gives the event at the same place the same id, in any process and after any
restart, so that a request that is sent again counts once; nothing has to be remembered for it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable

from services.ingest.domain.normalise import EventBody

HEADER = b"idempotency-key"
MAX_KEY_CHARACTERS = 255
REASON = "idempotency_key_invalid"

_KEY = re.compile(rb"[\x20-\x7e]{1,%d}" % MAX_KEY_CHARACTERS)
_NAMESPACE = uuid.UUID("6f1c39d2-51f7-5a5e-9b0b-6d0f0e1f7a8e")
"""Never changes: a resend may meet the next release."""


class InvalidKeyError(Exception):
    """`str()` says what is wrong with the key."""


class KeyedIds:
    """The ids that one request gives to its events; each is a UUID of version 5."""

    def __init__(self, organisation: str, key: str) -> None:
        # Lengths apart, so that no organisation can reach another's ids by what it puts into its key.
        self._request = uuid.uuid5(_NAMESPACE, f"{len(organisation)}:{organisation}:{key}")

    def of(self, index: int) -> str:
        return str(uuid.uuid5(self._request, str(index)))

    def name(self, body: EventBody, index: int) -> None:
        """Gives the event at place `index`, counted from 0, its id if it has none."""
        if body.event_id is None or body.event_id == "":
            body.event_id = self.of(index)


def idempotency_key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key that lower-case `headers` carry, with or without the quotes that the draft standard puts around it.

    Raises InvalidKeyError.
    """
    values = {value.strip() for name, value in headers if name == HEADER}
    if not values:
        return None
    if len(values) > 1:
        raise InvalidKeyError("a request may carry one Idempotency-Key")
    key = values.pop()
    if len(key) >= 2 and key[:1] == key[-1:] == b'"':
        key = key[1:-1]
    if not _KEY.fullmatch(key):
        raise InvalidKeyError(f"an Idempotency-Key has 1 to {MAX_KEY_CHARACTERS} printable ASCII characters")
    return key.decode("ascii")
