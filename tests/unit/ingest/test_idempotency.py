"""Ids from an Idempotency-Key."""

from __future__ import annotations

import uuid

import pytest

from services.ingest.domain.idempotency import InvalidKeyError, KeyedIds, idempotency_key
from services.ingest.domain.normalise import EventBody


def test_an_id_follows_from_organisation_key_and_place_alone() -> None:
    ids = KeyedIds("acme", "order-7")

    assert ids.of(0) == KeyedIds("acme", "order-7").of(0) == "246bdd90-9bd2-523e-b87b-74d103a0ab36"
    assert uuid.UUID(ids.of(0)).version == 5
    others = {KeyedIds("acme", "order-8").of(0), KeyedIds("else", "order-7").of(0), ids.of(1), ids.of(10)}
    assert len(others | {ids.of(0)}) == 5


def test_no_organisation_reaches_the_ids_of_another_by_its_key() -> None:
    assert KeyedIds("a", "b:c").of(0) != KeyedIds("a:b", "c").of(0)


@pytest.mark.parametrize(("given", "kept"), [(None, False), ("", False), ("e-1", True), (0, True), (1.5, True)])
def test_only_an_event_without_an_id_gets_one(given: str | int | float | None, kept: bool) -> None:
    body = EventBody(event_type="a", event_id=given)

    KeyedIds("acme", "k").name(body, 3)

    assert body.event_id == (given if kept else KeyedIds("acme", "k").of(3))


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([], None),
        ([b"abc"], "abc"),
        ([b' "abc" '], "abc"),
        ([b"abc", b"abc"], "abc"),
        ([b"k" * 255], "k" * 255),
    ],
)
def test_a_key_may_stand_in_quotes(values: list[bytes], key: str | None) -> None:
    assert idempotency_key([(b"idempotency-key", value) for value in values]) == key


@pytest.mark.parametrize("values", [[b""], [b'""'], [b"k" * 256], [b"k\xc3\xbc"], [b"a\tb"], [b"a", b"b"]])
def test_other_keys_are_refused(values: list[bytes]) -> None:
    with pytest.raises(InvalidKeyError):
        idempotency_key([(b"idempotency-key", value) for value in values])
