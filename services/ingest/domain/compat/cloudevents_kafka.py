"""CloudEvents as Kafka records (Kafka protocol binding 1.0), each as one document in the JSON format.

    content-type: application/cloudevents+json     the value is the document     structured mode
    ce_id, ce_source, …; content-type of the data  the value is the data         binary mode
    neither                                        the value should be the document: senders may leave the type out

A batch is no mode of this binding. The document is also what a dead letter keeps, so that it can be replayed.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

import msgspec

from services.ingest.domain.compat.cloudevents import charset_of, document, utf8, without_data
from services.ingest.domain.normalise import MAX_ID_CHARACTERS, Rejected

_PREFIX = "ce_"
_FORMATS = "application/cloudevents"


def document_of(headers: Iterable[tuple[str, bytes | None]], key: bytes | None, value: bytes) -> bytes:
    """What `cloudevents.event_of` reads. Whatever the record holds, nothing of it is lost.

    In binary mode the key stands in for the attribute `partitionkey`, which some senders put nowhere else.
    """
    attributes: dict[str, str] = {}
    media_type: str | None = None
    for given, content in headers:
        name = given.lower()
        if content is None:
            continue
        if name.startswith(_PREFIX) and len(name) > len(_PREFIX):
            attributes.setdefault(name.removeprefix(_PREFIX), _text(content))
        elif name == "content-type" and media_type is None:
            media_type = _text(content).strip()
    if not attributes or (media_type or "").lower().startswith(_FORMATS):
        text = utf8(value, charset_of(media_type or ""))
        return value if isinstance(text, Rejected) else text
    if key and "partitionkey" not in attributes and (partition_key := _key(key)):
        attributes["partitionkey"] = partition_key
    found = document(attributes, media_type, value)
    if isinstance(found, Rejected):  # data that is not what its type says: the document will be refused for it
        encoded = base64.b64encode(value).decode()
        return msgspec.json.encode({**without_data(attributes, media_type), "data_base64": encoded})
    return found


def _text(content: bytes) -> str:
    """UTF-8 by the binding, and as it is: here nothing is percent-encoded."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _key(key: bytes) -> str | None:
    """None for a key that is no text, such as a number in binary."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() and len(text) <= MAX_ID_CHARACTERS else None
