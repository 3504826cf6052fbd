"""The aggregator's worker as a process on real Kafka and Postgres."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer

from shared import topics
from shared.clock import DAY, HOUR, SECOND, system_clock
from shared.messages import Event, MetricUpdate
from tests.integration.aggregation import (
    define_experiment,
    define_metrics,
    event,
    experiment_totals,
    exposure,
    publish_events,
    publish_raw,
    totals_of,
    wait_until_folded,
)
from tests.programs import aggregator
from tests.waiting import eventually

ONE = 1_000_000
"""1 in units of 10^-6."""

AMOUNT = {
    "type": "value",
    "event": "purchase",
    "value": "properties.amount",
    "aggregations": ["sum", "avg", "min", "max", "p95"],
    "group_by": ["properties.variant"],
}


@pytest.fixture(scope="module")
def published() -> Counter[str]:
    """How many records this module has written to the log so far, under "records"."""
    return Counter()


async def test_a_resent_event_is_counted_once_and_a_late_one_is_reported(
    kafka: str, postgres: str, tmp_path: Path, published: Counter[str]
) -> None:
    await define_metrics(kafka, "resends", {"amount": AMOUNT})
    now = system_clock()
    first = [event("resends", f"e{i}", user_id="u", properties={"amount": i, "variant": "a"}) for i in range(100)]
    late = event("resends", "late", user_id="u", time=now - DAY - HOUR, properties={"amount": 1000})
    old_but_within_grace = event("resends", "held", user_id="u", time=now - 5 * HOUR, properties={"amount": 500})
    records = [*first, *first[:30], late, old_but_within_grace]
    await publish_events(kafka, records)
    published["records"] += len(records)
    async with aggregator(kafka, postgres, tmp_path / "worker.log"):
        await wait_until_folded(postgres, published["records"])
    totals = await totals_of(postgres, "resends", "amount")
    assert totals["counted"] == totals["n"] == 101
    assert totals["duplicates"] == 30
    assert totals["late"] == 1
    assert totals["sum"] == (sum(range(100)) + 500) * ONE
    assert totals["sum_squares"] == (sum(i * i for i in range(100)) + 500**2) * ONE**2


async def test_values_count_by_unit_from_the_first_exposure_on_in_whatever_order_they_come(
    kafka: str, postgres: str, tmp_path: Path, published: Counter[str]
) -> None:
    organisation = "units"
    await define_metrics(kafka, organisation, {"amount": AMOUNT})
    await define_experiment(kafka, organisation, "checkout", ("amount",))
    begin = system_clock() - HOUR
    rng = random.Random(5)
    events: list[Event] = []
    sums: dict[str, dict[str, int]] = {"control": defaultdict(int), "treatment": defaultdict(int)}
    for u in range(60):
        unit, variant = f"unit-{u}", ("control", "treatment")[u % 2]
        exposed_at = begin + rng.randrange(600) * SECOND
        if u % 10:
            events.append(exposure(organisation, "checkout", unit, variant, exposed_at))
        for i in range(rng.randrange(8)):
            at = begin + rng.randrange(1200) * SECOND
            amount = rng.randrange(100)
            events.append(event(organisation, f"{unit}-{i}", user_id=unit, time=at, properties={"amount": amount}))
            if u % 10 and at >= exposed_at - 5 * SECOND:
                sums[variant][unit] += amount * ONE
    # A unit that two variants were shown to counts for neither.
    events.append(exposure(organisation, "checkout", "unit-1", "control", begin + 900 * SECOND))
    sums["treatment"].pop("unit-1", None)
    rng.shuffle(events)
    await publish_events(kafka, events)
    published["records"] += len(events)
    async with aggregator(kafka, postgres, tmp_path / "worker.log"):
        await wait_until_folded(postgres, published["records"])
    found = await experiment_totals(postgres, organisation, "amount")
    for variant, by_unit in sums.items():
        assert found[variant]["units"] == len(by_unit), variant
        assert found[variant]["unit_sum"] == sum(by_unit.values()), variant
        assert found[variant]["unit_sum_squares"] == sum(x * x for x in by_unit.values()), variant
    exposed = await experiment_totals(postgres, organisation, "")
    assert {v: t["units"] for v, t in exposed.items()} == {"control": 24, "treatment": 29}
    assert sum(t["conflicted"] for t in exposed.values()) == 1


HOSTILE: list[bytes | None] = [
    None,
    b"",
    b"null",
    b"[]",
    b"{}",
    b"not json",
    b"\xff\xfe",
    b'{"organisation":"hostile"',
    b'{"organisation":"hostile","event_id":"a","event_type":"t","time":1e400}',
    b'{"organisation":"hostile","event_id":"a","event_type":"t","time":NaN}',
    b'{"organisation":"hostile","event_id":"a","event_type":"t","time":1180591620717411303424}',
    b'{"organisation":"hostile","event_id":"a","event_type":"t","time":9223372036854775807}',
    b'{"organisation":"hostile","event_id":"a","event_type":"t","time":-1}',
    b'{"organisation":7,"event_id":"a","event_type":"t","time":1700000000000000}',
    b'{"organisation":"host\\u0000ile","event_id":"a","event_type":"t","time":1700000000000000}',
    b'{"organisation":"\\ud800","event_id":"a","event_type":"t","time":1700000000000000}',
    b'{"organisation":"hostile","event_id":"a","event_type":"t","time":1700000000000000} {}',
    b"[" * 100_000 + b"]" * 100_000,
    b'{"organisation":"hostile","event_id":"a","event_type":"t","time":1700000000000000,"properties":{"x":'
    + b"[" * 65
    + b"]" * 65
    + b"}}",
    b'{"organisation":"'
    + "".join(map(chr, range(0x20000, 0x20000 + 1000))).encode()
    + b'","event_id":"a","event_type":"t","time":1700000000000000}',
    b"a message, nearly full " * 87_000,
]
UNREADABLE_VALUES = [b"9" * 5_000, b"1e400", b'"\\ud800"']
"""Of properties: they spoil nothing but themselves."""


async def test_hostile_records_written_straight_into_the_topic_never_stop_the_partition(
    kafka: str, postgres: str, tmp_path: Path, published: Counter[str]
) -> None:
    organisation = "hostile"
    by_five = [f"properties.g{i}" for i in range(5)]
    await define_metrics(kafka, organisation, {"amount": AMOUNT, "wide": {"type": "count", "group_by": by_five}})
    odd_values = [
        "12",
        True,
        {"a": 1},
        [1],
        2**70,
        1e300,
        None,
        "x" * 1_000_000,
    ]
    odd = [
        event(organisation, f"odd-{i}", user_id="u", properties={"amount": value, "variant": "a"})
        for i, value in enumerate(odd_values)
    ]
    odd.append(event(organisation, "nul", user_id="u\x00", properties={"amount": 1, "variant": "a\x00b"}))
    rng = random.Random(11)
    wide = {f"g{i}": "".join(chr(rng.randrange(0x20000, 0x2A000)) for _ in range(200)) for i in range(5)}
    odd.append(event(organisation, "wide", "wide", user_id="u", properties=wide))
    good = [event(organisation, f"good-{i}", user_id="u", properties={"amount": 2}) for i in range(50)]
    encoded = [_encode_with_big_integers(e) for e in odd]
    for i, value in enumerate(UNREADABLE_VALUES):
        whole = topics.EVENTS.encode(event(organisation, f"raw-{i}", user_id="u", properties={"amount": 7}))
        encoded.append(whole.replace(b'"amount":7', b'"amount":' + value))
    records: list[tuple[str, bytes | None]] = [("u", value) for value in (*HOSTILE, *encoded)]
    records += [("u", topics.EVENTS.encode(e)) for e in good]
    random.Random(3).shuffle(records)
    await publish_raw(kafka, records)
    published["records"] += len(records)
    async with aggregator(kafka, postgres, tmp_path / "worker.log"):
        await wait_until_folded(postgres, published["records"])
    totals = await totals_of(postgres, organisation, "amount")
    assert totals["counted"] == 50
    assert totals["invalid"] == 8 + len(UNREADABLE_VALUES), "every odd value but null, which is merely absent"
    assert (await totals_of(postgres, organisation, "wide"))["invalid"] == 1, "a key that Postgres has no room for"
    letters = await _read_all(kafka, topics.DEAD_LETTERS.name)
    ours = [topics.DEAD_LETTERS.decode(value) for value in letters]
    assert len(ours) == len(HOSTILE)
    assert {letter.payload for letter in ours} == {(value or b"")[:1_400_000] for value in HOSTILE}
    assert all(letter.id == f"events.v1-{letter.partition}-{letter.offset}" for letter in ours)


async def test_updates_carry_rising_revisions_and_the_latest_state_of_each_series(kafka: str, postgres: str) -> None:
    updates = [topics.METRIC_UPDATES.decode(v) for v in await _read_all(kafka, topics.METRIC_UPDATES.name)]
    latest: dict[str, MetricUpdate] = {}
    for update in updates:
        key = topics.series_key(update)
        assert key not in latest or update.revision >= latest[key].revision
        latest[key] = update
    ours = [u for u in latest.values() if u.organisation == "resends" and u.subject == "amount"]
    totals = await totals_of(postgres, "resends", "amount")
    assert sum(u.n for u in ours) == totals["n"]
    assert sum(int(u.sum) for u in ours) == totals["sum"]


async def test_windows_of_every_width_add_up_to_their_minutes(postgres: str) -> None:
    connection = await asyncpg.connect(postgres)
    try:
        differing = await connection.fetch(
            """
            SELECT w.width, m.series_id, m.shard FROM
              (SELECT DISTINCT width FROM aggregator.window_rolls) w
            CROSS JOIN LATERAL (
              SELECT series_id, m.shard, sum(n) AS n, sum(sum) AS sum FROM aggregator.window_minutes m
              JOIN aggregator.shards h ON h.shard = m.shard
              WHERE m.minute < to_timestamp(h.rolled_through / 1000000) GROUP BY 1, 2) m
            FULL JOIN (SELECT width, series_id, shard, sum(n) AS n, sum(sum) AS sum
                       FROM aggregator.window_rolls GROUP BY 1, 2, 3) r
              ON r.width = w.width AND r.series_id = m.series_id AND r.shard = m.shard
            WHERE m.n IS DISTINCT FROM r.n OR m.sum IS DISTINCT FROM r.sum
            """
        )
        assert differing == []
        assert await connection.fetchval("SELECT count(*) FROM aggregator.window_rolls") > 0
    finally:
        await connection.close()


def _encode_with_big_integers(message: Event) -> bytes:
    """As another program might write it: our own encoder refuses integers beyond 64 bits."""
    import json

    return json.dumps(
        {
            "organisation": message.organisation,
            "event_id": message.event_id,
            "event_type": message.event_type,
            "time": message.time,
            "received_at": message.received_at,
            "user_id": message.user_id,
            "properties": message.properties,
        }
    ).encode()


async def _read_all(kafka: str, topic: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        found: list[bytes] = []

        async def complete() -> bool:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found.extend(r.value for r in records)
            ends = await consumer.end_offsets(consumer.assignment())
            return all([await consumer.position(p) >= end for p, end in ends.items()])

        await eventually(complete, f"{topic} is read to its end")
        return found
    finally:
        await consumer.stop()
