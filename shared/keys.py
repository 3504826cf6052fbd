"""API keys: made once, shown once, stored as a hash, recognised by prefix."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from shared.messages import ApiKey, Scope

_PREFIX_BYTES = 5
_SECRET_BYTES = 24
_KEY = re.compile(rb"(tg_[0-9a-f]{%d}_)[0-9a-f]{%d}" % (2 * _PREFIX_BYTES, 2 * _SECRET_BYTES))


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Events that a key may send: so many a second in the long run, and `burst` at once after a pause."""

    events_per_second: float
    burst: int


def rate_limit(events_per_second: float, burst: int | None = None) -> RateLimit:
    """Without `burst` as many events at once as in a second, at least one."""
    return RateLimit(events_per_second, math.ceil(events_per_second) if burst is None else burst)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: every row a request reads or writes belongs to this organisation."""

    organisation: str
    scope: Scope
    key: str = field(default="", compare=False)
    """The key's prefix, which may be shown and stored."""
    limit: RateLimit | None = field(default=None, compare=False)
    """Of the events that may be sent with the key."""


class Refusal(Enum):
    """Why a request may not pass; the value is the machine-readable reason."""

    MISSING = "key_missing"
    UNKNOWN = "key_unknown"
    SCOPE = "scope_insufficient"


def new_key() -> str:
    """A fresh key `tg_<prefix>_<secret>`: the prefix finds it, 192 random bits protect it."""
    return f"tg_{secrets.token_hex(_PREFIX_BYTES)}_{secrets.token_hex(_SECRET_BYTES)}"


def describe_key(
    key: str,
    *,
    organisation: str,
    scope: Scope,
    version: int = 1,
    events_per_second: float | None = None,
    burst: int | None = None,
) -> ApiKey:
    """The record that other services recognise `key` by.

    Raises ValueError for what is no key as `new_key` makes them: `without_secrets` would not know it.
    """
    prefix = _prefix(key)
    if prefix is None or not _KEY.fullmatch(key.encode("utf-8", "surrogatepass")):
        raise ValueError("a key looks like tg_<prefix>_<secret>; make one with `shared.keys.new_key()`")
    return ApiKey(
        prefix=prefix,
        hash=_digest(key),
        organisation=organisation,
        scope=scope,
        version=version,
        events_per_second=events_per_second,
        burst=burst,
    )


def without_secrets(text: bytes) -> bytes:
    """`text` with the secret part of every key in it replaced by `***`: what is kept or shown must not hold one."""
    return _KEY.sub(rb"\1***", text) if b"tg_" in text else text


class KeyRing:
    """The keys known to this process, by prefix; of two records with one prefix the higher version wins.

    `default` limits keys that have no limit of their own.
    """

    def __init__(self, keys: Iterable[ApiKey] = (), *, default: RateLimit | None = None) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._limits: dict[str, RateLimit] = {}
        self._default = default
        for key in keys:
            self.learn(key)

    def learn(self, key: ApiKey) -> None:
        known = self._keys.get(key.prefix)
        if known is None or key.version >= known.version:
            self._keys[key.prefix] = key
            self._limits.pop(key.prefix, None)
            if key.events_per_second is not None:
                self._limits[key.prefix] = rate_limit(key.events_per_second, key.burst)

    def identify(self, presented: str | None) -> Principal | Refusal:
        """Takes as long for a wrong secret as for a right one."""
        if not presented:
            return Refusal.MISSING
        record = self._keys.get(_prefix(presented) or "")
        if record is None or record.revoked or not hmac.compare_digest(record.hash, _digest(presented)):
            return Refusal.UNKNOWN
        return Principal(
            record.organisation, record.scope, record.prefix, self._limits.get(record.prefix, self._default)
        )


def permits(scope: Scope, needed: Scope) -> Refusal | None:
    """None if a key with `scope` may do what needs `needed`; admin may do all."""
    return None if scope in (needed, "admin") else Refusal.SCOPE


def _prefix(key: str) -> str | None:
    parts = key.split("_")
    well_formed = len(parts) == 3 and parts[0] == "tg" and len(parts[1]) == 2 * _PREFIX_BYTES
    return parts[1] if well_formed else None


def _digest(key: str) -> str:
    """A plain hash is enough: keys are random, so there is nothing to guess that stretching would slow."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
