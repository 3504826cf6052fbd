"""The harness itself: a fault that does not happen, or a generator that draws otherwise, would prove nothing."""

from __future__ import annotations

from collections import Counter

import pytest

from shared.clock import DAY, HOUR, system_clock
from tests.faults.drawn import Fate
from tests.faults.frontend import FrontendParser, Span
from tests.faults.generator import Generator
from tests.faults.rows import differences

STARTUP = (80_877_103).to_bytes(4, "big")
SSL_REQUEST = (8).to_bytes(4, "big") + STARTUP
START = (15).to_bytes(4, "big") + (196_608).to_bytes(4, "big") + b"user\0x\0"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


SIMPLE = message(b"Q", b"COMMIT;\0")
EXTENDED = message(b"P", b"\0COMMIT\0\0\0") + message(b"B", b"\0\0\0\0\0\0\0\0"), message(b"E", b"\0\0\0\0\0")
BEFORE = SSL_REQUEST + START + message(b"Q", b"BEGIN;\0") + message(b"B", b"COMMIT;" * 1_000)


@pytest.mark.parametrize(
    ("before", "commit"), [(BEFORE, SIMPLE), (BEFORE + EXTENDED[0], EXTENDED[1])], ids=["simple", "extended"]
)
def test_a_commit_is_found_however_the_stream_is_cut(before: bytes, commit: bytes) -> None:
    stream = before + commit + message(b"Q", b"SELECT 1\0")
    assert FrontendParser().feed(stream) == Span(len(before), len(before) + len(commit))
    for size in (1, 3, 7, 1_000):
        parser = FrontendParser()
        found = [
            at + span.end
            for at in range(0, len(stream), size)
            if (span := parser.feed(stream[at : at + size])) is not None
        ]
        assert found == [len(before) + len(commit)], size


def test_a_rollback_or_a_text_that_says_commit_is_none() -> None:
    stream = (
        START + message(b"Q", b"ROLLBACK;\0") + message(b"Q", b"SELECT 'COMMIT;'\0") + message(b"d", b"COMMIT;\0")
    )
    assert FrontendParser().feed(stream) is None


def test_a_seed_draws_the_same_events_again_and_each_within_its_bounds() -> None:
    base = system_clock()
    one, two, other = (Generator("g", seed, base) for seed in (1, 1, 2))
    parts = [g.part(2_000) for g in (one, two, other)]
    assert parts[0] == parts[1] != parts[2]
    again = [body["event_id"] for batch in parts[0].batches for body in batch]
    assert one.drawn == 2_000
    assert len(again) - len(parts[0].refused) == 2_000, "nothing can come again in the first part"
    assert one.part(2_000)
    assert one.resent > 50
    drawn = [one._draw() for _ in range(5_000)]
    assert Counter(e.fate for e in drawn)[Fate.LATE] > 5
    for event in drawn:
        age = base - event.time
        assert age > DAY + HOUR - 1 if event.fate is Fate.LATE else 0 < age < DAY - 2 * HOUR


def test_rows_that_only_one_side_has_are_told() -> None:
    row, other = (("n", 1),), (("n", 2),)
    assert differences({"t": Counter([row])}, {"t": Counter([row])}) == []
    told = differences({"t": Counter([row])}, {"t": Counter([row, other])})
    assert told == ["t, only in the second (of 1): {'n': 2}"]
