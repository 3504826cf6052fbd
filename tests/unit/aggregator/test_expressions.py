"""Computed values: what they mean, that a column is what its rows are, and that hostile text is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.domain.expressions import MAX_OPERATIONS, Expression, parse_expression, parse_source
from services.aggregator.domain.paths import Path
from services.aggregator.domain.values import INVALID
from shared.definition_error import DefinitionError
from tests.unit.aggregator.builders import NOW, bounded, decoded


def value_of(text: str, properties: dict[str, Any] | None = None, **fields: Any) -> Any:
    event = decoded(properties=properties or {}, **fields)
    expression = parse_expression(text, "spec.value")
    found = expression.of(event)
    assert expression.read([event]) == [found]
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("2 - 3 - 4", -5),
        ("8 / 2 / 2", 2),
        ("-2 * --3", -6),
        ("1e3 + 0.5e1", 1005),
        ("1 / 0", None),
        ("1 / 0 + 1", None),
        ("1 < 2", 1),
        ("2 <= 1", 0),
        ("1 == 1.0", 1),
        ("1 != 1", 0),
        ('"a" < "b"', 1),
        ("\"a\" == 'a'", 1),
        ('"1" == 1', 0),
        ("true == 1", 0),
        ("true == true", 1),
        ("1 < 2 and not 2 < 1 or 1 / 0", None),
        ("1 < 2 and 2 < 3", 1),
        ("0 or 0", 0),
        ("not true", 0),
        ('"a" + 1', INVALID),
        ('"a" < 1', INVALID),
        ("true + 1", INVALID),
        ("number(true) + 1", 2),
        ('number(" 12.5e1 ")', 125),
        ('number("")', INVALID),
        ('number("0x10")', INVALID),
        ('number("1e999")', INVALID),
        ('number("nan")', INVALID),
        ("1e308 * 10", INVALID),
        ("min(3, 1, 2)", 1),
        ("max(3, 1)", 3),
        ("abs(-3)", 3),
        ("round(2.5)", 2),
        ("floor(-1.5)", -2),
        ("ceil(1.2)", 2),
        ('length("äöü")', 3),
        ("if(1 < 2, 10, 1 / 0)", 10),
        ('if("x", 1, 2)', INVALID),
        ("if(true, 1, 2)", 1),
        ('seconds_between("2025-10-09T00:00:00Z", "2025-10-09T00:01:00.500+00:00")', 60.5),
        ('milliseconds_between("2025-10-09T02:00:00+02:00", 1759968000)', 0),
        ("seconds_between(1759968000000, 1759968001500)", 1.5),
        ("seconds_between(1759968000000000, 1759968000)", 0),
        ('seconds_between("yesterday", 0)', INVALID),
        ('seconds_between("2025-10-09", "2025-10-09T00:01")', 60),
        ('seconds_between("2025-10-09 00:00:00", "2025-10-09t00:00:01.1234567z")', 1.123456),
        ('seconds_between("2025-10-09T00:00:00", "2025-10-09T02:30:00+0230")', 0),
        ('seconds_between("20251009", 0)', INVALID),
        ('seconds_between("2025-W41-4", 0)', INVALID),
        ('seconds_between("2025-10-09T24:00:00", 0)', INVALID),
        ('seconds_between("2025-02-30", 0)', INVALID),
        ('seconds_between("２０２５-10-09", 0)', INVALID),
        ('seconds_between("0001-01-01T00:00:00+23:00", "9999-12-31T00:00:00-23:00")', 315537976800),
        ("seconds_between(true, 0)", INVALID),
        ("seconds_between(1e18, 0)", INVALID),
    ],
)
def test_an_expression_of_literals_means_what_it_says(text: str, value: Any) -> None:
    assert value_of(text) == value


@pytest.mark.parametrize(
    ("text", "properties", "value"),
    [
        ("properties.done / properties.all", {"done": 3, "all": 4}, 0.75),
        ("properties.done / properties.all", {"done": 3, "all": 0}, None),
        ("properties.done / properties.all", {"done": 3}, None),
        ("properties.done / properties.all", {"done": 3, "all": None}, None),
        ("properties.done / properties.all", {"done": 3, "all": "4"}, INVALID),
        ("properties.done / properties.all", {"done": "3"}, None),
        ("properties.done / number(properties.all)", {"done": 3, "all": "4"}, 0.75),
        ("properties.from.class", {"from": {"class": 2}}, 2),
        ("properties.from.class + 1", {"from": [1]}, None),
        ('properties["load-time"].2fa + 1', {"load-time": {"2fa": 1}}, 2),
        ("properties['a b'] + 1", {"a b": 1}, 2),
        ("properties.a + 1", {"a": 2**70}, 2.0**70),
        ("properties.a + 1", {"a": 10**400}, INVALID),
        ("properties.a == properties.b", {"a": 2**53 + 1, "b": 2.0**53}, 1),
        ("coalesce(properties.a, properties.b)", {"b": 5}, 5),
        ("coalesce(number(properties.a), 0)", {"a": "?"}, INVALID),
        ("length(properties.list)", {"list": [1, 2, 3]}, 3),
        ("length(properties.list)", {"list": {"a": 1}}, INVALID),
        ("length(properties.list) + 1", {}, None),
        ("properties.a == properties.a", {"a": [1]}, INVALID),
        ("if(properties.status == 'failed', 1, 0)", {"status": "failed"}, 1),
        ("if(properties.status == 'failed', 1, 0)", {}, None),
    ],
)
def test_an_expression_reads_events(text: str, properties: dict[str, Any], value: Any) -> None:
    assert value_of(text, properties) == value


def test_event_fields_and_time_can_be_read() -> None:
    assert value_of("time") == NOW / 1000
    assert value_of("seconds_between(properties.began, time)", {"began": (NOW - 2_500_001) / 1000}) == 2.500001
    assert value_of("user_id == 'u'", user_id="u") == 1
    assert value_of("context.cores * 2", context={"cores": 4}) == 8


@pytest.mark.parametrize(
    "text", ["properties.a", "user_id", "context.a.b", "properties.load-time", " properties.a:b@c.d-e "]
)
def test_a_path_alone_stays_a_path(text: str) -> None:
    assert isinstance(parse_source(text, "spec.value"), Path)


@pytest.mark.parametrize(
    "text", ["properties.a-properties.b", "properties.a - 1", "properties.a/2", 'properties["a"]', "time", "-1"]
)
def test_anything_else_is_an_expression(text: str) -> None:
    assert isinstance(parse_source(text, "spec.value"), Expression)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "must be"),
        ("properties", "character 11"),
        ("properties.", "character 12"),
        ("properties[0]", "character 12"),
        ('properties[""]', "character 12"),
        ("amount", "character 1:"),
        ("1 +", "character 4"),
        ("1 + * 2", "character 5"),
        ("1 2", "character 3"),
        ("(1", "character 3"),
        ("1)", "character 2"),
        ("1 < 2 < 3", "character 7"),
        ("min(1)", "min takes 2 to 8"),
        ("number(1, 2)", "number takes 1"),
        ("if(1, 2)", "if takes 3"),
        ("coalesce(1)", "coalesce takes"),
        ("min 1", "character 5"),
        ("open('x')", "character 1"),
        ("__import__('os')", "character 1"),
        ("().__class__", "character 2"),
        ("1 ** 2", "character 4"),
        ("1 // 2", "character 4"),
        ("1 % 2", "character 3"),
        ("1; 2", "character 2"),
        ('"open', "character 1"),
        ("1e999", "character 1"),
        ("\x00", "character 1"),
        ("properties.a\n+\u00a01", "character 15"),
        ("(" * 300, "nested"),
        ("-" * 300 + "1", "operations"),
        ("not " * 124 + "1", "operations"),
        ("1" + "+1" * 200, "operations"),
        ("1+" * 300, "characters"),
        ("user_id.x", "character 8"),
        ("time.x", "character 5"),
    ],
)
def test_a_fault_is_named_where_it_stands(text: str, where: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse_expression(text, "spec.value")
    assert refused.value.place == "spec.value"
    assert where in refused.value.what


def test_the_longest_chain_allowed_can_be_computed() -> None:
    assert value_of("1" + "+1" * MAX_OPERATIONS) == MAX_OPERATIONS + 1
    assert value_of("(" * 19 + "1" + ")" * 19) == 1


PIECES = ["properties.a", "properties.b", "time", "1", "0.5", "number(", "min(", "if(", "(", ")", ",", "'x'", "not "]
PIECES += [" + ", " - ", " * ", " / ", " <= ", " == ", " and ", " or ", "-", "properties.c[", "]", ".", "length("]


@bounded
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=14).map("".join)))
def test_any_text_is_an_expression_or_a_definition_error(text: str) -> None:
    try:
        parsed = parse_source(text, "spec.value")
    except DefinitionError:
        return
    parsed.read([decoded(properties={"a": 1, "b": "2"})])


def expressions() -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["properties.a", "properties.b", "context.c", "time", "2", "0", "0.1", "'x'", "true"])
    functions = ["({0} + {1})", "({0} - {1})", "({0} * {1})", "({0} / {1})", "({0} < {1})", "({0} == {1})"]
    functions += ["({0} >= {1})", "({0} != {1})", "({0} and {1})", "({0} or {1})", "min({0}, {1})", "max({0}, {1})"]
    functions += [
        "if({0}, {1}, 3)",
        "coalesce({0}, {1})",
        "-{0}",
        "abs({0})",
        "round({0})",
        "floor({0})",
        "ceil({0})",
    ]
    functions += ["number({0})", "seconds_between({0}, {1})", "length({0})", "(not {0})"]

    def extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.builds(lambda f, a, b: str(f).format(a, b), st.sampled_from(functions), inner, inner)

    return st.recursive(leaves, extend, max_leaves=6)


NUMBERS = st.one_of(st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False), st.integers())
ANYTHING = st.one_of(NUMBERS, NUMBERS, st.none(), st.booleans(), st.text(max_size=3), st.lists(st.none(), max_size=2))


@bounded
@given(expressions(), st.booleans(), st.data())
def test_a_column_is_what_its_rows_are_one_by_one(text: str, plain: bool, data: st.DataObject) -> None:
    values = NUMBERS if plain else ANYTHING
    events = [
        decoded(properties={"a": data.draw(values), "b": data.draw(values)}, context={"c": data.draw(values)})
        for _ in range(data.draw(st.integers(1, 4)))
    ]
    expression = parse_expression(text, "spec.value")
    assert [repr(v) for v in map(_plain, expression.read(events))] == [repr(_plain(expression.of(e))) for e in events]


def _plain(value: Any) -> Any:
    """-0.0 and integers are the numbers they equal."""
    return float(value) + 0.0 if type(value) in (int, float) and abs(value) < 1e300 else value
