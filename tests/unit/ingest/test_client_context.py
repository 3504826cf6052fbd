from __future__ import annotations

from services.ingest.domain.client_context import MAX_HEADER_CHARACTERS, context_of, merged

HEADERS = [
    (b"host", b"example.test"),
    (b"x-app-version", b"3.1.0"),
    (b"x-os-version", b"26.1"),
    (b"x-network-type", b"cellular"),
    (b"x-device-model", b"iPhone"),
    (b"user-agent", b"import-app/3"),
]


def test_client_headers_become_context_fields() -> None:
    assert context_of(HEADERS) == {
        "appVersion": "3.1.0",
        "osVersion": "26.1",
        "networkType": "cellular",
        "deviceModel": "iPhone",
        "userAgent": "import-app/3",
    }


def test_empty_headers_count_as_absent_and_the_first_of_repeated_ones_holds() -> None:
    headers = [(b"x-app-version", b"  "), (b"x-network-type", b"wifi"), (b"x-network-type", b"cellular")]

    assert context_of(headers) == {"networkType": "wifi"}


def test_a_header_that_is_too_long_is_cut() -> None:
    assert context_of([(b"user-agent", b"a" * 5_000)]) == {"userAgent": "a" * MAX_HEADER_CHARACTERS}


def test_headers_in_utf_8_or_latin_1_are_read_and_never_fail() -> None:
    assert context_of([(b"x-device-model", "Gerät".encode())]) == {"deviceModel": "Gerät"}
    assert context_of([(b"x-device-model", "Gerät".encode("latin-1"))]) == {"deviceModel": "Gerät"}


def test_the_bodys_context_wins_field_by_field() -> None:
    from_headers = {"appVersion": "3.1.0", "networkType": "wifi"}

    context = merged(from_headers, {"networkType": "cellular", "locale": "de"})

    assert context == {"appVersion": "3.1.0", "networkType": "cellular", "locale": "de"}
    assert merged(from_headers, None) == from_headers
    assert from_headers == {"appVersion": "3.1.0", "networkType": "wifi"}
