"""Where other products' clients put their key, and that no secret is kept."""

from __future__ import annotations

import base64

import pytest

from shared.http import presented_key
from shared.keys import new_key, without_secrets


def basic(credentials: str) -> bytes:
    return b"Basic " + base64.b64encode(credentials.encode())


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([(b"authorization", basic("the-key:"))], "the-key"),
        ([(b"authorization", basic("the-key"))], "the-key"),
        ([(b"authorization", basic("the-key:ignored"))], "the-key"),
        ([(b"authorization", basic(":the-key"))], "the-key"),
        ([(b"authorization", b"basic " + basic("the-key:")[6:])], "the-key"),
        ([(b"authorization", basic(":"))], ""),
        ([(b"authorization", b"Basic not base64")], None),
        ([(b"authorization", b"Digest the-key")], None),
        ([(b"x-api-key", b"first"), (b"authorization", basic("second:"))], "first"),
        ([], None),
    ],
)
def test_a_key_may_be_the_user_or_the_password_of_basic(headers: list[tuple[bytes, bytes]], key: str | None) -> None:
    assert presented_key(headers) == key


def test_what_is_kept_names_keys_but_cannot_be_used_as_one() -> None:
    first, second = new_key(), new_key()

    kept = without_secrets(f'{{"writeKey":"{first}","token":"{second}","a":"tg_no_key"}}'.encode())

    assert kept == f'{{"writeKey":"{first[:14]}***","token":"{second[:14]}***","a":"tg_no_key"}}'.encode()
