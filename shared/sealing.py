"""Secrets at rest: sealed with a key that is in no database and no topic (Fernet: AES-CBC with an HMAC).

A file of keys holds one a line. The first seals; all of them open, so that a key can be replaced: put the new one in
front, restart, and once everything has been sealed anew, take the old one out.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from shared.settings import SettingsError

_KEY_BYTES = 32


class SealError(Exception):
    """What was sealed cannot be opened: by none of the keys, or it belongs to somebody else."""


class Sealer:
    """Seals JSON objects for an owner; nobody can pass them off as another owner's."""

    def __init__(self, keys: list[str]) -> None:
        """Raises ValueError for a key that is none."""
        self._newest = Fernet(keys[0])
        self._all = MultiFernet([Fernet(key) for key in keys])

    def seal(self, owner: str, value: Mapping[str, Any]) -> str:
        return self._newest.encrypt(msgspec.json.encode({"owner": owner, "value": value})).decode()

    def open(self, owner: str, sealed: str) -> dict[str, Any]:
        """Raises SealError."""
        try:
            content = msgspec.json.decode(self._all.decrypt(sealed.encode()))
        except (InvalidToken, msgspec.MsgspecError, UnicodeError):
            raise SealError("its secrets cannot be opened by any of the sealing keys") from None
        if content.get("owner") != owner:
            raise SealError("its secrets were sealed for another owner")
        value: dict[str, Any] = content["value"]
        return value

    def is_newest(self, sealed: str) -> bool:
        """Whether it was sealed with the first key."""
        try:
            self._newest.decrypt(sealed.encode())
        except InvalidToken:
            return False
        return True


def new_sealing_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def sealer_of(path: str | None) -> Sealer | None:
    """From the file that `TIDEGATE_SEALING_KEYS` names; None without one. Raises SettingsError."""
    if path is None:
        return None
    try:
        lines = Path(path).read_text(encoding="ascii").split()
    except OSError as error:
        raise SettingsError(f"TIDEGATE_SEALING_KEYS: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        lines = []
    try:
        return Sealer(lines)
    except (ValueError, IndexError):
        raise SettingsError(
            f"TIDEGATE_SEALING_KEYS: {path} must hold one or more keys of 32 bytes in URL-safe base64, one a line"
        ) from None
