"""Requests as bytes, and what becomes of them when bytes are lost, doubled, swapped or put in."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator, Sequence

_EVENT = {"event_type": "hostile_request", "user_id": "u", "event_data": {"amount": 1.5, "tags": ["a", {"b": None}]}}
_CLOUD = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/hostile", "ce-type": "hostile_request"}

_TOKENS = (
    *(b"\r\n", b"\n", b"\r\n\r\n", b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\t", b"\x7f", b" ", b":", b";", b"%00"),
    *(b"Content-Length: 0\r\n", b"Content-Length: 99999999999999999999\r\n", b"Content-Length: -1\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Content-Encoding: br\r\n"),
    *(b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"HTTP/0.9", b"HTTP/2.0"),
    *(b"0\r\n\r\n", b"FFFFFFFFFFFFFFFF\r\n", b"{", b"}", b"[" * 100, b'"', b"\\u0000", b"\\ud800", b"1e999", b"-"),
    *(b"18446744073709551616", b"NaN", b"../", b"%2e%2e/", b"?" * 50, b"a" * 9_000, b"null", b",,"),
)
"""What parsers of HTTP and JSON are known to stumble over."""


def corpus(key: str) -> list[bytes]:
    """Requests that are all right, one for each way in and each form of a body."""
    event = json.dumps(_EVENT).encode()
    batch = json.dumps({"events": [_EVENT, _EVENT], "sent_at": "2025-03-04T05:06:07Z"}).encode()
    segment = {"type": "track", "event": "hostile_request", "userId": "u", "messageId": "m", "properties": {}}
    posthog = {"event": "hostile_request", "distinct_id": "u", "properties": {}}
    cloud = {"specversion": "1.0", "id": "1", "source": "/hostile", "type": "hostile_request", "data": {}}
    analytics = "/api/v1/streaming-analytics"

    def post(path: str, body: bytes, **headers: str) -> bytes:
        return _request("POST", path, body, key, {name.replace("_", "-"): text for name, text in headers.items()})

    return [
        post(f"{analytics}/events", event),
        post(f"{analytics}/events", gzip.compress(event, mtime=0), Content_Encoding="gzip"),
        post(f"{analytics}/events", event, Idempotency_Key="k-1", X_Client_Version="1"),
        post(f"{analytics}/events/batch", batch),
        post(f"{analytics}/events/batch?first_line=1", event + b"\n" + event, Content_Type="application/x-ndjson"),
        _chunked(f"{analytics}/events/batch", batch, key),
        post("/v1/track", json.dumps(segment).encode()),
        post("/v1/batch", json.dumps({"batch": [segment], "sentAt": "2025-03-04T05:06:07Z"}).encode()),
        post("/batch", json.dumps({"api_key": key, "batch": [posthog]}).encode()),
        post("/capture", b"data=" + json.dumps(posthog).encode(), Content_Type="application/x-www-form-urlencoded"),
        post("/cloudevents", json.dumps(cloud).encode(), Content_Type="application/cloudevents+json"),
        _request("POST", "/cloudevents", b'{"a":1}', key, _CLOUD),
        _request("GET", f"{analytics}/dead-letters?limit=1&reason=x", b"", key, {}),
        _request("GET", f"{analytics}/data-sources/1", b"", key, {}),
    ]


def _request(method: str, path: str, body: bytes, key: str, headers: dict[str, str]) -> bytes:
    lines = {"Host": "ingest", "X-API-Key": key, "Content-Type": "application/json", **headers}
    head = "".join(f"{name}: {text}\r\n" for name, text in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _chunked(path: str, body: bytes, key: str) -> bytes:
    half = len(body) // 2
    head = f"POST {path} HTTP/1.1\r\nHost: ingest\r\nX-API-Key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:], b""))


def mutated(requests: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """One after another without end, the same for the same seed."""
    rng = random.Random(seed)
    while True:
        head, framed, body = _parted(rng.choice(requests))
        # Half of them anywhere; of the others only what the parser of HTTP does not look at.
        wrong = bytearray(body if framed and rng.random() < 0.5 else head + body)
        whole = len(wrong) > len(body) or not framed
        for _ in range(rng.choice((1, 1, 2, 3, 8))):
            _mutate(wrong, requests, rng)
        yield bytes(wrong) if whole else _LENGTH.sub(b"Content-Length: %d\r\n" % len(wrong), head) + wrong


_LENGTH = re.compile(rb"Content-Length: [0-9]+\r\n")


def _parted(request: bytes) -> tuple[bytes, bool, bytes]:
    """Its head, whether that tells the length of a body, and the body."""
    at = request.index(b"\r\n\r\n") + 4
    return request[:at], b"Content-Length: " in request[:at] and len(request) > at, request[at:]


def _mutate(request: bytearray, requests: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(request) + 1)
    end = min(len(request), at + rng.choice((1, 1, 2, 8, 64)))
    match rng.randrange(7):
        case 0:
            request[at:at] = rng.choice(_TOKENS)
        case 1:
            del request[at:end]
        case 2:
            request[at:at] = request[at:end] * rng.choice((1, 2, 50))
        case 3:
            request[at:end] = rng.randbytes(end - at)
        case 4:
            for place in range(at, end):
                request[place] ^= 1 << rng.randrange(8)
        case 5:
            other = rng.choice(requests)
            request[at:] = other[rng.randrange(len(other)) :]
        case _:
            del request[at:]
