"""JSON that every later stage can hold: what we accept is less than what parsers let pass.

Refused are non-finite numbers, integers outside −2⁶³…2⁶⁴−1, NUL, lone surrogates and nesting deeper than 64: each of
them breaks Postgres, Kafka consumers in other languages, or a parser's stack. A look at the raw bytes clears nearly
every document in a microsecond; only a suspicious one is walked.
"""

from __future__ import annotations

import json
import math
import re
from enum import Enum
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

MAX_DEPTH = 64

_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_SHAPE = bytes.maketrans(b"123456789E", b"000000000e")
"""Makes all digits alike, so that plain substring searches, which are much faster, find long and huge numbers."""
_LONG = b"0" * 19
_LONG_NUMBER = re.compile(rb"(?:\A|[:,\[ \t\r\n-])0{19}")
"""Where a number may begin: the digits of an id in a string mostly begin with it, behind a quotation mark."""
_EXPONENT = re.compile(rb"0e[+-]?000+(?=[,\]}\s]|\Z)")
"""With what may follow a number: within the hexadecimal digits of ids, the rest of them follows."""
_MANTISSA = 64
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Violation(Enum):
    """Why a document is refused; the value is the machine-readable reason."""

    MALFORMED = "malformed_json"
    SCHEMA = "schema_violation"
    NON_FINITE = "non_finite_number"
    INTEGER_RANGE = "integer_out_of_range"
    NUL = "nul_character"
    SURROGATE = "lone_surrogate"
    DEPTH = "too_deep"


class InvalidJsonError(Exception):
    """`violation` says what kind of fault, `str()` what and where."""

    def __init__(self, violation: Violation, detail: str) -> None:
        super().__init__(detail)
        self.violation = violation


def loads(raw: bytes) -> Any:
    """The document as Python values. Raises InvalidJsonError."""
    return decode(raw, _ANY)


_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def decode(raw: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """The document as the decoder's type, whose raw parts have been checked too. Raises InvalidJsonError."""
    if is_suspicious(raw):
        inspect(raw)
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        if decoder is not _ANY:
            loads(raw)  # the decoder stops at the first fault: behind it, the document may be no JSON at all
        raise InvalidJsonError(Violation.SCHEMA, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJsonError(Violation.MALFORMED, str(error)) from None
    except RecursionError:
        raise InvalidJsonError(Violation.DEPTH, f"nested deeper than {MAX_DEPTH}") from None


def is_suspicious(raw: bytes) -> bool:
    """False guarantees that a document which parses holds nothing that we refuse."""
    return has_suspicious_value(raw) or openings(raw) > MAX_DEPTH


def has_suspicious_value(raw: bytes) -> bool:
    """False guarantees that a document which parses holds nothing that we refuse, but for its depth."""
    if b"\\" in raw and _ESCAPE.search(raw) is not None:
        return True
    shape = raw.translate(_SHAPE)
    return (_LONG in shape and _LONG_NUMBER.search(shape) is not None) or _may_be_huge(shape)


def openings(raw: bytes) -> int:
    """No document nests deeper: its opening brackets, those in strings included."""
    return raw.count(b"[") + raw.count(b"{")


def _may_be_huge(shape: bytes) -> bool:
    """Whether a number has a three-digit exponent; hexadecimal ids are full of look-alikes within strings."""
    for exponent in _EXPONENT.finditer(shape):
        before = shape[max(0, exponent.start() - _MANTISSA) : exponent.start()].rstrip(b"0.").removesuffix(b"-")
        if not before or before[-1:] in b"[:, \t\r\n":
            return True
    return False


def inspect(raw: bytes) -> Any:
    """Parses slowly, by the standard library, which lets every fault be named. Raises InvalidJsonError."""
    try:
        value = json.loads(raw, parse_constant=_refuse_constant, parse_int=_bounded_int, parse_float=_finite_float)
    except InvalidJsonError:
        raise
    except RecursionError:
        raise InvalidJsonError(Violation.DEPTH, f"nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:  # malformed JSON or invalid UTF-8
        raise InvalidJsonError(Violation.MALFORMED, str(error)) from None
    check(value)
    return value


def check(value: Any) -> None:
    """Raises InvalidJsonError for the first part of a decoded `value` that we refuse."""
    pending: list[tuple[Any, int]] = [(value, 1)]
    while pending:
        part, depth = pending.pop()
        if isinstance(part, str):
            _check_text(part)
        elif isinstance(part, float):
            if not math.isfinite(part):
                raise InvalidJsonError(Violation.NON_FINITE, "a number is not finite")
        elif isinstance(part, int):
            if not -(2**63) <= part < 2**64:
                raise InvalidJsonError(Violation.INTEGER_RANGE, "an integer is outside −2⁶³…2⁶⁴−1")
        elif isinstance(part, dict | list):
            if depth > MAX_DEPTH:
                raise InvalidJsonError(Violation.DEPTH, f"nested deeper than {MAX_DEPTH}")
            if isinstance(part, dict):
                for key in part:
                    _check_text(key)
                part = part.values()
            pending.extend((child, depth + 1) for child in part)


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise InvalidJsonError(Violation.NUL, "a string holds U+0000")
    if _LONE_SURROGATE.search(text):
        raise InvalidJsonError(Violation.SURROGATE, "a string holds half of a surrogate pair")


def _refuse_constant(name: str) -> Any:
    raise InvalidJsonError(Violation.MALFORMED, f"{name} is not JSON")


def _finite_float(digits: str) -> float:
    """A name that stands twice hides its first value from `check`, not from the decoder."""
    number = float(digits)
    if not math.isfinite(number):
        raise InvalidJsonError(Violation.NON_FINITE, "a number is not finite")
    return number


def _bounded_int(digits: str) -> int:
    if len(digits) > 20:
        raise InvalidJsonError(Violation.INTEGER_RANGE, "an integer is outside −2⁶³…2⁶⁴−1")
    return int(digits)
