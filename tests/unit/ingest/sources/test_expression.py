"""Expressions within bounds: honest ones find what they look for, no other one holds up the process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.ingest.domain.sources.expression import Expression, ExpressionError

_DOUBLING = ("[@,@]", "{a:@,b:@}", "[@,@]|[]", "map(&[@,@], [@])", "[@,@].to_string(@)")


def found(text: str, value: Any) -> Any:
    return Expression(text).search(value, len(json.dumps(value)))


@pytest.mark.parametrize(
    ("text", "value", "finds"),
    [
        ("a.b", {"a": {"b": 1}}, 1),
        ("a[?b > `1`].b | [0]", {"a": [{"b": 1}, {"b": 2}]}, 2),
        ("join('-', [a, to_string(b)])", {"a": "x", "b": 5}, "x-5"),
        ("nothing", {"a": 1}, None),
    ],
)
def test_what_is_there_is_found(text: str, value: Any, finds: Any) -> None:
    assert found(text, value) == finds


def test_everything_in_a_large_page_may_be_looked_at() -> None:
    page = {"items": [{"id": n, "name": "n" * 20, "open": n % 2 == 0} for n in range(50_000)]}
    items = found("items[?open].{id: id, label: join(' ', [name, to_string(id)])}", page)
    assert (len(items), items[1]) == (25_000, {"id": 2, "label": "n" * 20 + " 2"})


@pytest.mark.parametrize("step", _DOUBLING)
@pytest.mark.parametrize("end", ["", "|to_string(@)", "|[0]", "|[][][]"])
def test_what_doubles_with_every_step_ends(step: str, end: str) -> None:
    with pytest.raises(ExpressionError, match="beyond bounds"):
        found("|".join([step] * 60) + end, {"a": 1})


def test_what_makes_many_of_each_item_ends() -> None:
    eight = "map(&[@, @, @, @, @, @, @, @], @)[]"
    with pytest.raises(ExpressionError, match="beyond bounds"):
        found(f"{eight} | {eight} | {eight}", [1] * 30_000)


@pytest.mark.parametrize("text", ["abs(a)", "sum(a)", "a[::0]", "to_number(a) | abs(@)"])
def test_what_cannot_be_told_is_one_line(text: str) -> None:
    with pytest.raises(ExpressionError) as error:
        found(text, {"a": ["x"]})
    assert "\n" not in str(error.value)
