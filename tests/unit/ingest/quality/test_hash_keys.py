"""Values hashed by keys of a period."""

from __future__ import annotations

import base64
import hmac
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.quality.hash_keys import Hasher, HashKeys
from services.ingest.domain.quality.hash_period import ALWAYS, Rotation, period_of, present_and_next
from shared.clock import from_datetime

ROOT, KEY = b"r" * 32, b"k" * 32


@given(st.text())
def test_a_hash_is_the_beginning_of_the_values_hmac_sha256(value: str) -> None:
    hashed = Hasher(ROOT, KEY).hashed(value)

    digest = base64.urlsafe_b64decode(hashed.removeprefix("h1_"))
    assert digest[:18] == hmac.digest(KEY, value.encode("utf-8", "surrogatepass"), "sha256")[:18]
    assert (hashed[:3], len(hashed)) == ("h1_", 35)


@given(st.text())
def test_what_is_a_hash_of_ours_is_not_hashed_again_whatever_its_period(value: str) -> None:
    hashed = Hasher(ROOT, KEY).hashed(value)

    assert Hasher(ROOT, b"another".ljust(32)).hashed(hashed) == hashed
    assert Hasher(b"other organisation".ljust(32), KEY).hashed(hashed) != hashed


def test_a_key_that_was_opened_stays_when_others_seal_it_anew_before_we_can_open_that() -> None:
    keys = HashKeys()
    keys.learn("acme", "never", "1", ROOT)
    keys.learn("acme", "2026-11", "1", KEY)

    keys.learn("acme", "2026-11", "1", None)

    hasher = keys.hasher("acme", "2026-11")
    assert hasher is not None
    assert hasher.hashed("a") == Hasher(ROOT, KEY).hashed("a")


@pytest.mark.parametrize("value", ["h1_" + "A" * 32, "h1_" + "é" * 32, "h1_" + "=" * 32, "h1_"], ids=ascii)
def test_what_only_looks_like_a_hash_is_hashed(value: str) -> None:
    hasher = Hasher(ROOT, KEY)

    assert hasher.hashed(value) != value
    assert hasher.is_ours(hasher.hashed(value))


@pytest.mark.parametrize(
    ("rotation", "time", "name", "start", "end"),
    [
        (Rotation.DAY, "2026-11-22T23:59:59.999999", "2026-11-22", "2026-11-22", "2026-11-23"),
        (Rotation.DAY, "2026-11-23T00:00:00", "2026-11-23", "2026-11-23", "2026-11-24"),
        (Rotation.WEEK, "2026-11-22T12:00:00", "2026-W47", "2026-11-16", "2026-11-23"),
        (Rotation.WEEK, "2027-01-02T00:00:00", "2026-W53", "2026-12-28", "2027-01-04"),
        (Rotation.MONTH, "2026-12-31T00:00:00", "2026-12", "2026-12-01", "2027-01-01"),
        (Rotation.MONTH, "2028-02-29T00:00:00", "2028-02", "2028-02-01", "2028-03-01"),
    ],
    ids=str,
)
def test_periods_begin_and_end_in_utc(rotation: Rotation, time: str, name: str, start: str, end: str) -> None:
    period = period_of(rotation, _micros(time))

    assert (period.name, period.start, period.end) == (name, _micros(start), _micros(end))
    assert present_and_next(rotation, _micros(time))[1].start == period.end


def test_what_never_rotates_has_one_period() -> None:
    assert present_and_next(Rotation.NEVER, 1) == (ALWAYS,)


def test_of_two_keys_for_a_period_the_first_holds() -> None:
    keys = HashKeys()
    keys.learn("acme", "never", "a", ROOT)
    keys.learn("acme", "2026-11", "b", KEY)
    keys.learn("acme", "2026-11", "c", b"later".ljust(32))
    keys.learn("other", "2026-11", "c", b"later".ljust(32))

    hasher = keys.hasher("acme", "2026-11")

    assert hasher is not None
    assert hasher.hashed("x") == Hasher(ROOT, KEY).hashed("x")
    assert (keys.hasher("other", "2026-11"), keys.hasher("acme", "2026-12")) == (None, None)


def test_a_key_that_cannot_be_opened_hashes_nothing_and_makes_room_for_no_other() -> None:
    keys = HashKeys()
    keys.learn("acme", "never", "a", None)
    keys.learn("acme", "never", "b", KEY)

    assert keys.has("acme", "never")
    assert keys.hasher("acme", "never") is None


def _micros(text: str) -> int:
    return from_datetime(datetime.fromisoformat(text))
