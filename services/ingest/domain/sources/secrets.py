"""Which parts of a `connection_config` are secret, and how they are kept, replaced and hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.ingest.domain.sources.connections import PLACE, destination
from shared.definition_error import DefinitionError

HIDDEN = "********"

SECRET_FIELDS = frozenset({"auth_token", "sasl_password", "subscribe", "secret", "previous_secret"})
SECRET_MAPPINGS = frozenset({"headers"})
"""Objects of which each value is secret."""


def parted(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what may be shown, with `HIDDEN` in the place of secrets; the secrets alone)."""
    shown, secrets = dict(config), dict[str, Any]()
    for name, value in config.items():
        if name in SECRET_FIELDS and value is not None:
            secrets[name], shown[name] = value, HIDDEN
        elif name in SECRET_MAPPINGS and isinstance(value, Mapping) and value:
            secrets[name] = dict(value)
            shown[name] = dict.fromkeys(value, HIDDEN)
    return shown, secrets


def joined(shown: Mapping[str, Any], secrets: Mapping[str, Any]) -> dict[str, Any]:
    """The whole config again."""
    return {**shown, **secrets}


def with_kept(config: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with what is given as `HIDDEN` taken from the whole config that is `stored`.

    Raises DefinitionError where nothing is stored, or where the secret would go to somebody else than before.
    """
    whole = dict(config)
    for name, value in config.items():
        if name in SECRET_FIELDS and value == HIDDEN:
            whole[name] = _kept(config, stored, stored.get(name), name)
        elif name in SECRET_MAPPINGS and isinstance(value, Mapping):
            known = stored.get(name) or {}
            whole[name] = {
                key: _kept(config, stored, known.get(key), f"{name}.{key}") if content == HIDDEN else content
                for key, content in value.items()
            }
    return whole


def merged(patch: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """`stored` with the fields of `patch`; null removes one. Secrets that the patch leaves out are kept.

    Raises DefinitionError as `with_kept` does.
    """
    shown, _ = parted(stored)
    wanted = {**shown, **patch}
    return with_kept({name: value for name, value in wanted.items() if value is not None}, stored)


def _kept(config: Mapping[str, Any], stored: Mapping[str, Any], value: Any, name: str) -> Any:
    if value is None:
        raise DefinitionError(f"{PLACE}.{name}", f"no secret is stored that {HIDDEN} could stand for")
    if destination(config) != destination(stored):
        raise DefinitionError(f"{PLACE}.{name}", "give the secret again: it would go to another address than before")
    return value
