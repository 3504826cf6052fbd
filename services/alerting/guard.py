"""Decides on every update, and as time passes: rules, breakers and the silence of the aggregator.

    update ─► the windows and streaks of whoever watches its metric ─► decide ─► commit (or reload, decide again)

Everything here runs one at a time, under `lock`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from services.alerting.committer import Committer, place_of
from services.alerting.domain import breaker_machine, silence
from services.alerting.domain.breaker import parse_breaker
from services.alerting.domain.breaker_machine import BreakerDecision, BreakerState, Position
from services.alerting.domain.breaker_watch import BreakerWatch
from services.alerting.domain.change import Occasion
from services.alerting.domain.heartbeat_clock import HeartbeatClock
from services.alerting.domain.metric import MetricShape, shape_of
from services.alerting.domain.revisions import LatestUpdates, Verdict
from services.alerting.domain.rule_machine import RuleDecision, RuleState
from services.alerting.domain.rule_watch import Held, RuleWatch
from services.alerting.domain.series import parse_group, parse_series
from services.alerting.domain.silence import SilenceState
from services.alerting.domain.window import Group
from services.alerting.metrics import AlertingMetrics
from services.alerting.store.positions import Place
from services.alerting.store.states import StateRow
from shared.clock import SECOND, Clock
from shared.messages import Metric, MetricUpdate, Switch

logger = logging.getLogger(__name__)

Name = tuple[str, str]
"""Organisation and key."""


class Guard:
    """Watches by name. `forget` before every new reading of the topics; then `apply`, `take` and `tick`."""

    def __init__(self, committer: Committer, latest: LatestUpdates, metrics: AlertingMetrics, clock: Clock) -> None:
        self.lock = asyncio.Lock()
        self.rules: dict[Name, RuleWatch] = {}
        self.breakers: dict[Name, BreakerWatch] = {}
        self.committer = committer
        self.heartbeats: HeartbeatClock | None = None
        """None while nobody listens to heartbeats: at the start, and while what was missed is decided."""
        self._progress = committer.progress
        self._latest = latest
        self._metrics = metrics
        self._clock = clock
        self._shapes: dict[Name, MetricShape] = {}
        self._by_metric: dict[Name, tuple[list[RuleWatch], list[BreakerWatch]]] = {}
        self._silence: dict[str, tuple[SilenceState, int]] = {}
        self._elapsed: Callable[[], int] = lambda: 0

    # Definitions

    def shape(self, organisation: str, metric: str) -> MetricShape | None:
        return self._shapes.get((organisation, metric))

    async def learn_metric(self, metric: Metric) -> None:
        """A new version is a new series: whoever watches it begins with an empty window."""
        name = (metric.organisation, metric.key)
        known = self._shapes.get(name)
        if known is not None and known.version >= metric.version:
            return
        shape = shape_of(metric.version, metric.spec)
        self._shapes[name] = shape
        rules, breakers = self._by_metric.get(name, ((), ()))
        for watch in (*rules, *breakers):
            watch.reshape(shape)
            self._seed(watch, name)
        for rule in rules:
            await self.look_at(rule)
        for breaker in breakers:
            await self._decide_breaker(breaker, self.now(breaker), self._occasion(None))

    def forget(self) -> None:
        """Before everything is read anew."""
        self.rules.clear()
        self.breakers.clear()
        self._by_metric.clear()
        self._silence.clear()
        self.heartbeats = None

    def install(self, watch: RuleWatch | BreakerWatch) -> None:
        """Takes the place of an earlier version."""
        if isinstance(watch, RuleWatch):
            name, metric = (watch.rule.organisation, watch.rule.key), watch.rule.metric
            self.rules[name] = watch
        else:
            name, metric = (watch.breaker.organisation, watch.breaker.key), watch.breaker.metric
            self.breakers[name] = watch
            self._show(watch)
        self._by_metric = {}
        for rule in self.rules.values():
            if rule.rule.enabled:
                self._listeners(rule.rule.organisation, rule.rule.metric)[0].append(rule)
        for breaker in self.breakers.values():
            if breaker.breaker.enabled:
                self._listeners(breaker.breaker.organisation, breaker.breaker.metric)[1].append(breaker)
        self._seed(watch, (name[0], metric))

    def _listeners(self, organisation: str, metric: str) -> tuple[list[RuleWatch], list[BreakerWatch]]:
        return self._by_metric.setdefault((organisation, metric), ([], []))

    def _seed(self, watch: RuleWatch | BreakerWatch, metric: Name) -> None:
        """Gives a watch what is known of its metric already."""
        if isinstance(watch, RuleWatch):
            watch.advance(self.now(watch))
        for update in self._latest:
            if (update.organisation, update.subject) == metric:
                series = parse_series(update.series)
                if series is not None:
                    watch.apply(series, update)

    # Time

    def listen(self, heartbeats: HeartbeatClock | None, elapsed: Callable[[], int]) -> None:
        self.heartbeats = heartbeats
        self._elapsed = elapsed

    def now(self, watch: RuleWatch | BreakerWatch) -> int:
        """The clock of a watch: never behind what its updates were decided on."""
        heard = None if self.heartbeats is None else self.heartbeats.now(self._elapsed())
        return max(heard or 0, self._progress[self._place(watch)].clock)

    def _reading(self) -> int:
        """The monotonic clock; 0 while what was missed is decided: live, that has waited long enough."""
        return 0 if self.heartbeats is None else self._elapsed()

    async def tick(self) -> None:
        """Decides what time alone decides."""
        for breaker in list(self.breakers.values()):
            open_ = breaker.breaker.enabled and breaker.state.position is Position.OPEN
            if open_ and self._to(breaker, None) >= breaker.decided_to:
                await self._decide_breaker(breaker, self.now(breaker), self._occasion(None))
        for rule in list(self.rules.values()):
            if rule.rule.enabled:
                now = self.now(rule)
                for group in rule.pass_time(now, self._elapsed()):
                    # Another process may be ahead of us: then its state knows more than our window does.
                    if self._to(rule, None) >= self._decided_to(rule, group):
                        await self._decide_rule(rule, group, now, self._occasion(None))

    async def hear_silence(self, shards: tuple[int, ...]) -> None:
        """Raises or ends "the aggregator is silent"; `shards` have not been heard of for too long."""
        watched = {name[0] for name, rule in self.rules.items() if rule.rule.enabled}
        watched |= {name[0] for name, breaker in self.breakers.items() if breaker.breaker.enabled}
        for organisation in sorted(watched | set(self._silence)):
            while True:
                state, version = self._silence.get(organisation, (SilenceState(), 0))
                now = self._clock()
                decision = silence.decide(state, shards, watched=organisation in watched, now=now)
                change = silence.change_of(organisation, state, decision, now)
                if change is None:
                    break
                stored = await self.committer.commit(change, version, 0, {})
                if stored is not None:
                    self._silence[organisation] = (decision.state, stored)
                    break
                row = await self.committer.load(change.key)
                self.hold_silence(organisation, row)

    def hold_silence(self, organisation: str, row: StateRow | None) -> None:
        if row is not None:
            self._silence[organisation] = (msgspec.convert(row.state, SilenceState), row.version)

    # Updates

    def apply(self, update: MetricUpdate) -> None:
        """Takes an update that has been decided on already."""
        verdict = self._latest.apply(update, now=self._clock())
        series = parse_series(update.series)
        if verdict is not Verdict.UNWATCHED and series is not None:
            rules, breakers = self._by_metric.get((update.organisation, update.subject), ((), ()))
            for breaker in breakers:
                breaker.apply(series, update)
            for rule in rules:
                rule.skip(update)
                rule.apply(series, update)

    async def take(self, update: MetricUpdate, place: Place, offset: int, clock: int) -> None:
        """Takes an update, at `clock`, and decides on it; from then on we stand behind it."""
        self._progress.move(place, offset, clock)
        await self._decide_on(update, offset)
        self._progress.move(place, offset + 1, clock)

    async def _decide_on(self, update: MetricUpdate, offset: int) -> None:
        """Breakers first. Time passes first: what was due before the update is decided without it."""
        verdict = self._latest.apply(update, now=self._clock())
        self._metrics.updates[verdict].inc()
        series = parse_series(update.series)
        rules, breakers = self._by_metric.get((update.organisation, update.subject), ((), ()))
        if verdict is Verdict.UNWATCHED or series is None or not (rules or breakers):
            return
        occasion = self._occasion(update.published_at)
        for breaker in breakers:
            now = self.now(breaker)
            if offset >= breaker.decided_to:
                await self._decide_breaker(breaker, now, self._occasion(None), offset)
            if breaker.apply(series, update) and offset >= breaker.decided_to:
                await self._decide_breaker(breaker, now, occasion, offset + 1)
        for rule in rules:
            now = self.now(rule)
            for group in rule.before(update, now):
                # A state that this update has moved already knows more than the window does.
                if offset >= self._decided_to(rule, group):
                    await self._decide_rule(rule, group, now, self._occasion(None), offset)
            found = rule.apply(series, update, self._reading())
            if found is not None and offset >= self._decided_to(rule, found):
                await self._decide_rule(rule, found, now, occasion, offset + 1)
        self._metrics.decision_seconds.observe(max(0, self._clock() - update.published_at) / SECOND)

    async def look_at(self, rule: RuleWatch) -> None:
        """Decides on all that is known of a rule."""
        now = self.now(rule)
        for group in rule.everything():
            await self._decide_rule(rule, group, now, self._occasion(None))

    # By hand

    async def restore(self, switch: Switch) -> None:
        """Somebody has let go of a breaker's switch: the breaker closes."""
        kind, _, key = switch.cause.partition(":")
        watch = self.breakers.get((switch.organisation, key))
        if kind != "breaker" or watch is None:
            return
        if (watch.breaker.flag, watch.breaker.variant) != (switch.flag, switch.variant):
            return
        by = {"closed_by": switch.evidence.get("by"), "closed_because": switch.evidence.get("reason")}
        await self.close(watch, breaker_machine.Reason.RESTORED_BY_HAND, by)

    async def close(self, watch: BreakerWatch, reason: breaker_machine.Reason, by: Mapping[str, Any]) -> None:
        """Closes a breaker from any state, and waits until that is stored."""
        while True:
            now = max(self.now(watch), self._clock())
            decision = breaker_machine.close(watch.state, watch.streak, reason, now)
            if await self._store_breaker(watch, decision, now, self._occasion(None), self._to(watch, None), **by):
                return

    # Deciding and storing

    async def _decide_rule(
        self, rule: RuleWatch, group: Group, now: int, occasion: Occasion, decided_to: int | None = None
    ) -> None:
        decision = rule.decide(group, now)
        to = self._to(rule, decided_to)
        while decision is not None and not await self.store_rule(rule, group, decision, now, occasion, to):
            if self._decided_to(rule, group) >= to:
                return  # by another process, or by a commit of ours whose answer was lost
            decision = rule.decide_again(group, decision.seen, now)

    async def store_rule(
        self,
        rule: RuleWatch,
        group: Group,
        decision: RuleDecision,
        now: int,
        occasion: Occasion,
        decided_to: int | None = None,
    ) -> bool:
        """False if the state had been moved by somebody else: it is reloaded, decide again."""
        change = rule.change(group, decision, now, occasion)
        if change is None:
            return True
        held = rule.held.setdefault(group, Held())
        to = self._to(rule, decided_to)
        version = await self.committer.commit(change, held.version, to, rule.rule.spec)
        if version is None:
            row = await self.committer.load(change.key)
            rule.held[group] = Held() if row is None else held_from(row)
            return False
        rule.held[group] = Held(decision.state, version, max(to, held.decided_to))
        return True

    async def _decide_breaker(
        self, watch: BreakerWatch, now: int, occasion: Occasion, decided_to: int | None = None
    ) -> None:
        to = self._to(watch, decided_to)
        while not await self._store_breaker(watch, watch.decide(now), now, occasion, to):
            if watch.decided_to >= to:
                return

    async def _store_breaker(
        self,
        watch: BreakerWatch,
        decision: BreakerDecision,
        now: int,
        occasion: Occasion,
        decided_to: int,
        **more: Any,
    ) -> bool:
        """False if the state had been moved by somebody else: it is reloaded, decide again."""
        change = watch.change(decision, now, occasion, **more)
        if change is None:
            return True
        version = await self.committer.commit(change, watch.version, decided_to, watch.breaker.spec)
        if version is None:
            row = await self.committer.load(change.key)
            if row is not None:
                hold_breaker(watch, row)
            self._show(watch)
            return False
        watch.state, watch.version, watch.decided_to = decision.state, version, max(decided_to, watch.decided_to)
        self._show(watch)
        return True

    def _to(self, watch: RuleWatch | BreakerWatch, decided_to: int | None) -> int:
        """The offset up to which updates are decided with a decision: where we stand, if none is given."""
        return self._progress[self._place(watch)].next_offset if decided_to is None else decided_to

    def _decided_to(self, rule: RuleWatch, group: Group) -> int:
        held = rule.held.get(group)
        return 0 if held is None else held.decided_to

    def _place(self, watch: RuleWatch | BreakerWatch) -> Place:
        if isinstance(watch, RuleWatch):
            return place_of(watch.rule.organisation, watch.rule.metric)
        return place_of(watch.breaker.organisation, watch.breaker.metric)

    def _occasion(self, published_at: int | None) -> Occasion:
        clock = self.heartbeats
        return Occasion(published_at) if clock is None else Occasion(published_at, clock.lag_ms, clock.lag_records)

    def _show(self, watch: BreakerWatch) -> None:
        self._metrics.show_breaker(watch.breaker.organisation, watch.breaker.key, watch.state.position)


def held_from(row: StateRow) -> Held:
    return Held(msgspec.convert(row.state, RuleState), row.version, row.decided_to)


def hold_breaker(watch: BreakerWatch, row: StateRow) -> None:
    watch.state = msgspec.convert(row.state, BreakerState)
    watch.version, watch.decided_to = row.version, row.decided_to


def group_of(row: StateRow) -> Group:
    return parse_group(row.key.group)


def breaker_of(row: StateRow) -> BreakerWatch:
    """A breaker as its last state knew it, for when its definition has not been read from Kafka."""
    breaker = parse_breaker(row.key.organisation, row.key.key, row.definition_version, row.definition)
    watch = BreakerWatch(breaker, None, BreakerState())
    hold_breaker(watch, row)
    return watch
