"""Every metric of ingest. Labels come from closed sets: a topic of ours, a reason, a cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.ingest.domain.normalise import Reason
from services.ingest.domain.quality.aside import Aside
from services.ingest.domain.quality.schema import Mode


class IngestMetrics:
    """What came in, what was refused and how Kafka takes it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.accepted = Counter(
            "tidegate_ingest_events_accepted_total", "Events acknowledged to clients", registry=registry
        )
        invalid = Counter(
            "tidegate_ingest_events_invalid_total", "Events refused as invalid", ["reason"], registry=registry
        )
        self.invalid = {reason: invalid.labels(reason.value) for reason in Reason}
        set_aside = Counter(
            "tidegate_ingest_events_set_aside_total",
            "Valid events that were not stored because their organisation's rules say so",
            ["reason"],
            registry=registry,
        )
        self.set_aside = {reason: set_aside.labels(reason.value) for reason in Aside}
        violations = Counter(
            "tidegate_ingest_schema_violations_total",
            "Events that did not fit the schema of their event type, by what the schema does with them",
            ["mode"],
            registry=registry,
        )
        self.schema_violations = {mode: violations.labels(mode.value) for mode in Mode}
        self.dead_letters = Counter(
            "tidegate_ingest_dead_letters_total",
            "Invalid and quarantined events kept on events.v1.dlq",
            registry=registry,
        )
        settled = Counter(
            "tidegate_ingest_dead_letters_settled_total",
            "Dead letters whose event was stored after all, or that nobody wants",
            ["outcome"],
            registry=registry,
        )
        self.replayed = settled.labels("replayed")
        self.discarded = settled.labels("discarded")
        self._refused = Counter(
            "tidegate_ingest_requests_refused_total",
            "Requests answered with 503 because Kafka did not take their events, by cause",
            ["topic", "cause"],
            registry=registry,
        )
        self._batches = Counter(
            "tidegate_ingest_batches_total", "Batches that Kafka acknowledged", ["topic"], registry=registry
        )
        self._records = Counter(
            "tidegate_ingest_batch_records_total", "Records in those batches", ["topic"], registry=registry
        )
        self._seconds = Histogram(
            "tidegate_ingest_ack_seconds",
            "Time from handing a batch to the producer to its acknowledgement",
            ["topic"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self._recreations = Counter(
            "tidegate_ingest_producer_recreations_total",
            "Producers given up and replaced, by cause",
            ["topic", "cause"],
            registry=registry,
        )
        self._pending_bytes = Gauge(
            "tidegate_ingest_pending_bytes", "Bytes that wait for Kafka", ["topic"], registry=registry
        )
        self._pending_age = Gauge(
            "tidegate_ingest_oldest_pending_seconds",
            "Age of what has waited longest for Kafka",
            ["topic"],
            registry=registry,
        )

        self.sockets = SocketMetrics(registry)
        self.rates = RateMetrics(registry)

    def of_topic(self, topic: str) -> TopicMetrics:
        return TopicMetrics(
            batches=self._batches.labels(topic),
            records=self._records.labels(topic),
            ack_seconds=self._seconds.labels(topic),
            recreations=lambda cause: self._recreations.labels(topic, cause),
            refused=lambda cause: self._refused.labels(topic, cause),
            pending_bytes=self._pending_bytes.labels(topic),
            pending_age=self._pending_age.labels(topic),
        )


@dataclass(frozen=True, slots=True)
class TopicMetrics:
    """One topic's share of the metrics above."""

    batches: Counter
    records: Counter
    ack_seconds: Histogram
    recreations: Callable[[str], Counter]
    refused: Callable[[str], Counter]
    pending_bytes: Gauge
    pending_age: Gauge


class RateMetrics:
    """What keys sent beyond their limits."""

    def __init__(self, registry: CollectorRegistry) -> None:
        limited = Counter(
            "tidegate_ingest_rate_limited_total",
            "Requests, messages and parts of uploads that came when their key had sent enough",
            ["outcome"],
            registry=registry,
        )
        self.refused = limited.labels("refused")
        self.delayed = limited.labels("delayed")


class SocketMetrics:
    """The WebSockets over which events come in. `closed` has the codes with which we end them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open = Gauge("tidegate_ingest_sockets", "WebSockets that are open", registry=registry)
        self.messages = Counter(
            "tidegate_ingest_socket_messages_total", "Messages with events read from WebSockets", registry=registry
        )
        closed = Counter(
            "tidegate_ingest_sockets_closed_total", "WebSockets that we ended, by code", ["code"], registry=registry
        )
        self.closed = {code: closed.labels(str(code)) for code in (1001, 1008, 1013)}
