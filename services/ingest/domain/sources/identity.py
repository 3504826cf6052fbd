"""Ids of events that come without one: the same message always gets the same id, so that it counts once."""

from __future__ import annotations

from hashlib import blake2b


def event_id_of(source: str, *parts: object) -> str:
    """32 hexadecimal digits of the source's key and of what tells its messages apart."""
    digest = blake2b(digest_size=16)
    for part in (source, *parts):
        raw = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()
