"""Whether a webhook was sent by whom it says: HMAC over the body, in the forms that are common."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

SCHEMES = ("github", "stripe", "slack", "hmac")
ALGORITHMS = ("sha256", "sha512", "sha1")
ENCODINGS = ("hex", "base64")

_MAX_SIGNATURES = 10


class BadSignature(Enum):
    """Why a request is not let in; the value is the machine-readable reason."""

    MISSING = "signature_missing"
    WRONG = "signature_invalid"
    EXPIRED = "signature_expired"


@dataclass(frozen=True, slots=True)
class SignatureScheme:
    """`header` is lower case. Any of the `secrets` may have signed: so one can be replaced."""

    name: str
    secrets: tuple[str, ...] = field(repr=False)
    header: str
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    tolerance: float = 300
    """Seconds that a signed time may lie away from ours, where there is one: what was overheard grows useless."""

    def refusal(self, headers: Mapping[str, str], body: bytes, now: float) -> BadSignature | None:
        """None if the body was signed with one of the secrets. `headers` are lower case, `now` is Unix time."""
        given = headers.get(self.header)
        if not given:
            return BadSignature.MISSING
        if self.name == "stripe":
            parts = [part.strip().partition("=") for part in given.split(",")]
            time = next((value for name, _, value in parts if name == "t"), "")
            signatures = [value for name, _, value in parts if name == "v1"][:_MAX_SIGNATURES]
            return self._timed(time, f"{time}.".encode() + body, signatures, now)
        if self.name == "slack":
            time = headers.get("x-slack-request-timestamp", "")
            return self._timed(time, f"v0:{time}:".encode() + body, [given.removeprefix("v0=")], now)
        if not given.startswith(self.prefix):
            return BadSignature.WRONG
        return self._verdict(body, [given[len(self.prefix) :]])

    def _timed(self, time: str, signed: bytes, signatures: Sequence[str], now: float) -> BadSignature | None:
        if not (time.isascii() and time.isdigit() and len(time) <= 12):
            return BadSignature.MISSING
        verdict = self._verdict(signed, signatures)
        if verdict is None and abs(now - int(time)) > self.tolerance:
            return BadSignature.EXPIRED
        return verdict

    def _verdict(self, signed: bytes, signatures: Sequence[str]) -> BadSignature | None:
        given = [digest for text in signatures if (digest := self._digest(text)) is not None]
        found = False
        for secret in self.secrets:
            expected = hmac.new(secret.encode(), signed, getattr(hashlib, self.algorithm)).digest()
            for digest in given:
                found |= hmac.compare_digest(expected, digest)
        return None if found else BadSignature.WRONG

    def _digest(self, text: str) -> bytes | None:
        try:
            if self.encoding == "hex":
                return bytes.fromhex(text)
            return base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            return None
