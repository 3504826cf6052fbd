"""Every message that travels between services, one frozen struct each.

Times are microseconds since the epoch, UTC. Partition, offset and broker time stay in Kafka's envelope.
A consumer ignores fields that it does not know; a change that it could not ignore is a new topic version.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

UnitKind = Literal["user", "session", "job"]
"""Which of an event's ids an experiment or journey counts by."""

Scope = Literal["ingest", "read", "admin"]
"""What a key may do: send events and results; read, assign and evaluate; everything."""


LetterMark = Literal["claimed", "released", "replayed", "discarded"]
"""See `DeadLetterMark`."""


Kept = Literal["as_sent", "redacted", "withheld"]
"""What a dead letter has of what was received. Redacted is an event in the form that is sent over HTTP, however it
came in; withheld is nothing at all."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all messages: JSON objects, absent fields mean their default."""


class Event(Message, frozen=True, kw_only=True):
    """Something that happened to a unit. On `events.v1`, in the canonical form that ingest produces."""

    organisation: str
    event_id: str
    event_type: str
    time: int
    received_at: int
    user_id: str | None = None
    anonymous_id: str | None = None
    session_id: str | None = None
    job_id: str | None = None
    data_source_id: int = 1
    context: dict[str, Any] = {}
    properties: dict[str, Any] = {}


class Prediction(Event, frozen=True, kw_only=True):
    """An event of type `prediction` once more, on `predictions.v1`, where it is found among few."""


class DeadLetter(Message, frozen=True, kw_only=True):
    """An event that cannot be accepted, kept whole so that nothing sent is lost."""

    id: str
    organisation: str
    reason: str
    detail: str
    origin: str
    received_at: int
    payload: bytes
    partition: int | None = None
    offset: int | None = None
    kept: Kept = "as_sent"
    sent_at: str | float | None = None
    """When the client said that it sent it, by the clock that gave it its times: RFC 3339, or ms since the epoch."""


class DeadLetterMark(Message, frozen=True, kw_only=True):
    """What became of a dead letter. Of all claims to a letter the first in the log holds until it is released.

    `claimed`: its event is about to be stored; `replayed`: it is stored; `released`: it has not been and will not be;
    `discarded`: nobody wants it.
    """

    letter: str
    """The dead letter's id."""
    organisation: str
    mark: LetterMark
    marked_at: int
    attempt: str = ""
    """Names the claim, and whatever refers to it."""
    event_id: str | None = None
    event_key: str | None = None
    """The record key of the letter's event, which says in which partition to look for it."""
    event_digest: str | None = None
    """Of all that the event says, but not when it was received."""
    by: str = ""
    """Prefix of the key with which somebody asked for it."""


class MetricUpdate(Message, frozen=True, kw_only=True):
    """One shard's additive state of one series after a commit; readers add shards, never average them.

    `revision` rises with each of the shard's commits, also with those that move no offset: of two updates with one
    key the higher wins.
    Sums are decimal text because they outgrow 64 bits; they and min/max are in units of 10**-scale.
    """

    organisation: str
    subject_kind: Literal["metric", "experiment"]
    subject: str
    version: int
    series: str
    """A metric's component and group, or an experiment's variant and metric: canonical JSON array."""
    window_start: int
    """Start of the one-minute window; 0 for totals over an experiment's life."""
    shard: int
    revision: int
    watermark: int
    published_at: int
    scale: int = 6
    n: int = 0
    sum: str = "0"
    sum_squares: str = "0"
    """Over events for a metric, over units' sums for an experiment."""
    min: int | None = None
    max: int | None = None
    sketch: bytes = b""
    units: int = 0
    """Experiments only: units of the variant that have a value (for the exposure series: exposed units)."""
    conflicted: int = 0
    """Experiments only: units seen in two variants. They are in no sum over units."""
    event_sum: str = ""
    event_sum_squares: str = ""
    """Experiments only: over events, as `n`, `min`, `max` and `sketch` are. Empty: not known."""
    includes_conflicted: bool = False
    """Experiments only: what is over events includes conflicted units, each event under the variant that was known
    when it came."""
    other_sum: str = "0"
    other_sum_squares: str = "0"
    cross_sum: str = "0"
    """Experiments only, over units: Σy, Σy² and Σxy, where x is the unit's sum and y its other one: the denominator
    of a ratio, or what the unit did before it was exposed."""
    latest_success: int = 0
    """Streaks only: when the latest success happened in this shard; 0 if none did."""
    failures: tuple[int, ...] = ()
    """Streaks only: when the shard's latest failures after that success happened, ascending; at most the metric's
    `length`. Merged over shards, those after the latest success of any shard are the present streak."""


class Heartbeat(Message, frozen=True, kw_only=True):
    """A shard's clock: lets rules tell "no data" from "no aggregator". Sent after the updates of `next_offset`."""

    shard: int
    next_offset: int
    watermark: int
    time: int
    """Everything that the brokers took before this moment is counted and its updates are sent."""
    lag: int = 0
    """Records that the brokers have and the shard has not folded."""
    shards: int = 0
    """How many shards there are: partitions of `events.v1`."""
    closed_through: int = 0
    """Minutes that end at or before this are closed: every shard has passed them, late events alone amend them."""


class Switch(Message, frozen=True, kw_only=True):
    """One cause that holds a flag or variant off (or lets go of it); a flag is off while any cause is."""

    organisation: str
    flag: str
    cause: str
    off: bool
    decided_at: int
    off_since: int = 0
    """When this cause turned it off first, before any probing; 0 means `decided_at`."""
    variant: str | None = None
    admit_from: int = 0
    """Half-open: buckets in [admit_from, admit_to) of 1,000,000 pass although the flag is off."""
    admit_to: int = 0
    evidence: dict[str, Any] = {}


class Alert(Message, frozen=True, kw_only=True):
    """An alert's present state; `key` names the incident through all its transitions."""

    organisation: str
    key: str
    version: int
    alert_type: str
    title: str
    severity: Literal["info", "warning", "error", "critical"]
    status: Literal["open", "acknowledged", "resolved"]
    raised_at: int
    message: str = ""
    data: dict[str, Any] = {}


class Stratum(Message, frozen=True, kw_only=True):
    """A share of traffic that applies up to an upper bound of one context number (S0: estimated duration)."""

    name: str
    below: float | None
    """Exclusive upper bound; None for the last stratum."""
    buckets: dict[str, int]
    """Variant name → buckets out of 1,000,000, in order of the variants; they add up to 1,000,000."""


class Variant(Message, frozen=True, kw_only=True):
    id: int
    name: str
    type: Literal["control", "treatment"]
    buckets: int
    """Share of the traffic, out of 1,000,000 (50 % = 500,000)."""
    model_id: int | None = None
    model_version: str | None = None
    config: dict[str, Any] = {}


class Allocation(Message, frozen=True, kw_only=True):
    """A split that was in force earlier; the units it assigned keep their variant."""

    buckets: dict[str, int]
    """Variant name → buckets out of 1,000,000, in order of the variants."""
    strata: tuple[Stratum, ...] = ()


class Experiment(Message, frozen=True, kw_only=True):
    """A definition as assignment publishes it; `version` rises with every change."""

    organisation: str
    id: int
    key: str
    name: str
    version: int
    status: Literal["draft", "running", "paused", "completed", "archived", "cancelled", "failed"]
    unit: UnitKind
    salt: str
    variants: tuple[Variant, ...]
    metrics: tuple[str, ...] = ()
    """Keys of the metrics that are kept by unit for this experiment."""
    segments: tuple[str, ...] = ()
    """Paths into an exposure, such as `context.networkType`, by whose values results can be cut."""
    stratify_by: str | None = None
    """Name of the context number that picks the stratum."""
    strata: tuple[Stratum, ...] = ()
    earlier: tuple[Allocation, ...] = ()
    """The distinct splits since the first start, oldest first, without the present one."""
    started_at: int | None = None
    ended_at: int | None = None


class Flag(Message, frozen=True, kw_only=True):
    organisation: str
    key: str
    version: int
    spec: dict[str, Any]


class Metric(Message, frozen=True, kw_only=True):
    """A metric definition; the aggregator owns and validates the spec."""

    organisation: str
    key: str
    version: int
    spec: dict[str, Any]


class Rule(Message, frozen=True, kw_only=True):
    organisation: str
    key: str
    version: int
    spec: dict[str, Any]


class Breaker(Message, frozen=True, kw_only=True):
    organisation: str
    key: str
    version: int
    spec: dict[str, Any]


class Source(Message, frozen=True, kw_only=True):
    organisation: str
    key: str
    version: int
    spec: dict[str, Any]


class Schema(Message, frozen=True, kw_only=True):
    """What the data of one event type must look like; `key` is the event type."""

    organisation: str
    key: str
    version: int
    spec: dict[str, Any]


class IntakeRule(Message, frozen=True, kw_only=True):
    organisation: str
    key: str
    version: int
    spec: dict[str, Any]


class HashKey(Message, frozen=True, kw_only=True):
    """A key that hashes what an organisation does not keep. Of several for one period the first in the log holds."""

    organisation: str
    period: str
    """`never`, or a name such as `2026-11-22`."""
    id: str
    """Of this key among those that were made for the period."""
    until: int
    """The period's end."""
    sealed: str


class ApiKey(Message, frozen=True, kw_only=True):
    """What a service needs to recognise a key; the key itself is never stored or sent."""

    prefix: str
    hash: str
    organisation: str
    scope: Scope
    version: int
    revoked: bool = False
    events_per_second: float | None = None
    """How many events may be sent with it; None: what ingest's settings say, else any number."""
    burst: int | None = None
    """How many of them at once after a pause; None: those of a second."""
