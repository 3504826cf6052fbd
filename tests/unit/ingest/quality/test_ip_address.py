"""IP addresses cut to networks."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.quality.ip_address import truncation


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("203.0.113.77:4431", "203.0.113.0"),
        (" 203.0.113.77 ", "203.0.113.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("[2001:db8:1:2::1]:443", "2001:db8:1::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:203.0.113.77", "203.0.113.0"),
        ("2002:cb00:714d::1", "203.0.113.0"),
        ("::1", "::"),
        ("203.0.113.77, unknown, 10.1.2.3", "203.0.113.0, 10.1.2.0"),
        ("localhost", None),
        ("203.0.113.77/32", None),
        ("203.0.113", None),
        ("3405803853", None),
        ("", None),
        ("1.2.3.4," * 1_000, None),
    ],
    ids=str,
)
def test_an_address_becomes_its_network_and_what_is_none_is_dropped(text: str, kept: str | None) -> None:
    assert truncation()(text) == kept


def test_how_many_bits_stay_can_be_set() -> None:
    cut = truncation(16, 32)

    assert (cut("203.0.113.77"), cut("2001:db8:1:2::3")) == ("203.0.0.0", "2001:db8::")
    assert (truncation(0, 0)("203.0.113.77"), truncation(32, 128)("2001:db8::1")) == ("0.0.0.0", "2001:db8::1")


@given(st.ip_addresses())
def test_no_address_can_be_told_from_its_neighbours(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    cut = truncation()
    neighbour = type(address)(int(address) ^ 1)

    kept = cut(str(address))

    # An IPv4 address within an IPv6 one is cut as such, and 6to4 has it where its last bit tells nothing.
    assert kept == cut(str(neighbour))
    assert kept is not None
    assert cut(kept) == kept


@given(st.text())
def test_whatever_the_text_what_stays_is_networks(text: str) -> None:
    kept = truncation()(text)

    for part in [] if kept is None else kept.split(", "):
        ipaddress.ip_address(part)
