"""Puts definitions into force: what a change of a rule or breaker means for the states that are there.

A breaker keeps its state while metric, flag and variant stay; else the old one lets go of its switch first.
A rule's groups keep theirs while metric, aggregation, direction, window and group stay.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from services.alerting.domain import breaker_machine, rule_machine
from services.alerting.domain.breaker import Breaker, parse_breaker
from services.alerting.domain.breaker_machine import BreakerState
from services.alerting.domain.breaker_watch import BreakerWatch
from services.alerting.domain.change import Change, Occasion, StateKey
from services.alerting.domain.rule import Rule, parse_rule
from services.alerting.domain.rule_machine import Status
from services.alerting.domain.rule_watch import RuleWatch
from services.alerting.guard import Guard, breaker_of, group_of, held_from, hold_breaker
from services.alerting.store.states import StateRow
from shared.clock import Clock
from shared.definition_error import DefinitionError
from shared.messages import Breaker as BreakerMessage
from shared.messages import Rule as RuleMessage

logger = logging.getLogger(__name__)


class Installer:
    """Call it under the guard's lock. Waits for Postgres as long as it takes."""

    def __init__(self, guard: Guard, clock: Clock) -> None:
        self._guard = guard
        self._committer = guard.committer
        self._clock = clock

    async def install_rule(self, message: RuleMessage, *, decide: bool) -> None:
        """`decide`: at once, on what is known of the metric already."""
        name = (message.organisation, message.key)
        known = self._guard.rules.get(name)
        if known is not None and known.rule.version >= message.version:
            return
        try:
            rule = parse_rule(*name, message.version, message.spec)
        except DefinitionError as error:
            _refused("rule", name, error)
            return
        watch = RuleWatch(rule, self._guard.shape(rule.organisation, rule.metric))
        if known is not None:
            watch.inherit(known)
        rows = await self._committer.patiently(lambda: self._committer.store.of(rule.organisation, "rule", rule.key))
        for row in rows:
            watch.held[group_of(row)] = held_from(row)
        self._guard.install(watch)
        for row in rows:
            await self._settle_rule(watch, row)
        if decide:
            await self._guard.look_at(watch)

    async def install_breaker(self, message: BreakerMessage) -> None:
        name = (message.organisation, message.key)
        known = self._guard.breakers.get(name)
        if known is not None and known.breaker.version >= message.version:
            return
        try:
            breaker = parse_breaker(*name, message.version, message.spec)
        except DefinitionError as error:
            _refused("breaker", name, error)
            return
        while True:
            row = await self._committer.load(StateKey(breaker.organisation, "breaker", breaker.key))
            changes = await self._towards(breaker, row)
            version = 0 if row is None else row.version
            for change in changes:
                stored = await self._committer.commit(change, version, 0, message.spec)
                if stored is None:
                    break
                version = stored
            else:
                break
        row = await self._committer.load(StateKey(breaker.organisation, "breaker", breaker.key))
        assert row is not None, "it has just been stored"
        watch = BreakerWatch(breaker, self._guard.shape(breaker.organisation, breaker.metric), BreakerState())
        hold_breaker(watch, row)
        self._guard.install(watch)

    async def _settle_rule(self, watch: RuleWatch, row: StateRow) -> None:
        group, rule = group_of(row), watch.rule
        if row.definition_version >= rule.version or watch.state(group).status is Status.OK:
            return
        reason = _end_of(_earlier_rule(row), rule)
        if reason is None:
            return
        while watch.state(group).status is not Status.OK:
            now = max(self._guard.now(watch) or self._clock(), watch.state(group).since)
            if await self._guard.store_rule(watch, group, watch.end(group, reason, now), now, Occasion()):
                return

    async def _towards(self, breaker: Breaker, row: StateRow | None) -> list[Change]:
        """The changes that lead from the stored state to one of this definition, in order."""
        defined = await self._committer.patiently(
            lambda: self._committer.store.defined_at("breaker", breaker.organisation, breaker.key)
        )
        begin = self._clock() if defined is None else defined
        if row is None:
            return [BreakerWatch(breaker, None, BreakerState()).creation(begin)]
        if row.definition_version >= breaker.version:
            return []
        old = breaker_of(row)
        now = max(begin, old.state.since)
        if not old.breaker.guards_the_same(breaker):
            decision = breaker_machine.close(old.state, old.streak, breaker_machine.Reason.DEFINITION_CHANGED, now)
            closing = old.change(decision, now, Occasion())
            fresh = replace(decision.state, enabled=breaker.enabled, since=now, after=now)
            return [*([] if closing is None else [closing]), _state_only(breaker, fresh)]
        if not breaker.enabled:
            change = old.change(breaker_machine.disable(old.state, old.streak, now), now, Occasion())
        elif not old.state.enabled:
            change = old.change(breaker_machine.enable(old.state, now), now, Occasion())
        else:
            change = None
        return [] if change is None else [replace(change, definition_version=breaker.version)]


def _state_only(breaker: Breaker, state: BreakerState) -> Change:
    return replace(
        BreakerWatch(breaker, None, state).creation(state.since),
        status=state.position.value,
        state=_plain(state),
    )


def _plain(state: BreakerState) -> Mapping[str, Any]:
    plain: Mapping[str, Any] = msgspec.to_builtins(state)
    return plain


def _earlier_rule(row: StateRow) -> Rule | None:
    try:
        return parse_rule(row.key.organisation, row.key.key, row.definition_version, row.definition)
    except DefinitionError:
        return None


def _end_of(old: Rule | None, rule: Rule) -> rule_machine.Reason | None:
    if not rule.enabled:
        return rule_machine.Reason.DISABLED
    if old is None or not old.watches_the_same(rule):
        return rule_machine.Reason.DEFINITION_CHANGED
    return None


def _refused(kind: str, name: tuple[str, str], error: DefinitionError) -> None:
    """Only another version of Tidegate can have stored it."""
    logger.error(
        "a definition cannot be understood and is left out",
        extra={"kind": kind, "organisation": name[0], "key": name[1], "error": str(error)},
    )
