from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.assignment.domain.decision import Reason
from services.assignment.domain.facts import Ids
from services.assignment.ofrep import (
    MAX_BODY,
    MAX_ID_LENGTH,
    ErrorCode,
    EvaluationError,
    EvaluationReason,
    context_of,
    evaluation,
    ids_of,
    reason_of,
    unit_of,
)


def refused(ask: Any, *arguments: object) -> ErrorCode:
    with pytest.raises(EvaluationError) as error:
        ask(*arguments)
    return error.value.code


@pytest.mark.parametrize("body", [b"{}", b'{"context": null}', b'{"context": {}}', b'{"other": {"a": 1}}'])
def test_a_request_without_context_has_an_empty_one(body: bytes) -> None:
    assert context_of(body) == {}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", ErrorCode.PARSE_ERROR),
        (b"{", ErrorCode.PARSE_ERROR),
        (b'{"context": {}} x', ErrorCode.PARSE_ERROR),
        (b'{"context": {"a": NaN}}', ErrorCode.PARSE_ERROR),
        (b'{"more": "\xff"}', ErrorCode.PARSE_ERROR),
        (b"null", ErrorCode.INVALID_CONTEXT),
        (b"[]", ErrorCode.INVALID_CONTEXT),
        (b'{"context": "x"}', ErrorCode.INVALID_CONTEXT),
        (b'{"context": {"a": 1180591620717411303424}}', ErrorCode.INVALID_CONTEXT),
        (b'{"context": {"a": "\\u0000"}}', ErrorCode.INVALID_CONTEXT),
        (b'{"context": {"a": "\\ud800"}}', ErrorCode.INVALID_CONTEXT),
        (b"[" * 100_000, ErrorCode.INVALID_CONTEXT),
        (b'{"context": {"a": "' + b"x" * MAX_BODY + b'"}}', ErrorCode.INVALID_CONTEXT),
    ],
)
def test_a_body_that_is_no_request_is_refused(body: bytes, code: ErrorCode) -> None:
    assert refused(context_of, body) is code


def test_the_targeting_key_is_a_text_or_a_whole_number() -> None:
    assert unit_of({"targetingKey": "u"}) == "u"
    assert unit_of({"targetingKey": 7}) == "7"
    assert unit_of({"targetingKey": "x" * MAX_ID_LENGTH}) == "x" * MAX_ID_LENGTH
    assert unit_of({}) is unit_of({"targetingKey": None}) is unit_of({"targetingKey": ""}) is None
    wrongs: list[Any] = [True, 1.5, [], {}, "x" * (MAX_ID_LENGTH + 1)]
    for wrong in wrongs:
        assert refused(unit_of, {"targetingKey": wrong}) is ErrorCode.INVALID_CONTEXT


@pytest.mark.parametrize(
    ("context", "kind", "ids"),
    [
        ({"targetingKey": "t"}, "user", Ids(user="t")),
        ({"targetingKey": "t"}, "session", Ids(session="t")),
        ({"targetingKey": "t"}, "job", Ids(job="t")),
        ({"targetingKey": "t", "user_id": "u"}, "user", Ids(user="u")),
        ({"targetingKey": "t", "userId": 7}, "user", Ids(user="7")),
        ({"user_id": "u", "userId": "v"}, "user", Ids(user="u")),
        ({"targetingKey": "t", "userId": "", "user_id": None}, "user", Ids(user="t")),
        ({"targetingKey": "t", "user_id": "u"}, "session", Ids(session="t", user="u")),
        ({"targetingKey": "t", "importJobId": "j"}, "job", Ids(job="j")),
        ({"targetingKey": "t", "migrationJobId": "j", "anonymousId": "a"}, "user", Ids("t", "a", None, "j")),
    ],
)
def test_an_attribute_of_the_units_kind_comes_before_the_targeting_key(
    context: dict[str, Any], kind: str, ids: Ids
) -> None:
    assert ids_of(context, kind) == ids


def test_an_experiment_needs_a_unit_of_its_kind() -> None:
    assert refused(ids_of, {"user_id": "u"}, "session") is ErrorCode.TARGETING_KEY_MISSING
    assert refused(ids_of, {"targetingKey": "t", "userId": [1]}, "user") is ErrorCode.INVALID_CONTEXT


def test_every_reason_has_a_word_that_openfeatures_clients_know() -> None:
    split = {reason for reason in Reason if reason_of(reason) is EvaluationReason.SPLIT}
    assert split == {Reason.SPLIT, Reason.STICKY, Reason.STORE_UNREADABLE}
    assert {reason_of(reason) for reason in set(Reason) - split} == {EvaluationReason.DISABLED}


@pytest.mark.parametrize("value", [False, 0, "", [], {}])
def test_a_value_that_is_empty_is_still_a_value(value: object) -> None:
    assert msgspec.json.decode(evaluation("f", value, EvaluationReason.STATIC, "on", {}))["value"] == value
    assert "value" not in msgspec.json.decode(evaluation("f", None, EvaluationReason.DISABLED, "off", {}))


def test_an_error_does_not_grow_with_what_was_sent() -> None:
    body = EvaluationError(ErrorCode.FLAG_NOT_FOUND, "x" * 10_000).body("k" * 10_000)
    assert len(body) < 600
