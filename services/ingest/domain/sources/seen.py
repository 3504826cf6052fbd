"""Which items of a list that is read again and again have been taken already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MAX_SEEN = 10_000


class Seen:
    """The ids met last, oldest first. What comes again stays; what has long gone from the list is forgotten."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._ids = dict.fromkeys(ids)

    def __contains__(self, id: str) -> bool:
        return id in self._ids

    def meet(self, ids: Sequence[str]) -> None:
        for id in ids:
            self._ids.pop(id, None)
            self._ids[id] = None
        for id in list(self._ids)[: max(0, len(self._ids) - MAX_SEEN)]:
            del self._ids[id]

    def all(self) -> list[str]:
        return list(self._ids)
