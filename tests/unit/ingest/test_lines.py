"""Cutting newline-delimited JSON, however it comes in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.lines import Line, Lines


def lines_of(*parts: bytes, keep: int = 100, first: int = 1) -> list[Line]:
    lines = Lines(keep=keep, first=first)
    return [line for part in parts for line in lines.feed(part)] + list(lines.end())


def test_blank_lines_are_counted_and_left_out() -> None:
    assert lines_of(b"\n1\n \t\r\n2\r\n\n") == [Line(2, b"1", 1), Line(4, b"2", 1)]


def test_the_last_line_needs_no_end() -> None:
    assert lines_of(b"1\n2") == [Line(1, b"1", 1), Line(2, b"2", 1)]
    assert lines_of(b"") == []


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert lines_of(b"\xef\xbb", b"\xbf1\n\xef\xbb\xbf2\n") == [Line(1, b"1", 1), Line(2, b"\xef\xbb\xbf2", 4)]
    assert lines_of(b"\xef\xbb\xbf\n1") == [Line(2, b"1", 1)]


def test_lines_may_be_counted_from_another_number() -> None:
    assert [line.number for line in lines_of(b"a\nb", first=1_000)] == [1_000, 1_001]


def test_of_a_long_line_only_the_beginning_is_kept() -> None:
    first, second = lines_of(b"x" * 60, b"x" * 60, b"x" * 60 + b"\ny")

    assert (first.number, first.raw, first.length, first.is_cut) == (1, b"x" * 100, 180, True)
    assert (second, second.is_cut) == (Line(2, b"y", 1), False)


@given(st.lists(st.binary(max_size=30), max_size=20), st.integers(1, 40))
def test_how_the_bytes_are_cut_into_parts_makes_no_difference(found: list[bytes], size: int) -> None:
    body = b"\n".join(found)

    parts = [body[start : start + size] for start in range(0, len(body), size)]

    assert lines_of(*parts, keep=10) == lines_of(body, keep=10)
