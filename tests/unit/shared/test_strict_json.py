"""Every violation by name, and nothing sound refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import strict_json
from shared.strict_json import MAX_DEPTH, InvalidJsonError, Violation

bounded = settings(max_examples=200, deadline=None)


class Body(msgspec.Struct):
    name: str
    count: int = 0
    rest: dict[str, Any] = {}


DECODER = msgspec.json.Decoder(Body)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


VIOLATIONS: dict[str, tuple[bytes, Violation]] = {
    "empty": (b"", Violation.MALFORMED),
    "not JSON": (b"{name: 1}", Violation.MALFORMED),
    "cut short": (b'{"name": "x"', Violation.MALFORMED),
    "two documents": (b"{} {}", Violation.MALFORMED),
    "NaN": (b"[NaN]", Violation.MALFORMED),
    "Infinity": (b"[-Infinity]", Violation.MALFORMED),
    "invalid UTF-8": (b'["\xff"]', Violation.MALFORMED),
    "surrogate in UTF-8": (b'["\xed\xa0\x80"]', Violation.MALFORMED),
    "raw control character": (b'["\x00"]', Violation.MALFORMED),
    "leading zeros": (b"[007]", Violation.MALFORMED),
    "1e400": (b"[1e400]", Violation.NON_FINITE),
    "-1E+0400": (b'{"a": -1E+0400}', Violation.NON_FINITE),
    "1e400 behind a name that comes again": (b'{"a": 1e400, "a": 1}', Violation.NON_FINITE),
    "a float of 400 digits": (b"[" + b"9" * 400 + b".5]", Violation.NON_FINITE),
    "2^64": (b"[18446744073709551616]", Violation.INTEGER_RANGE),
    "-2^63 - 1": (b"[-9223372036854775809]", Violation.INTEGER_RANGE),
    "5000 digits": (b"[" + b"1" * 5000 + b"]", Violation.INTEGER_RANGE),
    "NUL": (b'{"a": "x\\u0000"}', Violation.NUL),
    "NUL in a name": (b'{"a\\u0000": 1}', Violation.NUL),
    "lone high surrogate": (b'["\\ud800"]', Violation.SURROGATE),
    "lone low surrogate": (b'["\\uDC00 x"]', Violation.SURROGATE),
    "surrogates the wrong way round": (b'["\\udc00\\ud800"]', Violation.SURROGATE),
    "lone surrogate as a name": (b'{"\\ud800": 1}', Violation.SURROGATE),
    "65 deep": (nested(MAX_DEPTH + 1), Violation.DEPTH),
    "65 objects deep": (b'{"a":' * MAX_DEPTH + b"{}" + b"}" * MAX_DEPTH, Violation.DEPTH),
    "100,000 deep": (nested(100_000), Violation.DEPTH),
}


@pytest.mark.parametrize(("raw", "violation"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_a_faulty_document_is_refused_by_the_name_of_its_fault(raw: bytes, violation: Violation) -> None:
    with pytest.raises(InvalidJsonError) as refused:
        strict_json.loads(raw)
    assert refused.value.violation is violation
    assert str(refused.value)


@pytest.mark.parametrize(("raw", "violation"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_the_same_fault_deep_within_a_typed_body_has_the_same_name(raw: bytes, violation: Violation) -> None:
    if violation is Violation.MALFORMED or violation is Violation.DEPTH:
        return
    with pytest.raises(InvalidJsonError) as refused:
        strict_json.decode(b'{"name": "x", "rest": {"inner": ' + raw + b"}}", DECODER)
    assert refused.value.violation is violation


SOUND: dict[str, tuple[bytes, Any]] = {
    "the largest integer": (b"[18446744073709551615]", [2**64 - 1]),
    "the smallest integer": (b"[-9223372036854775808]", [-(2**63)]),
    "the largest float": (b"[1.7976931348623157e308]", [1.7976931348623157e308]),
    "a float too small to see": (b"[1e-400]", [0.0]),
    "many digits after the point": (b"[0." + b"1" * 40 + b"]", [0.1111111111111111]),
    "a pair of surrogates": (b'["\\ud83d\\ude00"]', ["\U0001f600"]),
    "an escaped backslash before u0000": (b'["\\\\u0000"]', ["\\u0000"]),
    "long digits within text": (b'["' + b"9" * 400 + b'"]', ["9" * 400]),
    "an exponent within text": (b'["1e999"]', ["1e999"]),
    "64 deep": (nested(MAX_DEPTH), json.loads(nested(MAX_DEPTH))),
    "a hundred lists side by side": (b"[" + b"[]," * 99 + b"[]]", [[]] * 100),
    "a bare value": (b"null", None),
    "blanks around": (b" \n{}\t", {}),
}


@pytest.mark.parametrize(("raw", "value"), SOUND.values(), ids=SOUND.keys())
def test_what_only_looks_dangerous_passes(raw: bytes, value: Any) -> None:
    assert strict_json.loads(raw) == value
    strict_json.check(value)


def test_a_body_of_another_shape_violates_its_schema() -> None:
    for raw in (b'{"name": 5}', b"{}", b"[]", b'{"name": "x", "count": 1.5}'):
        with pytest.raises(InvalidJsonError) as refused:
            strict_json.decode(raw, DECODER)
        assert refused.value.violation is Violation.SCHEMA


def test_a_body_that_is_no_json_behind_a_wrong_type_is_malformed() -> None:
    with pytest.raises(InvalidJsonError) as refused:
        strict_json.decode(b'{"name": 5, nonsense', DECODER)
    assert refused.value.violation is Violation.MALFORMED


texts = st.one_of(
    st.text(st.characters(), max_size=6),
    st.sampled_from(["\x00", "\ud800", "\udfff", "\\u0000", "1e999", "9" * 25, '"', "[", "{" * 70]),
)
numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([2**63, 2**64 - 1, 2**64, -(2**63) - 1]),
)
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
numerals = st.sampled_from(
    ["1e400", "-1E999", "1e-999", "9" * 30, "0." + "9" * 30, "1e0400", "12345678901234567890e2"]
)


def refused_by_the_walk(raw: bytes) -> bool:
    """What the standard library makes of it, part by part."""
    try:
        strict_json.check(json.loads(raw))
    except InvalidJsonError:
        return True
    return False


@bounded
@given(documents, st.booleans(), st.integers(0, 70))
def test_what_the_walk_refuses_is_never_cleared_unseen(document: Any, ascii_only: bool, wrapped: int) -> None:
    text = "[" * wrapped + json.dumps(document, ensure_ascii=ascii_only) + "]" * wrapped
    raw = text.encode("utf-8", "surrogatepass")
    if ascii_only and refused_by_the_walk(raw):
        assert strict_json.is_suspicious(raw)
    if not strict_json.is_suspicious(raw):
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        strict_json.check(value)


@bounded
@given(
    st.lists(st.one_of(numerals, documents.map(json.dumps)), min_size=1, max_size=4), st.sampled_from(["", " ", "\n"])
)
def test_numerals_as_no_encoder_writes_them_are_never_cleared_unseen(parts: list[str], space: str) -> None:
    raw = ("{" + ",".join(f'"k{i}":{space}{p}{space}' for i, p in enumerate(parts)) + "}").encode()
    if refused_by_the_walk(raw):
        assert strict_json.is_suspicious(raw)


@bounded
@given(documents)
def test_a_document_that_passes_comes_out_as_it_went_in(document: Any) -> None:
    raw = json.dumps(document).encode()
    try:
        strict_json.check(document)
    except InvalidJsonError:
        with pytest.raises(InvalidJsonError):
            strict_json.loads(raw)
    else:
        assert strict_json.loads(raw) == document


@bounded
@given(st.binary(max_size=40))
def test_bytes_at_random_are_refused_or_decoded_and_nothing_else(raw: bytes) -> None:
    try:
        value = strict_json.loads(raw)
    except InvalidJsonError:
        return
    assert value == json.loads(raw)
