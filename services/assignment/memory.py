"""What this process has answered lately, so that a unit asked about again costs neither a look-up nor an event."""

from __future__ import annotations

from collections import OrderedDict


class FirstAnswers:
    """(experiment id, unit) → variant id, the least recently used forgotten first. Forgetting is harmless: the
    look-up finds the same variant and the repeated exposure has the same id."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._known: OrderedDict[tuple[int, str], int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, experiment_id: int, unit: str) -> int | None:
        key = (experiment_id, unit)
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def put(self, experiment_id: int, unit: str, variant_id: int) -> None:
        key = (experiment_id, unit)
        self._known[key] = variant_id
        self._known.move_to_end(key)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def forget(self, experiment_id: int, unit: str) -> None:
        self._known.pop((experiment_id, unit), None)
