"""Whatever is sent, the answer is no 5xx, and a 2xx means that everything sent is an event or a dead letter."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.compat.paths import COMPATIBLE_PATHS
from tests.unit.ingest.compat.service import KEY, Service

PATHS = sorted(COMPATIBLE_PATHS)

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["track", "alias", "identify", "$identify", "1.0", "u-1", "\x00", "\ud800", "2026-11-22T00:30:21Z"]
    ),
    st.sampled_from(["9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+14:00", 10**400, 1e308, "", KEY]),
)
_NAMES = st.sampled_from(
    [
        *("type", "event", "name", "userId", "anonymousId", "previousId", "messageId", "timestamp", "sentAt"),
        *("originalTimestamp", "properties", "traits", "context", "writeKey", "batch", "app", "os", "network"),
        *("sessionId", "api_key", "token", "distinct_id", "uuid", "sent_at", "offset", "options", "alias", "$set"),
        *("$lib", "$session_id", "$insert_id", "data", "data_base64", "specversion", "id", "source", "subject"),
        *("time", "userid", "datacontenttype"),
    ]
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_NAMES | st.text(max_size=5), inner, max_size=8)
    ),
    max_leaves=25,
)
_MESSAGES = st.dictionaries(_NAMES, _VALUES, max_size=10)
_DOCUMENTS = st.one_of(
    _VALUES, _MESSAGES, st.lists(_MESSAGES, max_size=4), st.builds(dict, batch=st.lists(_MESSAGES))
)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _cut(text: bytes, at: int) -> bytes:
    return text[: at % (len(text) + 1)]


_BODIES = st.one_of(
    st.binary(max_size=200),
    _DOCUMENTS.map(_json),
    st.builds(_cut, _DOCUMENTS.map(_json), st.integers(0, 10_000)),
    _DOCUMENTS.map(lambda value: gzip.compress(_json(value))),
    _DOCUMENTS.map(lambda value: b"data=" + base64.b64encode(_json(value))),
    st.binary(max_size=100).map(base64.b64encode),
    st.integers(1, 100_000).map(lambda depth: b'{"batch":' + b"[" * depth),
)
_CONTENT_TYPES = st.sampled_from(
    [
        "",
        "application/json",
        "application/json; charset=utf-16",
        "text/plain; charset=nonsense",
        "application/x-www-form-urlencoded",
        "application/cloudevents+json",
        "application/cloudevents+json; charset=utf-32",
        "application/cloudevents-batch+json",
        "application/cloudevents+avro",
    ]
)
_HEADER_VALUES = st.one_of(
    st.sampled_from(["1.0", "0.3", "%00", "%ff", "%C3%B6", '"', '""', "2026-11-22T00:30:21Z", "data"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=10),
)
_HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *("ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "ce-subject", "ce-data", "ce-userid"),
            *("ce-", "posthog-sdk-info", "posthog-request-timestamp"),
        ]
    ),
    _HEADER_VALUES,
    max_size=8,
)


@given(
    path=st.sampled_from(PATHS),
    body=_BODIES,
    content_type=_CONTENT_TYPES,
    headers=_HEADERS,
    query=st.sampled_from(["", "?_=1795307421000", "?_=" + "9" * 15, "?" + "a=1&" * 80]),
)
async def test_no_body_makes_the_service_fail(
    path: str, body: bytes, content_type: str, headers: dict[str, str], query: str
) -> None:
    service = Service()
    async with service.client:
        authorized = {"Authorization": f"Bearer {KEY}", "Content-Type": content_type, **headers}

        answer = await service.send(path + query, body, authorized)
        unauthorized = await service.send(path + query, body, {"Content-Type": content_type, **headers})

    assert answer.status_code < 500, answer.text
    assert unauthorized.status_code < 500, unauthorized.text
    assert answer.headers["content-type"].endswith("json")
    assert isinstance(json.loads(answer.content), dict)
    kept = [letter.payload for letter in service.dead()] + [repr(event).encode() for event in service.stored()]
    assert not any(KEY.encode() in text for text in kept)


@pytest.mark.parametrize("path", PATHS)
async def test_no_path_takes_anything_without_a_key(path: str) -> None:
    service = Service()
    async with service.client:
        bodies = (b"{}", b"[]", b'{"batch":[{}]}', b'{"type":"track","event":"e","userId":"u"}')
        answers = [await service.send(path, body) for body in bodies]

    assert {answer.status_code for answer in answers} <= {400, 401, 415, 422}
    assert not service.stored()
    assert not service.dead()
