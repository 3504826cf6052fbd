"""Taking batches apart."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.batch_body import MAX_BATCH_EVENTS, BatchFault, NoBatch, events_of

DEEP = b'{"event_type":"a","event_data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
SURROGATE = b'{"event_type": "a", "event_data": {"x": "\\ud800, ]}"}}'
GOOD = b'{"event_type": "a", "event_data": {"x": "],\\"[", "y": [1, {"z": 2}]}}'


def fault(body: bytes) -> BatchFault:
    found = events_of(body)
    assert isinstance(found, NoBatch), found
    assert found.detail
    return found.fault


def test_a_batch_is_cut_into_the_bytes_of_its_events() -> None:
    assert events_of(b'{"events": [' + GOOD + b" , " + GOOD + b"]}") == [GOOD, GOOD]


@pytest.mark.parametrize("bad", [DEEP, SURROGATE], ids=["deep", "surrogate"])
def test_what_no_parser_takes_spoils_only_itself(bad: bytes) -> None:
    for body in (
        b'{"events":[' + GOOD + b", " + bad + b" ," + GOOD + b"]}",
        b'{"sent_at": "now", "events" : [ ' + GOOD + b"," + bad + b"," + GOOD + b' ], "more": {"events": [1]}}',
    ):
        assert events_of(body) == [GOOD, bad, GOOD]


def test_only_the_list_at_the_top_counts() -> None:
    body = b'{"x": {"events": [1]}, "y": "events", "events": [' + SURROGATE + b"]}"

    assert events_of(body) == [SURROGATE]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", BatchFault.MALFORMED),
        (b"nonsense", BatchFault.MALFORMED),
        (b'{"events": [' + GOOD, BatchFault.MALFORMED),
        (b'{"events": [' + GOOD + b"]}{}", BatchFault.MALFORMED),
        (b'{"events": [' + SURROGATE, BatchFault.MALFORMED),
        (b'{"events": [' + SURROGATE + b"]", BatchFault.MALFORMED),
        (b'{"events": [' + SURROGATE + b"]}]", BatchFault.MALFORMED),
        (b'{"events": [' + SURROGATE + b"], NaN}", BatchFault.MALFORMED),
        (b'{"events": [' + SURROGATE + b'], "events": [1]}', BatchFault.SCHEMA),
        (b'{"events": 5, "x": "\\ud800"}', BatchFault.SCHEMA),
        (b"null", BatchFault.SCHEMA),
        (b"[" + GOOD + b"]", BatchFault.SCHEMA),
        (b"{}", BatchFault.SCHEMA),
        (b'{"events": {}}', BatchFault.SCHEMA),
        (b'{"events": []}', BatchFault.EMPTY),
        (b'{"events": [' + b"1," * MAX_BATCH_EVENTS + b"1]}", BatchFault.TOO_LONG),
        (b'{"events": [' + b'"\\ud800",' * MAX_BATCH_EVENTS + b"1]}", BatchFault.TOO_LONG),
    ],
)
def test_what_is_no_batch_has_its_fault(body: bytes, expected: BatchFault) -> None:
    assert fault(body) is expected


def test_ten_thousand_events_are_a_batch() -> None:
    assert len(events_of(b'{"events": [' + b"1," * (MAX_BATCH_EVENTS - 1) + b"1]}")) == MAX_BATCH_EVENTS  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body",
    [
        b'{"events":["' + b"a" * 2_000_000,
        b'{"events":["\\ud800' + b'\\"' * 1_000_000,
        b'{"events":["' + b"\\" * 2_000_001,
        b'{"events":[' + b"[" * 2_000_000,
        b"{" * 2_000_000,
        b'{"events":["\\ud800",' + b'"",' * 500_000,
    ],
    ids=["open string", "escaped quotes", "backslashes", "brackets", "braces", "empty strings"],
)
def test_hostile_bodies_take_time_in_proportion_to_their_size(body: bytes) -> None:
    started = time.process_time()

    assert fault(body) in (BatchFault.MALFORMED, BatchFault.SCHEMA, BatchFault.TOO_LONG)
    assert time.process_time() - started < 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(json_values, min_size=1, max_size=6), st.sampled_from([(",", ":"), (" , ", " : ")]))
def test_cutting_by_structure_finds_the_same_events_as_parsing(
    values: list[Any], separators: tuple[str, str]
) -> None:
    # One lone surrogate sends the whole body down the way that parsers refuse.
    dumped = [json.dumps(value, separators=separators).encode() for value in [*values, "\ud800"]]
    body = b'{"before": {"events": [0]}, "events": [' + b" , ".join(dumped) + b'], "after": ["]", "["]}'

    assert events_of(body) == dumped
