"""An experiment's states and the steps between them.

```
 draft ──start──► running ──pause──► paused ──start──► running
   │                 │  └──complete──┐  │ complete
   │                 │               ▼  ▼
   │              cancel, fail    completed ──archive──► archived
   └──cancel──► cancelled, failed ───────────archive────────┘
```
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    ARCHIVED = "archived"
    CANCELLED = "cancelled"
    FAILED = "failed"


ENDED = frozenset({Status.COMPLETED, Status.ARCHIVED, Status.CANCELLED, Status.FAILED})


class Action(Enum):
    START = "start"
    PAUSE = "pause"
    COMPLETE = "complete"
    ARCHIVE = "archive"
    CANCEL = "cancel"
    FAIL = "fail"


class Refusal(Enum):
    """Why a change of an experiment is refused; the value is the machine-readable reason."""

    START_NEEDS_DRAFT = "not_draft_or_paused"
    PAUSE_NEEDS_RUNNING = "not_running"
    END_NEEDS_STARTED = "not_running_or_paused"
    CANCEL_NEEDS_UNENDED = "already_ended"
    ARCHIVE_NEEDS_ENDED = "not_ended"
    TOO_FEW_VARIANTS = "too_few_variants"
    CONTROL_MISSING = "control_missing"
    SEVERAL_CONTROLS = "several_controls"
    NOT_100_PERCENT = "traffic_not_100_percent"
    SPLIT_MISMATCH = "traffic_split_mismatch"
    PERCENTAGE_TOO_FINE = "percentage_too_fine"
    PERCENTAGE_MISSING = "traffic_percentage_missing"
    BAD_STRATA = "bad_strata"
    KEY_TAKEN = "key_taken"
    VARIANT_TAKEN = "variant_taken"
    VARIANTS_FIXED = "variants_fixed_once_started"
    FIXED_ONCE_STARTED = "fixed_once_started"
    ENDED = "experiment_ended"
    TOO_MANY_SPLITS = "too_many_splits"
    TOO_MANY_VARIANTS = "too_many_variants"


INVALID = frozenset(
    {
        Refusal.SPLIT_MISMATCH,
        Refusal.PERCENTAGE_TOO_FINE,
        Refusal.PERCENTAGE_MISSING,
        Refusal.BAD_STRATA,
        Refusal.TOO_MANY_VARIANTS,
    }
)
"""Faults of what was sent; all others are conflicts with what is stored."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A decision not to do something, for programs (`reason`) and people (`detail`)."""

    reason: Refusal
    detail: str


_STEPS: dict[Action, tuple[frozenset[Status], Status, Refusal]] = {
    Action.START: (frozenset({Status.DRAFT, Status.PAUSED}), Status.RUNNING, Refusal.START_NEEDS_DRAFT),
    Action.PAUSE: (frozenset({Status.RUNNING}), Status.PAUSED, Refusal.PAUSE_NEEDS_RUNNING),
    Action.COMPLETE: (frozenset({Status.RUNNING, Status.PAUSED}), Status.COMPLETED, Refusal.END_NEEDS_STARTED),
    Action.FAIL: (frozenset({Status.RUNNING, Status.PAUSED}), Status.FAILED, Refusal.END_NEEDS_STARTED),
    Action.CANCEL: (
        frozenset({Status.DRAFT, Status.RUNNING, Status.PAUSED}),
        Status.CANCELLED,
        Refusal.CANCEL_NEEDS_UNENDED,
    ),
    Action.ARCHIVE: (
        frozenset({Status.COMPLETED, Status.CANCELLED, Status.FAILED}),
        Status.ARCHIVED,
        Refusal.ARCHIVE_NEEDS_ENDED,
    ),
}


def after(action: Action, status: Status) -> Status | Refused:
    """The state that `action` leads to from `status`, or why it cannot be done there."""
    allowed, target, refusal = _STEPS[action]
    if status in allowed:
        return target
    wanted = " or ".join(s.value.upper() for s in Status if s in allowed)
    return Refused(
        refusal, f"cannot {action.value} an experiment that is {status.value.upper()}: it must be {wanted}"
    )
