"""What can be wrong with a definition."""

from __future__ import annotations


class DefinitionError(Exception):
    """`place` is the path of the faulty part (`spec.warning`), `what` says what it must be."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place}: {what}")
        self.place = place
        self.what = what
