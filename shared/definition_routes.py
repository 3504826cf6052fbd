"""What every PUT of a definition answers, whichever service owns it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from fastapi import Response

from shared.definition_error import DefinitionError
from shared.definitions import Outcome
from shared.http import Problem


async def answer_put(response: Response, key: str, putting: Awaitable[tuple[Outcome, int]]) -> dict[str, Any]:
    """The body once `putting` has stored the definition; 201 if it is new. Raises Problem if it is faulty."""
    try:
        outcome, version = await putting
    except DefinitionError as error:
        raise Problem(422, "definition_invalid", str(error), extra={"place": error.place}) from None
    if outcome is Outcome.CREATED:
        response.status_code = 201
    return {"key": key, "version": version, "status": outcome.value}
