"""Which dead letters somebody asks for and may see."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from shared.keys import Principal
from shared.messages import DeadLetter

NOBODYS = ""
"""The organisation of letters whose owner could not be read."""
OPERATORS = "default"
"""The organisation whose administrators look after nobody's letters."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Whose letters somebody may see: those of their organisation, and perhaps nobody's."""

    organisations: frozenset[str]

    @classmethod
    def of(cls, principal: Principal) -> Viewer:
        operator = principal.organisation == OPERATORS and principal.scope == "admin"
        return cls(frozenset({principal.organisation, *([NOBODYS] if operator else [])}))

    def visible(self, letter: DeadLetter) -> DeadLetter | None:
        return letter if letter.organisation in self.organisations else None


@dataclass(frozen=True, slots=True)
class Selection:
    """What letters must be like; None asks for nothing."""

    reason: str | None = None
    origin: str | None = None
    event_type: str | None = None
    text: str | None = None
    """Stands in what was received, byte for byte, or in the letter's detail."""

    def selected(self, letter: DeadLetter) -> DeadLetter | None:
        if self.reason not in (None, letter.reason) or self.origin not in (None, letter.origin):
            return None
        if self.text is not None and self.text.encode() not in letter.payload and self.text not in letter.detail:
            return None
        if self.event_type is not None and event_type_of(letter.payload) != self.event_type:
            return None
        return letter


def event_type_of(payload: bytes) -> str | None:
    """The type that a refused event names, if that much of it can be read."""
    try:
        document: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    named = document.get("event_type") if isinstance(document, dict) else None
    return named if isinstance(named, str) else None


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a letter lies among the dead letters; `check` tells whether it is still the same one."""

    partition: int
    offset: int
    check: str

    @classmethod
    def to(cls, partition: int, offset: int, letter: DeadLetter) -> Reference:
        check = hashlib.blake2b(letter.id.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
        return cls(partition, offset, check)

    @classmethod
    def parsed(cls, text: str) -> Reference | None:
        """None for what `str()` of no reference gives."""
        partition, _, rest = text.partition("-")
        offset, _, check = rest.partition("-")
        numbers = partition.isdecimal() and offset.isdecimal() and text.isascii()
        if not numbers or len(partition) > 9 or len(offset) > 18 or len(check) != 8:
            return None
        return cls(int(partition), int(offset), check)

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}-{self.check}"
