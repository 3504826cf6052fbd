"""What can be wrong with a definition that a user wrote."""

from __future__ import annotations

_LONGEST = 200
"""Characters of a place: it may quote a field's name, which the user chose."""


class DefinitionError(Exception):
    """`place` is the path of the faulty part (`spec.filter.all[1].op`), `what` says what it must be."""

    def __init__(self, place: str, what: str) -> None:
        self.place = place if len(place) <= _LONGEST else place[:_LONGEST] + "…"
        self.what = what
        super().__init__(f"{self.place}: {what}")
