"""The bytes on every topic: what we write today, and what readers of any age must make of it.

Each golden file is one message with every field set, byte for byte as it is written. Consumers of other versions
rely on it: a changed file is a changed contract.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared import messages as m
from shared import topics
from shared.topics import TOPICS, Topic

GOLDEN = Path(__file__).parent / "golden"

_T = 1_760_000_040_000_001
_SPEC: dict[str, Any] = {"type": "count", "event": "signup", "group_by": ["properties.plan"]}
_STRATUM = m.Stratum(name="short", below=30.5, buckets={"control": 700_000, "treatment": 300_000})

EXAMPLES: dict[str, m.Message] = {
    "events.v1": m.Event(
        organisation="acme",
        event_id="2f0c1b9e-0001",
        event_type="data_import_completed",
        time=_T,
        received_at=_T + 250_000,
        user_id="u-1",
        anonymous_id="anon-1",
        session_id="s-1",
        job_id="j-1",
        data_source_id=7,
        context={"networkType": "4g", "app": {"version": "1.2.3"}},
        properties={"totalDuration": 12.5, "rows": 336776, "ok": True, "note": 'ü "quoted" \U0001f600', "none": None},
    ),
    "predictions.v1": m.Prediction(
        organisation="acme",
        event_id="2f0c1b9e-0002",
        event_type="prediction",
        time=_T,
        received_at=_T + 250_000,
        user_id="u-1",
        anonymous_id="anon-1",
        session_id="s-1",
        job_id="j-1",
        data_source_id=7,
        context={"networkType": "4g"},
        properties={
            "prediction_type": "customer_churn",
            "input_data": {"customer_id": 123},
            "prediction_result": {"churn_probability": 0.73, "risk_level": "high"},
            "model_id": 10,
            "confidence_score": 0.89,
        },
    ),
    "events.v1.dlq": m.DeadLetter(
        id="events.v1-3-17",
        organisation="acme",
        reason="malformed_json",
        detail="JSON is malformed: invalid character (byte 0)",
        origin="kafka",
        received_at=_T,
        payload=b"\xff\x00{not json",
        partition=3,
        offset=17,
        kept="redacted",
        sent_at="2026-01-02T03:04:05Z",
    ),
    "dead-letter-marks.v1": m.DeadLetterMark(
        letter="events.v1-3-17",
        organisation="acme",
        mark="claimed",
        marked_at=_T,
        attempt="5b0c",
        event_id="2f0c1b9e-0001",
        event_key="u-1",
        event_digest="b1946ac92492d234",
        by="0123456789",
    ),
    "metric-updates.v1": m.MetricUpdate(
        organisation="acme",
        subject_kind="experiment",
        subject="import-mode",
        version=2,
        series='["import_duration","value","treatment"]',
        window_start=_T - 1,
        shard=3,
        revision=9_007_199_254_740_993,
        watermark=_T,
        published_at=_T + 1,
        scale=3,
        n=12,
        sum="-123456789012345678901234567890",
        sum_squares="340282366920938463463374607431768211456",
        min=-(10**17),
        max=10**17,
        sketch=b"\x01\x00\x02\x00\x00\x00\x00\x00\x00\x00",
        units=11,
        conflicted=2,
        event_sum="-98765432109876543210",
        event_sum_squares="340282366920938463463374607431768211457",
        includes_conflicted=True,
        other_sum="44",
        other_sum_squares="1936",
        cross_sum="-170141183460469231731687303715884105728",
        latest_success=_T - 9,
        failures=(_T - 8, _T - 7),
    ),
    "heartbeats.v1": m.Heartbeat(
        shard=3, next_offset=41, watermark=_T, time=_T + 1, lag=2, shards=4, closed_through=_T - 40_000_001
    ),
    "switches.v1": m.Switch(
        organisation="acme",
        flag="import-mode",
        cause="breaker:error-rate",
        off=True,
        decided_at=_T,
        off_since=_T - 5,
        variant="treatment",
        admit_from=5_000,
        admit_to=10_000,
        evidence={"value": 0.25, "limit": 0.1, "lag_ms": 12},
    ),
    "alerts.v1": m.Alert(
        organisation="acme",
        key="error-rate/treatment",
        version=3,
        alert_type="threshold",
        title="Error rate is high",
        severity="critical",
        status="open",
        raised_at=_T,
        message="25 % of imports failed within 5 minutes",
        data={"value": 0.25},
    ),
    "experiments.v1": m.Experiment(
        organisation="acme",
        id=12,
        key="import-mode",
        name="Background or real-time import",
        version=4,
        status="running",
        unit="job",
        salt="import-mode-1",
        variants=(
            m.Variant(id=1, name="control", type="control", buckets=500_000),
            m.Variant(
                id=2,
                name="treatment",
                type="treatment",
                buckets=500_000,
                model_id=5,
                model_version="2025-10",
                config={"mode": "real_time"},
            ),
        ),
        metrics=("import_duration", "imports_completed"),
        segments=("context.networkType", "properties.plan"),
        stratify_by="estimatedDuration",
        strata=(_STRATUM, m.Stratum(name="long", below=None, buckets={"control": 1_000_000, "treatment": 0})),
        earlier=(m.Allocation(buckets={"control": 900_000, "treatment": 100_000}, strata=(_STRATUM,)),),
        started_at=_T,
        ended_at=_T + 1,
    ),
    "flags.v1": m.Flag(organisation="acme", key="new-importer", version=2, spec={"variants": {"on": True}}),
    "metrics.v1": m.Metric(organisation="acme", key="signups", version=2, spec=_SPEC),
    "rules.v1": m.Rule(organisation="acme", key="error-rate", version=1, spec={"metric": "errors", "above": 0.1}),
    "breakers.v1": m.Breaker(organisation="acme", key="import-mode", version=1, spec={"rule": "error-rate"}),
    "sources.v1": m.Source(organisation="acme", key="legacy", version=1, spec={"topic": "legacy-events"}),
    "schemas.v1": m.Schema(
        organisation="acme",
        key="order_completed",
        version=1,
        spec={"mode": "warn", "versions": [{"version": 1, "schema": {"required": ["amount"]}}]},
    ),
    "intake-rules.v1": m.IntakeRule(
        organisation="acme", key="mail", version=1, spec={"hash": ["event_data.email"], "rotate": "month"}
    ),
    "hash-keys.v1": m.HashKey(
        organisation="acme", period="2026-11", id="5f0c", until=1_796_083_200_000_000, sealed="gAAAAABrAy6b"
    ),
    "keys.v1": m.ApiKey(
        prefix="0123456789",
        hash="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        organisation="acme",
        scope="ingest",
        version=2,
        revoked=True,
        events_per_second=0.5,
        burst=20,
    ),
}

TOPIC_IDS = [t.name for t in TOPICS]
each_topic = pytest.mark.parametrize("topic", TOPICS, ids=TOPIC_IDS)


def golden(topic: Topic[Any]) -> bytes:
    return (GOLDEN / f"{topic.name}.json").read_bytes().removesuffix(b"\n")


def with_unknown_fields(value: Any) -> Any:
    """The same document as a newer program would write it: each typed object has one more field."""
    if isinstance(value, list):
        return [with_unknown_fields(v) for v in value]
    if isinstance(value, dict):
        kept = {k: v if k in _FREE else with_unknown_fields(v) for k, v in value.items()}
        return {"added_later": {"x": [1, None]}, **kept}
    return value


_FREE = ("context", "properties", "evidence", "data", "spec", "config", "buckets")
"""Fields whose content is the sender's own."""


def test_every_topic_has_an_example_and_a_golden_file_and_no_file_is_left_over() -> None:
    assert list(EXAMPLES) == TOPIC_IDS
    assert sorted(p.name for p in GOLDEN.iterdir()) == sorted(f"{name}.json" for name in TOPIC_IDS)


@each_topic
def test_an_example_sets_every_field(topic: Topic[Any]) -> None:
    example = EXAMPLES[topic.name]
    assert type(example) is topic.message
    assert set(json.loads(golden(topic))) == {f.encode_name for f in msgspec.structs.fields(example)}


@each_topic
def test_a_message_is_written_as_the_golden_file_says(topic: Topic[Any]) -> None:
    assert topic.encode(EXAMPLES[topic.name]) == golden(topic)


@each_topic
def test_a_golden_file_is_read_as_the_message_it_was(topic: Topic[Any]) -> None:
    assert topic.decode(golden(topic)) == EXAMPLES[topic.name]


@each_topic
def test_fields_that_a_newer_program_adds_are_ignored(topic: Topic[Any]) -> None:
    newer = json.dumps(with_unknown_fields(json.loads(golden(topic)))).encode()
    assert b"added_later" in newer
    assert topic.decode(newer) == EXAMPLES[topic.name]


@each_topic
def test_a_message_without_its_optional_fields_is_read_with_their_defaults(topic: Topic[Any]) -> None:
    fields = msgspec.structs.fields(topic.message)
    required = {f.encode_name for f in fields if f.required}
    assert required, "a message without required fields would accept anything"
    sparse = {k: v for k, v in json.loads(golden(topic)).items() if k in required}
    found = topic.decode(json.dumps(sparse).encode())
    assert json.loads(topic.encode(found)) == sparse, "defaults are not written"


@each_topic
def test_a_message_without_a_required_field_is_refused(topic: Topic[Any]) -> None:
    whole = json.loads(golden(topic))
    for field in msgspec.structs.fields(topic.message):
        if field.required:
            with pytest.raises(msgspec.ValidationError, match=field.encode_name):
                topic.decode(json.dumps({k: v for k, v in whole.items() if k != field.encode_name}).encode())


@each_topic
def test_other_content_is_refused(topic: Topic[Any]) -> None:
    for raw in (b"", b"null", b"[]", b"{", golden(topic) * 2, b"\xff"):
        with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
            topic.decode(raw)


def test_numbers_beyond_64_bits_travel_as_text() -> None:
    update = topics.METRIC_UPDATES.decode(golden(topics.METRIC_UPDATES))
    assert int(update.sum_squares) == 2**128
