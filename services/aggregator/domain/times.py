"""Spans of time as definitions write them."""

from __future__ import annotations

import re

from shared.clock import DAY, HOUR, MINUTE, SECOND
from shared.definition_error import DefinitionError

_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([smhd])")
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}


def parse_span(spec: object, place: str, *, most: int) -> int:
    """µs: of a number of seconds, or text such as 90s, 30m, 1.5h or 30d. Raises DefinitionError."""
    micros: float | None = None
    if isinstance(spec, str) and (match := _SPAN.fullmatch(spec)):
        micros = float(match[1]) * _UNITS[match[2]]
    elif isinstance(spec, int | float) and not isinstance(spec, bool):
        micros = spec * SECOND
    if micros is None or not 1 <= micros <= most:
        limit = f"{most // DAY}d" if most % DAY == 0 and most > DAY else f"{most // HOUR}h"
        raise DefinitionError(
            place, f"must be seconds, or text such as 90s, 30m, 2h or 1d; more than 0, at most {limit}"
        )
    return round(micros)
