"""Each organisation's intake rules, from their topic into its inspection."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from functools import cached_property, partial
from typing import Any, Protocol

from services.ingest.domain.quality.bots import Robots
from services.ingest.domain.quality.checks import bot_check, redactor_of, sample_check
from services.ingest.domain.quality.guard import Guard
from services.ingest.domain.quality.hash_keys import Hasher
from services.ingest.domain.quality.hash_period import Rotation
from services.ingest.domain.quality.inspection import Check, Inspection, Stage
from services.ingest.domain.quality.intake_rule import IntakeRule, parse_intake_rule
from services.ingest.domain.quality.privacy import HasherOf, Redactions
from services.ingest.quality.inspections import Inspections
from shared.definition_error import DefinitionError

logger = logging.getLogger(__name__)


class Hashers(Protocol):
    """`HashKeyLog`."""

    def hasher(self, organisation: str, rotation: Rotation, time: int) -> Hasher | None: ...

    def wake(self) -> None: ...


class IntakeRules:
    """Feed `learn` with all rules. Call `hash_with` before the first one."""

    def __init__(self, inspections: Inspections) -> None:
        self._inspections = inspections
        self._hashers: Hashers | None = None
        self._rules: dict[str, dict[str, IntakeRule | None]] = {}
        self.done = Redactions()

    def hash_with(self, hashers: Hashers) -> None:
        self._hashers = hashers

    @cached_property
    def robots(self) -> Robots:
        """Made when the first rule asks for it."""
        return Robots()

    def learn(self, organisation: str, key: str, spec: Mapping[str, Any] | None) -> None:
        """None if the rule is removed. One that cannot be read stops its organisation: it may say what to hide."""
        rules = self._rules.setdefault(organisation, {})
        if spec is None:
            rules.pop(key, None)
        else:
            try:
                rules[key] = parse_intake_rule(key, spec)
            except DefinitionError as error:
                rules[key] = None
                extra = {"organisation": organisation, "rule": key, "error": str(error)}
                logger.error("an intake rule cannot be read: its organisation's events are refused", extra=extra)
        self.renew(organisation)

    def renew(self, organisation: str) -> None:
        """Puts the organisation's checks together anew, which forget what they remembered."""
        every = [rule for _, rule in sorted(self._rules.get(organisation, {}).items())]
        rules = [rule for rule in every if rule is not None and rule.enabled]
        hashers = self._hashers
        hasher_of = partial(hashers.hasher, organisation) if hashers is not None else lambda *_: None
        redactor = redactor_of(rules, hasher_of, self.done)
        unread = any(rule is None for rule in every)
        guard = Guard(None if unread else redactor) if unread or redactor is not None else None
        self._inspections.put(organisation, Stage.BOTS, bot_check(rules, lambda agent: self.robots.knows(agent)))
        self._inspections.put(organisation, Stage.SAMPLING, sample_check(rules))
        self._inspections.put(organisation, Stage.PRIVACY, guard)
        if hashers is not None:
            hashers.wake()

    def alone(self, rule: IntakeRule, hasher_of: HasherOf) -> Inspection:
        """What events would go through if there were only this rule; it counts nothing."""
        rules = [rule] if rule.enabled else []
        redactor = redactor_of(rules, hasher_of, Redactions())
        checks: dict[Stage, Check | None] = {
            Stage.BOTS: bot_check(rules, lambda agent: self.robots.knows(agent)),
            Stage.SAMPLING: sample_check(rules),
            Stage.PRIVACY: None if redactor is None else Guard(redactor),
        }
        return Inspection({stage: check for stage, check in checks.items() if check is not None})

    def rotations(self) -> Mapping[str, Collection[Rotation]]:
        """Organisation → how often the keys change that its rules take; organisations that take some."""
        found = {
            organisation: {rule.rotation for rule in rules.values() if rule is not None and rule.enabled}
            for organisation, rules in self._rules.items()
        }
        return {name: some for name, all_ in found.items() if (some := {r for r in all_ if r is not None})}
