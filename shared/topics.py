"""Every Kafka topic: its message, key, producer, consumers and settings, typed.

`publish(EVENTS, Heartbeat(...))` does not pass the type checker. The README's topic table is generated from
`TOPICS` (`python -m shared.topics`) and a test asserts that it is current.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from shared import messages as m

T = TypeVar("T", bound=m.Message)


@dataclass(frozen=True, slots=True)
class Topic(Generic[T]):
    """A topic's name and contract. `key` must be a pure function of the message."""

    name: str
    message: type[T]
    key: Callable[[T], str]
    key_text: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    partitions: int
    compacted: bool = False
    config: Mapping[str, str] = field(default_factory=dict)

    def encode(self, message: T) -> bytes:
        return _ENCODER.encode(message)

    def encode_all(self, messages: Sequence[T]) -> list[bytes]:
        """The same as each by itself, in one go."""
        return _ENCODER.encode_lines(messages).split(b"\n")[:-1]  # JSON has no line break of its own

    def decode(self, value: bytes) -> T:
        """Raises `msgspec.MsgspecError` for anything that is not this topic's message."""
        try:
            return msgspec.json.decode(value, type=self.message)
        except (UnicodeDecodeError, RecursionError) as error:
            raise msgspec.DecodeError(str(error)) from None

    def topic_config(self) -> dict[str, str]:
        cleanup = "compact" if self.compacted else "delete"
        return {"cleanup.policy": cleanup, "message.timestamp.type": "LogAppendTime", **self.config}


_ENCODER = msgspec.json.Encoder()


def event_key(event: m.Event) -> str:
    """The first id present, so that a unit's events stay in order; links between ids never rewrite it."""
    return event.user_id or event.anonymous_id or event.session_id or event.job_id or event.event_id


def series_key(update: m.MetricUpdate) -> str:
    parts: list[Any] = [update.organisation, update.subject_kind, update.subject, update.version]
    return _ENCODER.encode([*parts, update.series, update.window_start, update.shard]).decode()


def subject_key(update: m.MetricUpdate) -> str:
    """Decides the partition: all variants, windows and shards of one subject meet in one place."""
    return f"{update.organisation}/{update.subject}"


def _definition_key(
    d: m.Metric | m.Flag | m.Rule | m.Breaker | m.Source | m.Schema | m.IntakeRule | m.Experiment,
) -> str:
    return f"{d.organisation}/{d.key}"


_WEEK = {"retention.ms": str(7 * 86_400_000)}
_DEFINITION: dict[str, Any] = {"key_text": "organisation/key", "partitions": 1, "compacted": True}

EVENTS = Topic(
    name="events.v1",
    message=m.Event,
    key=event_key,
    key_text="first of user, anonymous, session, job, event id",
    producers=("ingest", "assignment"),
    consumers=("aggregator",),
    partitions=4,
    config={**_WEEK, "max.message.bytes": "2097152"},
)
PREDICTIONS = Topic(
    name="predictions.v1",
    message=m.Prediction,
    key=event_key,
    key_text="as on `events.v1`",
    producers=("ingest",),
    consumers=("aggregator",),
    partitions=4,
    # For lists only, whatever the rate: what is counted is on `events.v1`.
    config={**_WEEK, "retention.bytes": str(256 * 1024 * 1024), "max.message.bytes": "2097152"},
)
DEAD_LETTERS = Topic(
    name="events.v1.dlq",
    message=m.DeadLetter,
    key=lambda d: d.id,
    key_text="dead letter id",
    producers=("ingest", "aggregator"),
    consumers=("ingest",),
    partitions=1,
    config={"retention.ms": str(30 * 86_400_000), "max.message.bytes": "2097152"},
)
DEAD_LETTER_MARKS = Topic(
    name="dead-letter-marks.v1",
    message=m.DeadLetterMark,
    key=lambda mark: mark.letter,
    key_text="dead letter id",
    producers=("ingest",),
    consumers=("ingest",),
    partitions=1,
    # Longer than dead letters live, whose last segment Kafka keeps for some days more: a letter must not look open
    # again. Not compacted: which claim came first must stay known.
    config={"retention.ms": str(60 * 86_400_000)},
)
METRIC_UPDATES = Topic(
    name="metric-updates.v1",
    message=m.MetricUpdate,
    key=series_key,
    key_text="organisation, subject, series, window, shard (partition by organisation/subject)",
    producers=("aggregator",),
    consumers=("alerting",),
    partitions=4,
    compacted=True,
    # An hour uncompacted: after a restart alerting decides on every update that it missed, not only on the last.
    config={"cleanup.policy": "compact,delete", "min.compaction.lag.ms": "3600000", **_WEEK},
)
HEARTBEATS = Topic(
    name="heartbeats.v1",
    message=m.Heartbeat,
    key=lambda h: str(h.shard),
    key_text="shard",
    producers=("aggregator",),
    consumers=("alerting",),
    partitions=1,
    config={"retention.ms": str(86_400_000)},
)
SWITCHES = Topic(
    name="switches.v1",
    message=m.Switch,
    # Compaction keeps one record of each key: no names, slashes included, may make two switches look like one.
    key=lambda s: _ENCODER.encode([s.organisation, s.flag, s.variant, s.cause]).decode(),
    key_text="organisation/flag/variant/cause",
    producers=("alerting", "assignment"),
    consumers=("assignment", "alerting"),
    partitions=1,
    compacted=True,
)
ALERTS = Topic(
    name="alerts.v1",
    message=m.Alert,
    key=lambda a: f"{a.organisation}/{a.key}",
    key_text="organisation/alert",
    producers=("alerting",),
    consumers=("aggregator",),
    partitions=1,
    config=_WEEK,
)
EXPERIMENTS = Topic(
    name="experiments.v1",
    message=m.Experiment,
    key=_definition_key,
    producers=("assignment",),
    consumers=("assignment", "aggregator", "alerting"),
    **_DEFINITION,
)
FLAGS = Topic(
    name="flags.v1",
    message=m.Flag,
    key=_definition_key,
    producers=("assignment",),
    consumers=("assignment", "alerting"),
    **_DEFINITION,
)
METRICS = Topic(
    name="metrics.v1",
    message=m.Metric,
    key=_definition_key,
    producers=("aggregator",),
    consumers=("aggregator", "alerting"),
    **_DEFINITION,
)
RULES = Topic(
    name="rules.v1",
    message=m.Rule,
    key=_definition_key,
    producers=("alerting",),
    consumers=("alerting", "aggregator"),
    **_DEFINITION,
)
BREAKERS = Topic(
    name="breakers.v1",
    message=m.Breaker,
    key=_definition_key,
    producers=("alerting",),
    consumers=("alerting", "aggregator"),
    **_DEFINITION,
)
SOURCES = Topic(
    name="sources.v1",
    message=m.Source,
    key=_definition_key,
    producers=("ingest",),
    consumers=("ingest",),
    **_DEFINITION,
)
SCHEMAS = Topic(
    name="schemas.v1",
    message=m.Schema,
    key=_definition_key,
    producers=("ingest",),
    consumers=("ingest",),
    **_DEFINITION,
)
INTAKE_RULES = Topic(
    name="intake-rules.v1",
    message=m.IntakeRule,
    key=_definition_key,
    producers=("ingest",),
    consumers=("ingest",),
    **_DEFINITION,
)
HASH_KEYS = Topic(
    name="hash-keys.v1",
    message=m.HashKey,
    # Every key ever proposed has a record key of its own: compaction must not put a later one in the first's place.
    key=lambda k: _ENCODER.encode([k.organisation, k.period, k.id]).decode(),
    key_text="organisation, period, id",
    producers=("ingest",),
    consumers=("ingest",),
    partitions=1,
    compacted=True,
    # Keys that are past are removed, and soon they are gone from the disk.
    config={"segment.ms": "3600000", "max.compaction.lag.ms": "3600000", "delete.retention.ms": "3600000"},
)
KEYS = Topic(
    name="keys.v1",
    message=m.ApiKey,
    key=lambda k: k.prefix,
    key_text="key prefix",
    producers=("assignment",),
    consumers=("assignment", "ingest", "aggregator", "alerting"),
    partitions=1,
    compacted=True,
)

TOPICS: tuple[Topic[Any], ...] = (
    EVENTS,
    PREDICTIONS,
    DEAD_LETTERS,
    DEAD_LETTER_MARKS,
    METRIC_UPDATES,
    HEARTBEATS,
    SWITCHES,
    ALERTS,
    EXPERIMENTS,
    FLAGS,
    METRICS,
    RULES,
    BREAKERS,
    SOURCES,
    SCHEMAS,
    INTAKE_RULES,
    HASH_KEYS,
    KEYS,
)


def readme_table() -> str:
    """The topics as the Markdown table that stands in the README."""
    head = "| topic | message | key | from | to | partitions | kept |\n|---|---|---|---|---|---|---|"
    rows = [
        f"| `{t.name}` | `{t.message.__name__}` | {t.key_text} | {', '.join(t.producers)} "
        f"| {', '.join(t.consumers)} | {t.partitions} | {_kept(t)} |"
        for t in TOPICS
    ]
    return "\n".join([head, *rows])


def _kept(topic: Topic[Any]) -> str:
    if topic.topic_config()["cleanup.policy"] == "compact":
        return "latest per key"
    days = int(topic.config["retention.ms"]) // 86_400_000
    latest = "latest per key, " if topic.compacted else ""
    return f"{latest}{days} d"


if __name__ == "__main__":
    print(readme_table())
