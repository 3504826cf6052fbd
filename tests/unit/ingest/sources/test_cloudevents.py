"""CloudEvents as Kafka records: which event each becomes, and that a dead letter holds all that there was."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.http import CloudEvent as OldCloudEvent
from cloudevents.v1.kafka import to_binary as old_binary
from cloudevents.v1.kafka import to_structured as old_structured

from services.ingest.domain.compat.cloudevents_kafka import document_of
from services.ingest.domain.normalise import EventBody, Reason, Rejected
from services.ingest.domain.sources.definition import SourceDefinition, parse_source

BINARY = {"ce_specversion": b"1.0", "ce_id": b"7", "ce_source": b"/shop", "ce_type": b"order"}
STRUCTURED = {"content-type": b"application/cloudevents+json"}
EVENT = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "order", "data": {"total": 9.5}}


def source(mapping: dict[str, Any] | None = None) -> SourceDefinition:
    config = {"bootstrap_servers": "a:1", "topic": "t", "format": "cloudevents"}
    spec = {"source_type": "kafka", "connection_config": config, "mapping": mapping}
    return parse_source("acme", "key", 9, 1, spec)


def read(
    headers: dict[str, bytes], value: bytes = b"", key: bytes | None = None, mapping: dict[str, Any] | None = None
) -> EventBody | Rejected:
    return source(mapping).body(document_of(list(headers.items()), key, value), event_id="of the offset")


def body(*record: Any, **more: Any) -> EventBody:
    found = read(*record, **more)
    assert isinstance(found, EventBody), found
    return found


def refused(*record: Any) -> Rejected:
    found = read(*record)
    assert isinstance(found, Rejected), found
    return found


def sent(message: Any) -> EventBody:
    """As a producer hands it to Kafka."""
    key = message.key.encode() if isinstance(message.key, str) else message.key
    return body(message.headers, message.value, key)


ATTRIBUTES = {
    "id": "7",
    "source": "/shop",
    "type": "order",
    "specversion": "1.0",
    "datacontenttype": "application/json",
    "partitionkey": "u-1",
}


@pytest.mark.parametrize("convert", [to_binary, to_structured])
def test_what_the_sdk_makes_of_an_event_is_that_event(convert: Any) -> None:
    time = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
    event = CloudEvent({**ATTRIBUTES, "time": time, "traceparent": "00-ä"}, {"total": 9.5})

    message: KafkaMessage = convert(event, JSONFormat())

    found = sent(message)
    assert (found.event_id, found.event_type, found.user_id) == ("/shop 7", "order", "u-1")
    assert (found.event_data, found.data_source_id) == ({"total": 9.5}, 9)
    assert found.event_timestamp == "2025-03-04T05:06:07Z"
    assert found.context is not None
    assert found.context["cloudevent"]["traceparent"] == "00-ä"


@pytest.mark.parametrize("convert", [old_binary, old_structured])
def test_the_sdks_first_version_tells_the_partition_key_by_the_records_key(convert: Any) -> None:
    found = sent(convert(OldCloudEvent(ATTRIBUTES, {"total": 9.5})))

    assert (found.event_id, found.user_id, found.event_data) == ("/shop 7", "u-1", {"total": 9.5})


def test_headers_are_utf8_as_they_stand_whatever_the_case_of_their_names() -> None:
    headers = {**BINARY, "CE_Subject": "50 %25 ä".encode(), "ce_note": b"\xff"}

    found = body(headers, b'{"a":1}')

    assert (found.user_id, found.event_data) == ("50 %25 ä", {"a": 1})
    assert found.context is not None
    assert found.context["cloudevent"]["note"] == "ÿ"


@pytest.mark.parametrize(
    ("content_type", "value", "properties"),
    [
        (None, b"", {}),
        (None, b"[1]", {"data": [1]}),
        (None, b"\x00\xff", {"data_base64": "AP8="}),
        (b"text/plain; charset=iso-8859-1", b"\xe4", {"data": "ä"}),
        (b"application/avro", b"{}", {"data_base64": "e30="}),
        (b"application/json; charset=utf-16le", '{"a":"ä"}'.encode("utf-16le"), {"a": "ä"}),
    ],
    ids=["none", "untyped json", "untyped bytes", "text", "avro", "utf-16"],
)
def test_data_in_binary_mode_is_what_its_type_says(
    content_type: bytes | None, value: bytes, properties: dict[str, Any]
) -> None:
    typed = {} if content_type is None else {"content-type": content_type}
    assert body({**BINARY, **typed}, value).event_data == properties


@pytest.mark.parametrize(
    ("key", "more", "user"),
    [
        (b"k-1", {}, "k-1"),
        (b"k-1", {"ce_partitionkey": b"p-1"}, "p-1"),
        (b"k-1", {"ce_subject": b"s-1"}, "s-1"),
        (b"k-1", {"ce_sessionid": b"x"}, None),
        (b"\xff\x00", {}, None),
        (b"\x00\x00\x00\x07", {}, None),
        (None, {}, None),
    ],
    ids=["key", "attribute", "subject", "other id", "bytes", "number", "no key"],
)
def test_the_records_key_stands_in_for_a_partition_key(
    key: bytes | None, more: dict[str, bytes], user: str | None
) -> None:
    assert body({**BINARY, **more}, b"{}", key).user_id == user


def test_the_content_type_decides_the_mode_and_without_any_sign_the_value_has_to_be_the_event() -> None:
    value = json.dumps(EVENT).encode()
    upper = {"Content-Type": b"Application/CloudEvents+JSON; charset=UTF-8"}
    assert body({**BINARY, "ce_id": b"8", **upper}, value).event_id == "/shop 7"
    assert body({}, value).event_id == "/shop 7"


@pytest.mark.parametrize(
    ("headers", "value", "reason"),
    [
        ({}, b"", Reason.MALFORMED),
        ({}, b"no json", Reason.MALFORMED),
        ({}, b'{"event_type":"a"}', Reason.SPECVERSION),
        (STRUCTURED, b"[]", Reason.SCHEMA),
        ({"content-type": b"application/cloudevents-batch+json"}, json.dumps([EVENT]).encode(), Reason.SCHEMA),
        ({"content-type": b"application/cloudevents+avro"}, b"\x00\x01", Reason.MALFORMED),
        ({**BINARY, "ce_specversion": b"0.3"}, b"{}", Reason.SPECVERSION),
        ({**BINARY, "ce_id": b""}, b"{}", Reason.SCHEMA),
        ({**BINARY, "content-type": b"application/json"}, b"{", Reason.SCHEMA),
        ({**BINARY, "content-type": b"application/json; charset=utf-16"}, b"{", Reason.SCHEMA),
        ({**BINARY, "ce_x": b"\x00"}, b"{}", Reason.NUL),
        (BINARY, b'{"a":1e999}', Reason.NON_FINITE),
    ],
    ids=[
        *("empty", "no json", "ours", "a list", "batch", "avro", "version", "no id"),
        *("bad data", "bad utf-16", "nul", "non-finite"),
    ],
)
def test_what_is_no_cloudevent_is_refused_with_a_reason(
    headers: dict[str, bytes], value: bytes, reason: Reason
) -> None:
    assert refused(headers, value).reason is reason


def test_a_refused_records_document_holds_its_attributes_and_every_byte_of_its_data() -> None:
    headers = [(name, value) for name, value in {**BINARY, "content-type": b"application/json"}.items()]

    document = json.loads(document_of(headers, b"k", b'{"broken":\xff'))

    assert base64.b64decode(document.pop("data_base64")) == b'{"broken":\xff'
    required = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "order"}
    assert document == {**required, "datacontenttype": "application/json", "partitionkey": "k"}


def test_a_mapping_reads_the_event_in_its_json_format_and_keeps_its_id_and_time() -> None:
    mapping = {"event_type": "join('.', ['shop', type])", "user_id": "data.buyer", "event_data": {"by": "source"}}
    headers = {**BINARY, "ce_time": b"2025-03-04T05:06:07Z"}

    found = body(headers, b'{"buyer":"u-9"}', mapping=mapping)

    assert (found.event_id, found.event_type, found.user_id) == ("/shop 7", "shop.order", "u-9")
    assert (found.event_timestamp, found.event_data) == ("2025-03-04T05:06:07Z", {"by": "/shop"})
    assert isinstance(read({"ce_id": b"7"}, b"{}", mapping=mapping), Rejected)


def test_any_bytes_in_any_place_become_an_event_or_a_reason() -> None:
    odd = [b"", b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"%", b'"', b"a" * 70_000, b"1e999", "\u2028".encode()]
    for name in ("ce_", "ce_id", "ce_data", "ce_data_base64", "ce_time", "content-type", "ce_ä", "ce_specversion"):
        for content in odd:
            for value in odd:
                assert isinstance(read({**BINARY, name: content}, value, content), EventBody | Rejected)
    assert isinstance(source().body(document_of([("ce_id", None)], None, b"x"), event_id=""), Rejected)
