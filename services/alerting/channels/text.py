"""Text that others wrote, made fit for a receiver: bounded, printable, and never markup of its own."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

MAX_URL = 2_000
_UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_UNSAFE_IN_URL = re.compile(r"[<>|\"'`\\{}^\s]")


def units(text: str) -> int:
    """Length as UTF-16 has it: no receiver counts an emoji as more than these two."""
    return len(text) + sum(character > "\uffff" for character in text)


def cut(text: str, limit: int) -> str:
    """At most `limit` UTF-16 units; what was shortened ends in an ellipsis."""
    if units(text) <= limit:
        return text
    kept, length = [], 1
    for character in text:
        length += units(character)
        if length > limit:
            break
        kept.append(character)
    return "".join(kept) + "…"


def printable(text: str) -> str:
    """Without control characters (but line breaks), directional overrides and lone surrogates."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _SURROGATES.sub("\ufffd", _UNPRINTABLE.sub(" ", text))


def one_line(text: str) -> str:
    """Printable, with every run of white space as one blank: fit for a header."""
    return " ".join(printable(text).split())


def shown(value: Any) -> str:
    """A piece of evidence as people read it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def link(url: str | None) -> str | None:
    """The address if it is one that may be clicked (http or https), escaped so that it ends nowhere early."""
    if not url or len(url) > MAX_URL or any(not character.isprintable() for character in url):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return None
    return _UNSAFE_IN_URL.sub(lambda found: f"%{ord(found[0]):02X}", url)


def redacted(text: str, secrets: tuple[str, ...]) -> str:
    """The text with `***` for every secret that it repeats."""
    for secret in sorted(secrets, key=len, reverse=True):
        if secret:
            text = text.replace(secret, "***")
    return text
