"""The built-in alert "the aggregator is silent": without heartbeats no rule and no breaker can be trusted.

"No data" is a quiet shop; "no aggregator" is a blind watchman. Only the second is told here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec

from services.alerting.domain.change import AlertChange, Change, StateKey, Transition
from shared.clock import SECOND

LIMIT = 30 * SECOND
"""Without a heartbeat of some shard for this long, the aggregator counts as silent."""

KEY = "aggregator:silent"
ALERT_TYPE = "aggregator_silent"


class Reason(Enum):
    HEARD = "heard"
    NOBODY_WATCHES = "nobody_watches"
    """There is neither rule nor breaker."""
    FELL_SILENT = "heartbeats_stopped"
    STILL_SILENT = "still_silent"
    RESUMED = "heartbeats_resumed"


@dataclass(frozen=True, slots=True)
class SilenceState:
    silent: bool = False
    since: int = 0
    incident: int = 0


@dataclass(frozen=True, slots=True)
class SilenceDecision:
    reason: Reason
    state: SilenceState
    shards: tuple[int, ...]


def decide(state: SilenceState, silent: tuple[int, ...], *, watched: bool, now: int) -> SilenceDecision:
    """`silent`: see `HeartbeatClock.silent`; `watched`: whether the organisation has rules or breakers."""
    if silent and watched:
        if state.silent:
            return SilenceDecision(Reason.STILL_SILENT, state, silent)
        return SilenceDecision(Reason.FELL_SILENT, SilenceState(True, now, state.incident + 1), silent)
    if state.silent:
        return SilenceDecision(Reason.RESUMED, SilenceState(False, now, state.incident), silent)
    return SilenceDecision(Reason.HEARD if watched else Reason.NOBODY_WATCHES, state, silent)


def change_of(organisation: str, before: SilenceState, decision: SilenceDecision, now: int) -> Change | None:
    """What is to be stored; None if the decision leaves all as it is."""
    after = decision.state
    if after == before:
        return None
    evidence = {"silent_shards": list(decision.shards), "limit_seconds": LIMIT // SECOND}
    reason = decision.reason.value
    return Change(
        key=StateKey(organisation, "builtin", KEY),
        definition_version=1,
        status=_named(after),
        state=msgspec.to_builtins(after),
        since=now,
        transition=Transition(
            from_state=_named(before), to_state=_named(after), reason=reason, at=now, evidence=evidence
        ),
        alert=AlertChange(
            action="trigger" if after.silent else "resolve",
            incident=after.incident,
            severity="critical",
            alert_type=ALERT_TYPE,
            title="The aggregator is silent",
            message=_sentence(decision.shards) if after.silent else "The aggregator is heard again",
            data={**evidence, "reason": reason},
        ),
    )


def _sentence(shards: Sequence[int]) -> str:
    numbers = ", ".join(map(str, shards))
    return (
        f"No heartbeat of shard {numbers} for {LIMIT // SECOND} s: rules and breakers stand still until it is back. "
        "This is not the same as no data."
    )


def _named(state: SilenceState) -> str:
    return "silent" if state.silent else "heard"
