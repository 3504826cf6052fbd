"""The experiments this process answers from: a local copy of experiments.v1, with their answers ready to send."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from services.assignment.domain.allocation import percentage_of
from services.assignment.domain.decision import Reason, Resolution, Rules
from services.assignment.ofrep import OFF, evaluation, reason_of, switch_metadata
from shared.clock import to_iso
from shared.messages import Experiment, Variant

logger = logging.getLogger(__name__)

MAX_ID = 2**63 - 1


class Entry:
    """One experiment's rules and its answers, encoded once."""

    def __init__(self, experiment: Experiment) -> None:
        self.rules = Rules(experiment)
        self._answers: dict[tuple[int | None, Reason, bool, bool], bytes] = {}
        self._evaluations: dict[tuple[int | None, Reason, bool, bool], bytes] = {}

    def answer(self, resolution: Resolution) -> bytes:
        """S2's body of POST /assign, with the reason and which definition decided."""
        return self._remembered(self._answers, self._encode_answer, resolution)

    def evaluation(self, resolution: Resolution) -> bytes:
        """The same decision as OFREP's body: the variant's `value` in config, else its name."""
        return self._remembered(self._evaluations, self._encode_evaluation, resolution)

    def _remembered(
        self,
        known: dict[tuple[int | None, Reason, bool, bool], bytes],
        encode: Callable[[Resolution], bytes],
        resolution: Resolution,
    ) -> bytes:
        variant, reason, assigned, off, probe = resolution
        if off is not None:
            return encode(resolution)  # it names a time, and every outage has another
        key = (None if variant is None else variant.id, reason, assigned, probe)
        found = known.get(key)
        if found is None:
            found = known[key] = encode(resolution)
        return found

    def _encode_answer(self, resolution: Resolution) -> bytes:
        experiment = self.rules.experiment
        variant, reason, assigned, off, probe = resolution
        body: dict[str, Any] = {
            "variant": None if variant is None else variant_body(experiment.id, variant),
            "assigned": assigned,
            "experiment_id": experiment.id,
            "experiment_key": experiment.key,
            "reason": reason.value,
            "version": experiment.version,
        }
        if off is not None:
            body |= {"cause": off.cause, "off_since": to_iso(off.since)}
        if probe:
            body["probe"] = True
        return msgspec.json.encode(body)

    def _encode_evaluation(self, resolution: Resolution) -> bytes:
        experiment = self.rules.experiment
        variant, reason, assigned, off, probe = resolution
        metadata = {
            "version": experiment.version,
            "experiment_id": experiment.id,
            "assigned": assigned,
            "assignment_reason": reason.value,
            **switch_metadata(off, probe=probe),
        }
        if variant is None:
            return evaluation(experiment.key, None, reason_of(reason), OFF, metadata)
        value = variant.config.get("value")
        named = variant.name if value is None else value
        return evaluation(experiment.key, named, reason_of(reason), variant.name, metadata)


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
        return self.by_key(organisation, reference)

    def by_key(self, organisation: str, key: str) -> Entry | None:
        return self._by_key.get((organisation, key))


def is_number(reference: str) -> bool:
    """Whether a reference in a URL is an id; keys are never made of digits only. Longer than any id: no number."""
    return reference.isascii() and reference.isdigit() and len(reference) <= 19
