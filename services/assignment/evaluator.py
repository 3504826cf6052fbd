"""Answers an OFREP request: a plain flag from memory, an experiment as POST /assign would.

```
 key ─► flag? ──► enabled? ──► held off? ──► bytes that were encoded before
   └──► experiment? ──► the unit's ids from the context ──► Assigner
```
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from services.assignment.assigner import Assigner
from services.assignment.directory import Directory, Entry
from services.assignment.domain.switches import Off, Switchboard, Verdict
from services.assignment.flag_directory import FlagDirectory, FlagEntry
from services.assignment.ofrep import (
    ErrorCode,
    EvaluationError,
    EvaluationReason,
    context_of,
    ids_of,
    reason_of,
    unit_of,
)


class Evaluator:
    def __init__(
        self,
        flags: FlagDirectory,
        experiments: Directory,
        switchboard: Switchboard,
        assigner: Assigner,
        registry: CollectorRegistry,
    ) -> None:
        self._flags = flags
        self._experiments = experiments
        self._switchboard = switchboard
        self._assigner = assigner
        evaluated = Counter(
            "tidegate_assignment_evaluations_total", "OFREP answers by reason or error", ["reason"], registry=registry
        )
        self._evaluated: dict[EvaluationReason | ErrorCode, Any] = {
            reason: evaluated.labels(reason.value) for reason in (*EvaluationReason, *ErrorCode)
        }

    async def evaluate(self, organisation: str, key: str, raw: bytes) -> bytes:
        """The body of the answer to a request with the body `raw`. Raises EvaluationError."""
        try:
            context = context_of(raw)
            flag = self._flags.find(organisation, key)
            if flag is not None:
                return self._flag(flag, unit_of(context))
            entry = self._experiments.by_key(organisation, key)
            if entry is None:
                raise EvaluationError(ErrorCode.FLAG_NOT_FOUND, f"there is no flag or experiment {key!r}")
            return await self._experiment(entry, context)
        except EvaluationError as error:
            self._evaluated[error.code].inc()
            raise

    def _flag(self, entry: FlagEntry, unit: str | None) -> bytes:
        flag = entry.flag
        if not flag.enabled:
            return self._answer(EvaluationReason.DISABLED, entry.disabled)
        hold = self._switchboard.hold(flag.organisation, flag.key)
        if hold is None:
            return self._answer(EvaluationReason.STATIC, entry.on)
        judged = flag.judge(hold, unit)
        if isinstance(judged, Off):
            return self._answer(EvaluationReason.DISABLED, entry.held(judged))
        if judged is Verdict.PROBE:
            return self._answer(EvaluationReason.SPLIT, entry.probe)
        return self._answer(EvaluationReason.STATIC, entry.on)

    async def _experiment(self, entry: Entry, context: Mapping[str, Any]) -> bytes:
        ids = ids_of(context, entry.rules.experiment.unit)
        resolution = await self._assigner.resolve(entry, ids, context)
        return self._answer(reason_of(resolution.reason), entry.evaluation(resolution))

    def _answer(self, reason: EvaluationReason, body: bytes) -> bytes:
        self._evaluated[reason].inc()
        return body
