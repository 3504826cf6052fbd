"""What older clients of PostHog wrap around their events, and where a body without an envelope has its key."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import parse_qs

import msgspec

from services.ingest.domain.batch_body import taken_apart
from services.ingest.domain.compat.envelope import fields_of


def key_in(raw: bytes) -> str | None:
    """The project's key, where a single event carries it. Never raises: what is no event has none."""
    event = fields_of(raw)
    properties = event.get("properties")
    within = properties if isinstance(properties, dict) else {}
    for value in (event.get("api_key"), event.get("token"), within.get("token"), within.get("api_key")):
        if isinstance(value, str) and value:
            return value
    return None


_FORM = re.compile(rb"(?:^|&)data=")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}")


def inside(body: bytes) -> bytes | None:
    """What a form or Base64 wraps; None for a body that is neither."""
    if body.lstrip()[:1] in (b"{", b"["):
        return None
    if _FORM.search(body):
        try:
            found = parse_qs(body, max_num_fields=20).get(b"data")
        except ValueError:
            return None
        return found[0] if found else None
    text = body.strip().replace(b" ", b"+")  # a form's way with a plus
    if not _BASE64.fullmatch(text):
        return None
    try:
        return base64.b64decode(
            text + b"=" * (-len(text) % 4), altchars=b"-_" if b"-" in text or b"_" in text else None
        )
    except binascii.Error:
        return None


def carries_batch(body: bytes) -> bool:
    """Whether the object is a request with a list of events rather than one event."""
    if b'"batch"' not in body:
        return False
    try:
        return _CARRIER.decode(body).batch is not None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return taken_apart(body, "batch") is not None


class _Carrier(msgspec.Struct):
    batch: msgspec.Raw | None = None


_CARRIER = msgspec.json.Decoder(_Carrier)
