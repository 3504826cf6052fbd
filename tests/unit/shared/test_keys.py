"""Who may come in."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from shared.keys import KeyRing, Principal, RateLimit, Refusal, describe_key, new_key, permits
from shared.messages import ApiKey, Scope

KEY = new_key()
RECORD = describe_key(KEY, organisation="acme", scope="read")


def test_a_known_key_tells_who_asks() -> None:
    assert KeyRing([RECORD]).identify(KEY) == Principal("acme", "read")


@pytest.mark.parametrize("presented", [None, ""])
def test_no_key_is_a_reason_of_its_own(presented: str | None) -> None:
    assert KeyRing([RECORD]).identify(presented) is Refusal.MISSING


def strangers() -> Iterator[str]:
    head, prefix, secret = KEY.split("_")
    yield f"{head}_{prefix}_{secret[:-1]}{'0' if secret[-1] != '0' else '1'}"
    yield f"{head}_{prefix}_"
    yield f"{head}_{prefix}"
    yield f"{head}_{prefix}_{secret}_"
    yield f"xx_{prefix}_{secret}"
    yield f"{head}_{'0' * 10}_{secret}"
    yield KEY.upper()
    yield f" {KEY}"
    yield new_key()
    yield RECORD.hash
    yield "tg_é\udcff_x"
    yield "_" * 10_000


STRANGERS = list(strangers())


@pytest.mark.parametrize("presented", STRANGERS, ids=range(len(STRANGERS)))
def test_anything_else_is_unknown(presented: str) -> None:
    assert KeyRing([RECORD]).identify(presented) is Refusal.UNKNOWN


def test_a_key_brings_its_limit_and_others_have_that_of_the_settings() -> None:
    limited = msgspec.structs.replace(RECORD, version=2, events_per_second=10.5)
    default = RateLimit(1.0, 1)
    ring = KeyRing([RECORD], default=default)

    def limit() -> RateLimit | None:
        found = ring.identify(KEY)
        assert isinstance(found, Principal)
        return found.limit

    assert limit() == default
    ring.learn(limited)
    assert limit() == RateLimit(10.5, 11)
    ring.learn(msgspec.structs.replace(limited, version=3, burst=5))
    assert limit() == RateLimit(10.5, 5)
    ring.learn(limited)
    assert limit() == RateLimit(10.5, 5), "an older record came in late"
    ring.learn(msgspec.structs.replace(RECORD, version=4))
    assert limit() == default


def test_nobody_is_known_to_an_empty_ring() -> None:
    assert KeyRing().identify(KEY) is Refusal.UNKNOWN


def test_a_revoked_key_is_unknown_from_then_on() -> None:
    ring = KeyRing([RECORD])
    ring.learn(msgspec.structs.replace(RECORD, version=2, revoked=True))
    assert ring.identify(KEY) is Refusal.UNKNOWN
    ring.learn(RECORD)
    assert ring.identify(KEY) is Refusal.UNKNOWN, "an older record came in late"


def test_of_two_records_with_one_prefix_the_higher_version_wins_in_any_order() -> None:
    newer = msgspec.structs.replace(RECORD, version=5, scope="admin")
    for order in ([RECORD, newer], [newer, RECORD]):
        assert KeyRing(order).identify(KEY) == Principal("acme", "admin")


def test_a_record_holds_neither_the_key_nor_its_secret() -> None:
    secret = KEY.split("_")[2]
    assert secret not in msgspec.json.encode(RECORD).decode()
    assert len(RECORD.hash) == 64


def test_keys_are_never_the_same() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert len({k.split("_")[1] for k in made}) == 100
    assert all(len(k.split("_")[2]) == 48 for k in made)


@pytest.mark.parametrize(
    "text",
    [
        *("", "secret", "tg_x_y", "tg_0123456789", "0123456789_0123456789_0123456789"),
        *("tg_0123456789_chosen by somebody", f"{KEY} ", KEY.upper()),
    ],
    ids=[*("empty", "word", "short", "no secret", "no prefix"), *("chosen", "blank behind", "upper case")],
)
def test_text_that_is_no_key_cannot_be_described(text: str) -> None:
    with pytest.raises(ValueError, match="new_key"):
        describe_key(text, organisation="acme", scope="read")


SCOPES: tuple[Scope, ...] = ("ingest", "read", "admin")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("needed", SCOPES)
def test_a_scope_permits_itself_and_admin_permits_all(scope: Scope, needed: Scope) -> None:
    allowed = scope == needed or scope == "admin"
    assert permits(scope, needed) is (None if allowed else Refusal.SCOPE)


def test_a_foreign_record_with_an_odd_hash_lets_nobody_in() -> None:
    odd = ApiKey(prefix=RECORD.prefix, hash="", organisation="acme", scope="admin", version=9)
    assert KeyRing([odd]).identify(KEY) is Refusal.UNKNOWN
