"""The quick look at raw bytes must never clear a document that the slow look would refuse."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import strict_json

numbers = st.from_regex(r"\A-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,5})?\Z")
pieces = st.one_of(
    numbers,
    st.text(max_size=12).map(json.dumps),
    st.sampled_from(['"\\u0000"', '"\\ud800"', '"\\uDFFF"', '"\\ud83d\\ude00"', "18446744073709551616", "1E+400"]),
)
spaces = st.sampled_from(["", " ", "\n", "\t", "\r\n"])


@given(st.lists(st.tuples(pieces, spaces), min_size=1, max_size=5), st.booleans())
def test_what_is_cleared_unseen_would_also_pass_the_walk(parts: list[tuple[str, str]], bare: bool) -> None:
    text = parts[0][0] if bare else "[" + ",".join(space + piece + space for piece, space in parts) + "]"
    raw = text.encode()
    if strict_json.is_suspicious(raw):
        return
    value: Any = msgspec.json.decode(raw)
    strict_json.check(value)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"id": "3e1f9d1c-5b0e-4c1e-9d1e-d3b1a8e1234c"}',
        b'["1e234567-0000-4000-8000-000000000000", "ab-1e999"]',
        b'{"amount": 12.5e2, "count": 123456789012345678}',
    ],
)
def test_ids_and_ordinary_numbers_raise_no_suspicion(raw: bytes) -> None:
    assert not strict_json.is_suspicious(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"1e400",
        b"-1E400",
        b"[1.5e+0400]",
        b'{"a":-1e-400}',
        b"[" + b"9" * 400 + b".5]",
        b'{"a": ' + b"0." + b"1" * 80 + b"e999}",
    ],
)
def test_huge_numbers_raise_suspicion(raw: bytes) -> None:
    assert strict_json.is_suspicious(raw)
