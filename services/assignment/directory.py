"""The experiments this process answers from: a local copy of experiments.v1, with their answers ready to send."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from services.assignment.domain.allocation import percentage_of
from services.assignment.domain.decision import Reason, Rules
from shared.messages import Experiment, Variant

logger = logging.getLogger(__name__)

MAX_ID = 2**63 - 1


class Entry:
    """One experiment's rules and its answers, encoded once."""

    def __init__(self, experiment: Experiment) -> None:
        self.rules = Rules(experiment)
        self._answers: dict[tuple[int | None, Reason, bool], bytes] = {}

    def answer(self, variant: Variant | None, reason: Reason, *, assigned: bool) -> bytes:
        """S2's body of POST /assign, with the reason and which definition decided."""
        key = (None if variant is None else variant.id, reason, assigned)
        found = self._answers.get(key)
        if found is None:
            found = self._answers[key] = self._encode(variant, reason, assigned)
        return found

    def _encode(self, variant: Variant | None, reason: Reason, assigned: bool) -> bytes:
        experiment = self.rules.experiment
        return msgspec.json.encode(
            {
                "variant": None if variant is None else variant_body(experiment.id, variant),
                "assigned": assigned,
                "experiment_id": experiment.id,
                "experiment_key": experiment.key,
                "reason": reason.value,
                "version": experiment.version,
            }
        )


def variant_body(experiment_id: int, variant: Variant) -> dict[str, Any]:
    """A variant as S2's REST shows it."""
    return {
        "id": variant.id,
        "experiment_id": experiment_id,
        "variant_name": variant.name,
        "variant_type": variant.type,
        "model_id": variant.model_id,
        "model_version": variant.model_version,
        "traffic_percentage": percentage_of(variant.buckets),
        "config": variant.config,
    }


class Directory:
    """Experiments by organisation and id or key; of two versions of one experiment the higher stays.

    Where id or key meet again with a different partner, Postgres was made anew, and the later record is right.
    """

    def __init__(self) -> None:
        self._by_id: dict[tuple[str, int], Entry] = {}
        self._by_key: dict[tuple[str, str], Entry] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def learn(self, experiment: Experiment) -> None:
        """Skips, loudly, what cannot be decided by: it can only be another program's."""
        known = self._by_id.get((experiment.organisation, experiment.id))
        same = known is not None and known.rules.experiment.key == experiment.key
        if known is not None and same and known.rules.experiment.version >= experiment.version:
            return
        try:
            entry = Entry(experiment)
        except ValueError as error:
            logger.error("experiment skipped", extra={"experiment": experiment.key, "error": str(error)})
            return
        self._by_id[experiment.organisation, experiment.id] = entry
        self._by_key[experiment.organisation, experiment.key] = entry

    def find(self, organisation: str, reference: int | str) -> Entry | None:
        """By id (a number or its digits) or by key."""
        if isinstance(reference, int):
            return self._by_id.get((organisation, reference))
        if is_number(reference):
            return self._by_id.get((organisation, int(reference)))
        return self._by_key.get((organisation, reference))


def is_number(reference: str) -> bool:
    """Whether a reference in a URL is an id; keys are never made of digits only. Longer than any id: no number."""
    return reference.isascii() and reference.isdigit() and len(reference) <= 19
