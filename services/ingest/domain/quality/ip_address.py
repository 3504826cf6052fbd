"""IP addresses made so short that they name a network of many, no more a connection."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache

IPV4_BITS = 24
IPV6_BITS = 48

_REMEMBERED = 4_096
_LONGEST = 1_000
"""Characters: longer lists of proxies are none."""
_BRACKETED = re.compile(r"\[([^\]]*)\](?::\d{1,5})?")
_IPV4_AND_PORT = re.compile(r"([0-9.]+):\d{1,5}")


def truncation(ipv4_bits: int = IPV4_BITS, ipv6_bits: int = IPV6_BITS) -> Callable[[str], str | None]:
    """What keeps so many leading bits of an address and sets the others to zero; it gives None for what is none.

    It takes addresses with a port, a zone or brackets, which are left out of the result, and lists as in
    X-Forwarded-For, of which the addresses stay. An IPv4 address within an IPv6 one is cut as such.
    """
    return lru_cache(_REMEMBERED)(lambda text: _truncated(text, ipv4_bits, ipv6_bits))


def _truncated(text: str, ipv4_bits: int, ipv6_bits: int) -> str | None:
    if len(text) > _LONGEST:
        return None
    found = [address for part in text.split(",") if (address := _one(part.strip(), ipv4_bits, ipv6_bits))]
    return ", ".join(found) or None


def _one(text: str, ipv4_bits: int, ipv6_bits: int) -> str | None:
    bracketed = _BRACKETED.fullmatch(text) or _IPV4_AND_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address((bracketed[1] if bracketed else text).partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        # 6to4 has the whole IPv4 address in its first 48 bits.
        address = address.ipv4_mapped or address.sixtofour or address
    bits = ipv4_bits if isinstance(address, ipaddress.IPv4Address) else ipv6_bits
    zeros = address.max_prefixlen - bits
    return str(type(address)(int(address) >> zeros << zeros))
