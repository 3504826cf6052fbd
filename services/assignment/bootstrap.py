"""The keys that a fresh installation knows from the start."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec

from shared.keys import describe_key
from shared.messages import ApiKey, Scope
from shared.settings import SettingsError

FIRST_ORGANISATION = "default"
"""Its admins run the installation: they alone make and revoke keys of other organisations."""


def bootstrap_keys(given: str | None) -> list[ApiKey]:
    """From a JSON object `{"admin", "ingest", "read"}` or the path of a file that holds one. Raises SettingsError."""
    if given is None:
        return []
    where = "TIDEGATE_BOOTSTRAP_KEYS"
    try:
        raw = given.encode() if given.lstrip().startswith("{") else Path(given).read_bytes()
        keys = msgspec.json.decode(raw, type=dict[Scope, str])
    except OSError as error:
        raise SettingsError(f"{where}: cannot read {given}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise SettingsError(f"{where} must hold a JSON object of {', '.join(get_args(Scope))}: {error}") from error
    try:
        return [describe_key(key, organisation=FIRST_ORGANISATION, scope=scope) for scope, key in keys.items()]
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error
