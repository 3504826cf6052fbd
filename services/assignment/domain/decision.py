"""Which variant a unit gets: the split decides, unless its bucket is ambiguous; then what it first got counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from services.assignment.domain.allocation import Allocation, Ambiguity, Split, StratumSplit, before_the_move
from services.assignment.domain.bucketing import bucket_of
from services.assignment.domain.lifecycle import Status
from services.assignment.domain.switches import Off, experiment_admission_bucket
from shared import messages


class Reason(Enum):
    """Why an answer names the variant that it names."""

    SPLIT = "split"
    """The unit's bucket lies in this variant's share."""
    STICKY = "sticky"
    """The unit got this variant before the split changed, or in another stratum, and keeps it."""
    STORE_UNREADABLE = "store_unreadable"
    """What the unit first got cannot be looked up now: this is what it would have got before the change."""
    DRAFT = "experiment_draft"
    PAUSED = "experiment_paused"
    COMPLETED = "experiment_completed"
    ARCHIVED = "experiment_archived"
    CANCELLED = "experiment_cancelled"
    FAILED = "experiment_failed"
    KILLED = "killed"
    """A switch holds the experiment or the unit's variant off: the control, and the unit is not counted."""


class Memory(Enum):
    """What a definition asks for besides the hash."""

    FIRST_ANSWER = "running: remember the first answer, look it up where buckets are ambiguous"
    EXISTING_ONLY = "paused: who has a variant keeps it, nobody else gets one"
    NONE = "not running: everybody gets the control"


class Resolution(NamedTuple):
    """What a unit gets, and why."""

    variant: messages.Variant | None
    """None only where an experiment without control is not running or killed."""
    reason: Reason
    assigned: bool = True
    off: Off | None = None
    """What killed it, if that is the reason."""
    probe: bool = False
    """A switch is half-open and admits the unit."""


_MEMORY = {Status.RUNNING: Memory.FIRST_ANSWER, Status.PAUSED: Memory.EXISTING_ONLY}


@dataclass(frozen=True, slots=True)
class Placement:
    """What the split says about one unit."""

    bucket: int
    stratum: str | None
    variant: messages.Variant
    before: messages.Variant
    """What the unit would have got before its bucket last moved; `variant` if it never moved."""
    ambiguous: bool


class Rules:
    """A published experiment, prepared for decisions. Raises ValueError if its shares do not add up once started."""

    def __init__(self, experiment: messages.Experiment) -> None:
        self.experiment = experiment
        self.status = Status(experiment.status)
        self.memory = _MEMORY.get(self.status, Memory.NONE)
        self.control = next((v for v in experiment.variants if v.type == "control"), None)
        self.by_id = {v.id: v for v in experiment.variants}
        self.by_name = {v.name: v for v in experiment.variants}
        self.kept = {v.id: (Resolution(v, Reason.SPLIT), Resolution(v, Reason.STICKY)) for v in experiment.variants}
        """What a unit that has the variant gets: by the present split, or although that says otherwise."""
        self._stratify_by = experiment.stratify_by
        if self.memory is not Memory.NONE:
            names = [v.name for v in experiment.variants]
            shares = {v.name: v.buckets for v in experiment.variants}
            self._present = _allocation(names, shares, experiment.strata)
            self._earlier = [_allocation(names, a.buckets, a.strata) for a in experiment.earlier]
            splits = [s for a in (self._present, *self._earlier) for s in a.splits()]
            self._ambiguity = Ambiguity(splits)

    @property
    def not_running(self) -> Reason:
        return Reason(f"experiment_{self.status.value}")

    def admission_bucket(self, unit: str) -> int:
        return experiment_admission_bucket(self.experiment.salt, unit)

    def place(self, unit: str, context: Mapping[str, Any]) -> Placement:
        """Of a running or paused experiment only."""
        bucket = bucket_of(self.experiment.salt, unit)
        number = None if self._stratify_by is None else _number(context.get(self._stratify_by))
        stratum, split = self._present.split_for(number)
        variant = self.by_name[split.variant_of(bucket)]
        if bucket not in self._ambiguity:
            return Placement(bucket, stratum, variant, variant, False)
        before = before_the_move(bucket, number, self._present, self._earlier)
        return Placement(bucket, stratum, variant, self.by_name[before], True)


def _allocation(names: Sequence[str], shares: Mapping[str, int], strata: tuple[messages.Stratum, ...]) -> Allocation:
    """The variants' own order decides whose buckets come first: that of a JSON object may be lost on its way."""

    def split(by_name: Mapping[str, int]) -> Split:
        return Split.of({name: by_name.get(name, 0) for name in names})

    return Allocation(split(shares), tuple(StratumSplit(s.name, s.below, split(s.buckets)) for s in strata))


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
