"""Plain flags as configuration: /api/v1/admin/flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Response

from services.assignment.flag_store import FlagStore, KeyTakenError
from services.assignment.schemas import Key
from shared.definition_routes import answer_put
from shared.http import Problem, StrictRoute, principal_of
from shared.keys import Principal

_Who = Annotated[Principal, Depends(principal_of)]

_EXAMPLE = {"type": "boolean", "value": True, "off_value": False, "enabled": True, "description": "Imports run."}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "enum": ["boolean", "string", "number", "json"]},
        "value": {"description": "Given while it is on. Of the flag's type; a boolean's is true by default."},
        "off_value": {
            "description": "Given while it is off. Of the flag's type; a boolean's is false by default, others "
            "leave the caller its own default."
        },
        "enabled": {"type": "boolean", "default": True},
        "salt": {"type": "string", "description": "Decides which units probe; by default the key."},
        "description": {"type": "string"},
    },
    "example": _EXAMPLE,
}
_Spec = Annotated[Any, Body(json_schema_extra=_SCHEMA)]


def flag_routes(flags: FlagStore) -> APIRouter:
    routes = APIRouter(route_class=StrictRoute, prefix="/api/v1/admin/flags", tags=["flags"])

    @routes.put("/{key}", summary="Apply flag")
    async def put_flag(key: Annotated[Key, Path()], spec: _Spec, who: _Who, response: Response) -> dict[str, Any]:
        """Makes the flag what the spec says; sent again, it changes nothing. Flags and experiments share keys."""
        try:
            return await answer_put(response, key, flags.put(who.organisation, key, spec))
        except KeyTakenError as error:
            raise Problem(409, "key_taken", str(error)) from None

    @routes.get("", summary="List flags")
    async def list_flags(who: _Who) -> Sequence[Mapping[str, Any]]:
        return [flag.as_json() for flag in await flags.all(who.organisation)]

    @routes.get("/{key}", summary="Get flag")
    async def get_flag(key: str, who: _Who) -> Mapping[str, Any]:
        found = await flags.get(who.organisation, key)
        if found is None:
            raise Problem(404, "flag_not_found", f"there is no flag {key!r}")
        return found.as_json()

    return routes
