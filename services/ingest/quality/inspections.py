"""Each organisation's inspection, put together from the checks that different kinds of definitions give."""

from __future__ import annotations

from services.ingest.domain.quality.inspection import Check, Inspection, Stage


class Inspections:
    """Who keeps a kind of definition puts the check that it makes; the intake asks `of` once a request."""

    def __init__(self) -> None:
        self._checks: dict[str, dict[Stage, Check]] = {}
        self._inspections: dict[str, Inspection] = {}

    def of(self, organisation: str) -> Inspection | None:
        """None if it has no rules at all."""
        return self._inspections.get(organisation)

    def put(self, organisation: str, stage: Stage, check: Check | None) -> None:
        """Instead of the check that the organisation had of that stage; None for none. From the next request on."""
        checks = {name: one for name, one in self._checks.get(organisation, {}).items() if name is not stage}
        if check is not None:
            checks[stage] = check
        self._checks[organisation] = checks
        if checks:
            self._inspections[organisation] = Inspection(checks)
        else:
            self._inspections.pop(organisation, None)
