"""What becomes of each event: counted, late or duplicate, by its place in the partition alone."""

from __future__ import annotations

from typing import Any

import pytest

from services.aggregator.domain.batch import GRACE, NO_WATERMARK, judge, read_batch
from services.aggregator.domain.event import AT_ONCE, MAX_AHEAD, Unreadable
from services.aggregator.domain.seen import SeenIds, digest
from shared.clock import HOUR, MINUTE, SECOND
from tests.unit.aggregator.builders import NOW, distinct, event, judged, record


def test_a_batch_spans_its_records_and_keeps_those_that_hold_events() -> None:
    batch = read_batch([record(5, b"junk"), record(6, event(), NOW + 1), record(7, None), record(8, b"{}", NOW + 2)])
    assert (batch.first_offset, batch.next_offset) == (5, 9)
    assert batch.offsets.tolist() == [6]
    assert batch.broker_times.tolist() == [NOW + 1]
    assert [(r.record.offset, r.reason) for r in batch.rejected] == [
        (5, Unreadable.MALFORMED),
        (7, Unreadable.EMPTY),
        (8, Unreadable.SCHEMA),
    ]
    assert batch.last.offset == 8


def test_a_batch_of_many_records_is_as_its_records_one_by_one() -> None:
    contents: list[dict[str, Any] | bytes | None] = [
        event(event_id=f"e{i}", organisation="other" if i % 600 > 590 else "acme", time=NOW + i)
        for i in range(3 * AT_ONCE)
    ]
    contents[0] = contents[AT_ONCE] = contents[3 * AT_ONCE - 1] = b"junk"
    contents[AT_ONCE + 1] = event(time=NOW + MAX_AHEAD + 1)
    contents[2 * AT_ONCE] = event(event_id="two\nlines")
    records = [record(7 + i, content) for i, content in enumerate(contents)]
    batch, alone = read_batch(records), [read_batch([one]) for one in records]
    assert batch.events == [found for one in alone for found in one.events]
    assert batch.rejected == [rejected for one in alone for rejected in one.rejected]
    assert len(batch.rejected) == 4
    assert batch.organisations == {"acme", "other"}
    for name in ("offsets", "times", "broker_times", "digests"):
        assert getattr(batch, name).tolist() == [row for one in alone for row in getattr(one, name).tolist()]


@pytest.mark.parametrize("names", [("acme", "e1"), ("acme", "a\nb"), ("ac\nme", "ü"), ("acme", "\x00")])
def test_an_id_has_the_same_digest_however_many_stand_beside_it(names: tuple[str, str]) -> None:
    organisation, event_id = names
    batch = read_batch([record(i, event(organisation=organisation, event_id=event_id)) for i in range(3)])
    assert batch.digests.tobytes() == digest(organisation, event_id) * 3


def test_a_batch_of_junk_leaves_the_watermark_where_it_was() -> None:
    batch, verdicts = judged([record(0, b"junk"), record(1, None)], watermark=NOW)
    assert verdicts.watermark == NOW
    assert len(batch.events) == len(verdicts.counted) == len(verdicts.late) == len(verdicts.duplicate) == 0
    assert batch.digests.shape == (0, 2)


def test_a_resent_event_is_counted_once() -> None:
    _, verdicts = judged([record(0, event()), record(1, event()), record(2, event(event_id="e2"))])
    assert verdicts.counted.tolist() == [True, False, True]
    assert verdicts.duplicate.tolist() == [False, True, False]


def test_the_same_id_of_another_organisation_is_another_event() -> None:
    _, verdicts = judged([record(0, event()), record(1, event(organisation="other"))])
    assert verdicts.counted.all()


def test_judging_twice_gives_the_same_for_nothing_is_remembered_yet() -> None:
    batch, seen = read_batch([record(0, event())]), SeenIds()
    assert judge(batch, 0, seen).counted.all()
    assert judge(batch, 0, seen).counted.all()
    seen.add(batch.digests, judge(batch, 0, seen).minutes)
    assert judge(batch, 0, seen).duplicate.all()


@pytest.mark.parametrize(("behind", "late"), [(0, False), (GRACE, False), (GRACE + 1, True)])
def test_an_event_is_late_once_it_lies_more_than_the_grace_behind(behind: int, late: bool) -> None:
    _, verdicts = judged([record(0, event(time=NOW - behind))], watermark=NOW)
    assert verdicts.late.tolist() == [late]
    assert verdicts.counted.tolist() == [not late]


def test_nothing_is_late_before_the_first_event() -> None:
    _, verdicts = judged([record(0, event(time=NOW - 30 * 24 * HOUR))], watermark=NO_WATERMARK)
    assert verdicts.counted.all()


def test_lateness_looks_at_the_watermark_before_the_event_also_within_a_batch() -> None:
    old = event(time=NOW - GRACE - SECOND)
    _, verdicts = judged(distinct([old, event(), old]))
    assert verdicts.late.tolist() == [False, False, True]


def test_a_client_whose_clock_is_ahead_does_not_make_others_late() -> None:
    ahead = event(time=NOW + 23 * HOUR)
    _, verdicts = judged(distinct([ahead, event(time=NOW - 2 * HOUR)]))
    assert verdicts.watermark == NOW
    assert verdicts.counted.all()


def test_the_watermark_never_falls() -> None:
    _, verdicts = judged(distinct([event(time=NOW - HOUR)]), watermark=NOW - MINUTE)
    assert verdicts.watermark == NOW - MINUTE


def test_a_resent_late_event_is_a_duplicate_and_not_late_again() -> None:
    late = event(time=NOW - GRACE - 1)
    _, verdicts = judged([record(0, late), record(1, late)], watermark=NOW)
    assert (verdicts.late.tolist(), verdicts.duplicate.tolist()) == ([True, False], [False, True])
