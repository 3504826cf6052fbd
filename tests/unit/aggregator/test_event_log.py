"""Whether the log in Kafka is still the one that the cursor in Postgres belongs to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.aggregator.event_log import LogEnds, LogVerdict, judge_log
from services.aggregator.store.shards import ShardRow
from services.aggregator.store.transaction import record_digest
from tests.unit.aggregator.builders import NOW

LAST = (NOW, record_digest(b"last"))
ROW = ShardRow(
    shard=0,
    next_offset=100,
    watermark=NOW,
    rolled_through=0,
    generation="cluster-1",
    last_timestamp=LAST[0],
    last_digest=LAST[1],
    published_revision=100,
    revision=100,
)
SAME = LogEnds(generation="cluster-1", begin=0, end=200, previous=LAST)


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        (SAME, LogVerdict.SAME),
        (replace(SAME, end=100), LogVerdict.SAME),
        (replace(SAME, begin=100, previous=None), LogVerdict.SAME),
        (replace(SAME, generation="cluster-2"), LogVerdict.OTHER_CLUSTER),
        (replace(SAME, generation="cluster-2", end=0, previous=None), LogVerdict.OTHER_CLUSTER),
        (replace(SAME, end=99, previous=None), LogVerdict.SHORTER),
        (replace(SAME, end=0, previous=None), LogVerdict.SHORTER),
        (replace(SAME, begin=101, previous=None), LogVerdict.OVERRUN),
        (replace(SAME, previous=(NOW + 1, LAST[1])), LogVerdict.REPLACED),
        (replace(SAME, previous=(NOW, record_digest(b"another"))), LogVerdict.REPLACED),
    ],
)
def test_a_wiped_or_restored_log_is_recognised(ends: LogEnds, verdict: LogVerdict) -> None:
    assert judge_log(ROW, ends) is verdict


def test_a_partition_of_which_nothing_is_folded_yet_has_nothing_to_compare() -> None:
    fresh = replace(ROW, next_offset=0, last_timestamp=None, last_digest=None)
    assert judge_log(fresh, replace(SAME, previous=None)) is LogVerdict.SAME


def test_any_bytes_and_none_have_a_digest() -> None:
    digests = {record_digest(value) for value in (b"a", b"\xff\xfe", b"\x00", b"")}
    assert len(digests) == 4
    assert record_digest(None) == record_digest(b"")
