"""Keys that hash what must not be kept: the same value gives the same text as long as its key lives, no longer.

    h1_<18 bytes of HMAC-SHA256(the period's key, value), and 6 that only we can add, in URL-safe Base64>

By those 6 bytes we know our own work again, whatever period it is of: it is never hashed twice, not when a dead
letter is replayed, and not when what we have given out comes back.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode
from binascii import Error as BinasciiError
from binascii import b2a_base64
from collections.abc import Iterator
from hashlib import sha256

from services.ingest.domain.quality.hash_period import ALWAYS

PREFIX = "h1_"
KEY_BYTES = 32
_HASH_BYTES = 18
_SIGN_BYTES = 6
_LENGTH = len(PREFIX) + (_HASH_BYTES + _SIGN_BYTES) * 4 // 3
_SIGN = b"sign of a hash of ours"
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_BLOCK = 64
"""Bytes that SHA-256 takes at a time."""


class _Hmac:
    """HMAC-SHA256 with what only depends on the key done once, which is half of it for short values."""

    def __init__(self, key: bytes) -> None:
        """`key` has at most 64 bytes."""
        padded = key.ljust(_BLOCK, b"\x00")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in padded))

    def digest(self, value: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(value)
        outer.update(inner.digest())
        return outer.digest()


class Hasher:
    """Of one organisation in one period. `root` is the organisation's key that never changes."""

    def __init__(self, root: bytes, key: bytes) -> None:
        self._of_value = _Hmac(key)
        self._of_hash = _Hmac(hmac.digest(root, _SIGN, "sha256"))

    def hashed(self, value: str) -> str:
        """What is a hash of ours already stays as it is."""
        if self.is_ours(value):
            return value
        digest = self._of_value.digest(value.encode("utf-8", "surrogatepass"))[:_HASH_BYTES]
        text = b2a_base64(digest + self._sign(digest), newline=False).translate(_URL_SAFE)
        return PREFIX + text.decode()

    def is_ours(self, value: str) -> bool:  # a comparison of values
        if len(value) != _LENGTH or not value.startswith(PREFIX):
            return False
        try:
            content = urlsafe_b64decode(value[len(PREFIX) :].encode("ascii"))
        except (BinasciiError, UnicodeEncodeError):
            return False
        return hmac.compare_digest(content[_HASH_BYTES:], self._sign(content[:_HASH_BYTES]))

    def _sign(self, digest: bytes) -> bytes:
        return self._of_hash.digest(digest)[:_SIGN_BYTES]


class HashKeys:
    """The keys of all organisations by their periods' names. Of several for a period the first one learned holds."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], tuple[str, bytes | None]] = {}

    def learn(self, organisation: str, period: str, id: str, key: bytes | None) -> None:
        """`id` names the key among those that were made for the period; None is one that cannot be opened."""
        held, known = self._keys.get((organisation, period), (id, None))
        if held == id:  # sealed anew with a sealing key that only others have yet, it is the same key still
            self._keys[organisation, period] = id, known if key is None else key

    def has(self, organisation: str, period: str) -> bool:
        """Whether a key has been decided on, even if nobody here can open it."""
        return (organisation, period) in self._keys

    def holds(self, organisation: str, period: str, id: str) -> bool:
        return self._keys.get((organisation, period), ("", None))[0] == id

    def hasher(self, organisation: str, period: str) -> Hasher | None:
        """None while a key that it takes is not there."""
        root, key = self._key(organisation, ALWAYS.name), self._key(organisation, period)
        return None if root is None or key is None else Hasher(root, key)

    def forget(self, organisation: str, period: str) -> None:
        self._keys.pop((organisation, period), None)

    def all(self) -> Iterator[tuple[str, str, str]]:
        """Organisation, period and id of each."""
        return ((*name, id) for name, (id, _) in list(self._keys.items()))

    def _key(self, organisation: str, period: str) -> bytes | None:
        return self._keys.get((organisation, period), ("", None))[1]
