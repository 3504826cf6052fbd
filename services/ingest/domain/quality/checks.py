"""An organisation's rules as what the intake asks of each event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from services.ingest.domain.quality.aside import Aside, SetAside, Verdict
from services.ingest.domain.quality.inspection import Check
from services.ingest.domain.quality.intake_rule import BotRule, IntakeRule, SampleRule
from services.ingest.domain.quality.privacy import HasherOf, PrivacyRule, Redactions, Redactor
from services.ingest.domain.quality.sampling import Sample, Sampler
from shared.messages import Event

USER_AGENT = "userAgent"
MARK = "bot"
"""Where in its context an event says that a robot sent it."""


def bot_check(rules: Iterable[IntakeRule], is_robot: Callable[[object], bool]) -> Check | None:
    """None if no rule is about robots. `is_robot` knows them by their user agents."""
    actions = [rule.action for rule in rules if isinstance(rule.action, BotRule)]
    if not actions:
        return None

    def check(event: Event, received_at: int) -> Verdict:
        if not is_robot(event.context.get(USER_AGENT)):
            return event
        wanted = [rule for rule in actions if rule.event_types.include(event.event_type)]
        if any(rule.drops for rule in wanted):
            return SetAside(Aside.BOT, "a robot sent it", event.event_id)
        return msgspec.structs.replace(event, context={**event.context, MARK: True}) if wanted else event

    return check


def sample_check(rules: Iterable[IntakeRule]) -> Check | None:
    """None if no rule samples."""
    samples: dict[str, list[Sample]] = {}
    for rule in rules:
        if isinstance(rule.action, SampleRule):
            for name in rule.action.event_types.names:
                samples.setdefault(name, []).append(rule.action.sample)
    return _sampling(samples) if samples else None


def _sampling(samples: Mapping[str, Sequence[Sample]]) -> Check:
    sampler = Sampler(samples)

    def check(event: Event, received_at: int) -> Verdict:
        kept = sampler.kept(event)
        return kept if kept is not None else SetAside(Aside.SAMPLED_OUT, "left out of the sample", event.event_id)

    return check


def redactor_of(rules: Iterable[IntakeRule], hasher_of: HasherOf, done: Redactions) -> Redactor | None:
    """None if no rule is about privacy."""
    actions = [rule.action for rule in rules if isinstance(rule.action, PrivacyRule)]
    return Redactor(actions, hasher_of, done) if actions else None
