"""The plain flags this process answers from: a local copy of flags.v1, with their answers ready to send."""

from __future__ import annotations

import logging

from services.assignment.domain.flags import ON, PlainFlag, parse_flag
from services.assignment.domain.switches import Off
from services.assignment.ofrep import OFF, EvaluationReason, evaluation, switch_metadata
from shared.definition_error import DefinitionError
from shared.messages import Flag

logger = logging.getLogger(__name__)

DEFINITION = "definition"
"""The cause of a flag that its own definition disables."""


class FlagEntry:
    """One flag and its answers, encoded once."""

    def __init__(self, flag: PlainFlag) -> None:
        self.flag = flag
        version = {"version": flag.version}
        self.on = evaluation(flag.key, flag.value, EvaluationReason.STATIC, ON, version)
        self.probe = evaluation(
            flag.key, flag.value, EvaluationReason.SPLIT, ON, {**version, **switch_metadata(None, probe=True)}
        )
        self.disabled = self._off({"cause": DEFINITION})
        self._held: tuple[Off, bytes] | None = None

    def held(self, off: Off) -> bytes:
        """The answer while `off` keeps the unit out; the last one is kept, as the next request wants the same."""
        if self._held is None or self._held[0] is not off:
            self._held = (off, self._off(switch_metadata(off)))
        return self._held[1]

    def _off(self, why: dict[str, bool | str | int]) -> bytes:
        metadata = {"version": self.flag.version, **why}
        return evaluation(self.flag.key, self.flag.off_value, EvaluationReason.DISABLED, OFF, metadata)


class FlagDirectory:
    """Flags by organisation and key; of two versions of one flag the higher stays."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], FlagEntry] = {}

    def learn(self, flag: Flag) -> None:
        """Skips, loudly, what cannot be understood: it can only be another program's."""
        known = self.find(flag.organisation, flag.key)
        if known is not None and known.flag.version > flag.version:
            return
        try:
            entry = FlagEntry(parse_flag(flag.organisation, flag.key, flag.version, flag.spec))
        except DefinitionError as error:
            logger.error("flag skipped", extra={"flag": flag.key, "error": str(error)})
            return
        self._entries[flag.organisation, flag.key] = entry

    def find(self, organisation: str, key: str) -> FlagEntry | None:
        return self._entries.get((organisation, key))

    def version(self, organisation: str, key: str) -> int:
        """The version that is answered from; 0 for an unknown flag."""
        entry = self.find(organisation, key)
        return 0 if entry is None else entry.flag.version

    def disabled(self, organisation: str) -> list[FlagEntry]:
        """The organisation's flags that their own definition disables."""
        return [
            entry for (owner, _), entry in self._entries.items() if owner == organisation and not entry.flag.enabled
        ]
