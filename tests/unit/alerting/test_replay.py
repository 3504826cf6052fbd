"""A process that dies anywhere and begins again goes through the same transitions as one that never died."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from services.alerting.committer import Committer, Progress, place_of
from services.alerting.domain.change import Change, StateKey
from services.alerting.domain.revisions import Bounds, LatestUpdates
from services.alerting.guard import Guard
from services.alerting.installer import Installer
from services.alerting.metrics import AlertingMetrics
from services.alerting.outbox import ALERT_ROWS, SWITCH_ROWS, Outbox
from services.alerting.store.positions import Place, Reached
from services.alerting.store.states import Committed, ConflictError, Standing, StateRow, StateStore
from shared.clock import MINUTE, SECOND
from shared.kafka import Publisher
from shared.messages import Breaker, Metric, MetricUpdate, Rule
from tests.unit.alerting.scenes import NOW, update

PLACE = place_of("acme", "m")


@dataclass
class Disk:
    """What outlives a process."""

    states: dict[StateKey, StateRow] = field(default_factory=dict)
    positions: dict[Place, Reached] = field(default_factory=dict)
    transitions: list[tuple[str, str, str, str, int]] = field(default_factory=list)
    incidents: list[tuple[str, str, int]] = field(default_factory=list)
    switches: list[tuple[bool, int]] = field(default_factory=list)


class MemoryStore(StateStore):
    """The same promises without Postgres: a change is stored whole, on the version that it was decided on, or not."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def commit(self, change: Change, standing: Standing, now: int) -> Committed:
        known = self._disk.states.get(change.key)
        if (0 if known is None else known.version) != standing.version:
            raise ConflictError
        self._disk.states[change.key] = StateRow(
            change.key,
            standing.version + 1,
            change.definition_version,
            standing.definition,
            change.status,
            change.state,
            change.since,
            max(standing.decided_to, 0 if known is None else known.decided_to),
        )
        if change.transition is not None:
            t = change.transition
            self._disk.transitions.append((change.key.alert_key, t.from_state, t.to_state, t.reason, t.at))
        if change.alert is not None:
            self._disk.incidents.append((change.key.alert_key, change.alert.action, change.alert.incident))
        if change.switch is not None:
            self._disk.switches.append((change.switch.off, change.switch.admit_from))
        self._disk.positions.update(standing.positions)
        return Committed(standing.version + 1, None, None)

    async def load(self, key: StateKey) -> StateRow | None:
        return self._disk.states.get(key)

    async def of(self, organisation: str, kind: str, key: str) -> list[StateRow]:
        return [row for k, row in self._disk.states.items() if k[:3] == (organisation, kind, key)]

    async def defined_at(self, kind: str, organisation: str, key: str) -> int | None:
        return NOW


class Deaf:
    def wake(self) -> None:
        pass


Definition = Rule | Breaker


class Process:
    """A guard that begins with what the disk holds."""

    def __init__(self, disk: Disk, bounds: Bounds = Bounds()) -> None:  # noqa: B008  # frozen
        metrics = AlertingMetrics(CollectorRegistry())
        publisher = Publisher("nowhere:1")
        progress = Progress()
        progress.begin("generation", disk.positions)
        began = asyncio.Event()
        committer = Committer(
            MemoryStore(disk),
            progress,
            switches=Outbox(SWITCH_ROWS, None, publisher, may_begin=began.wait),
            alerts=Outbox(ALERT_ROWS, None, publisher, may_begin=began.wait),
            delivery=Deaf(),
            metrics=metrics,
            clock=lambda: NOW,
        )
        self.progress = progress
        self.guard = Guard(committer, LatestUpdates(bounds), metrics, lambda: NOW)
        self.installer = Installer(self.guard, lambda: NOW)
        self.stored = progress[PLACE]

    async def begin(self, metric: dict[str, Any], definitions: Sequence[Definition]) -> None:
        await self.guard.learn_metric(Metric(organisation="acme", key="m", version=1, spec=metric))
        for definition in definitions:
            if isinstance(definition, Rule):
                await self.installer.install_rule(definition, decide=False)
            else:
                await self.installer.install_breaker(definition)

    async def read(self, offset: int, message: MetricUpdate) -> None:
        """As the pipeline does while it catches up."""
        if offset < self.stored.next_offset:
            self.guard.apply(message)
        else:
            clock = max(self.progress[PLACE].clock, message.published_at)
            await self.guard.take(message, PLACE, offset, clock)


async def play(
    metric: dict[str, Any],
    definitions: Sequence[Definition],
    messages: Sequence[MetricUpdate],
    deaths: Sequence[tuple[int, bool]],
) -> Disk:
    """`deaths`: after how many updates it dies, and whether its position was saved just before."""
    disk = Disk()
    for reach, saved in [*deaths, (len(messages), False)]:
        process = Process(disk)
        await process.begin(metric, definitions)
        for offset, message in enumerate(messages[:reach]):
            await process.read(offset, message)
        if saved:
            disk.positions.update(process.progress.unsaved())
    process.guard.listen(None, lambda: SECOND)
    await process.guard.tick()
    return disk


_DEATHS = st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=4).map(sorted)


@given(steps=st.lists(st.tuples(st.integers(0, 90), st.booleans(), st.integers(0, 2)), max_size=40), deaths=_DEATHS)
def test_a_breaker_does_not_notice_that_its_process_died(
    steps: list[tuple[int, bool, int]], deaths: list[tuple[int, bool]]
) -> None:
    now, messages = NOW, []
    shards: dict[int, tuple[int, list[int]]] = {}
    for revision, (seconds, failed, shard) in enumerate(steps, start=1):
        now += seconds * SECOND
        success, failures = shards.get(shard, (0, []))
        shards[shard] = (success, [*failures, now]) if failed else (now, [])
        messages.append(_streak(shard, revision, now, *shards[shard]))
    breaker = Breaker(
        organisation="acme",
        key="b",
        version=1,
        spec={"metric": "m", "flag": "f", "failure_threshold": 3, "timeout_ms": 60_000, "recovery_attempts": 2},
    )
    unbroken = asyncio.run(play({"type": "streak"}, [breaker], messages, []))
    broken = asyncio.run(play({"type": "streak"}, [breaker], messages, deaths))
    assert _same(broken, unbroken)


_SENT = (("numerator",), ("denominator",), ("numerator", "denominator"), ("numerator", "denominator"))


@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 900),
            st.integers(0, 3),
            st.integers(1, 3),
            st.sampled_from("ab"),
            st.integers(0, 1),
            st.sampled_from(_SENT),
        ),
        max_size=40,
    ),
    deaths=_DEATHS,
    hold=st.sampled_from(["0s", "60s"]),
)
def test_a_rule_does_not_notice_that_its_process_died(
    steps: list[tuple[int, int, int, str, int, tuple[str, ...]]], deaths: list[tuple[int, bool]], hold: str
) -> None:
    now, messages = NOW, []
    totals: dict[tuple[int, str, str, int], int] = {}
    for revision, (tenths, bad, good, group, shard, sent) in enumerate(steps, start=1):
        now += tenths * SECOND // 10
        minute = (now - NOW) // MINUTE
        for component in sent:
            key = (minute, component, group, shard)
            totals[key] = totals.get(key, 0) + (bad if component == "numerator" else bad + good)
            messages.append(_counted(component, group, minute, revision, now, totals[key], shard))
    rule = Rule(
        organisation="acme",
        key="r",
        version=1,
        spec={
            "metric": "m",
            "direction": "above",
            "warning": "40%",
            "critical": "60%",
            "window": "2m",
            "minimum_sample": 4,
            "for": hold,
        },
    )
    metric = {"type": "ratio", "numerator": {}, "denominator": {}, "group_by": ["properties.variant"]}
    unbroken = asyncio.run(play(metric, [rule], messages, []))
    broken = asyncio.run(play(metric, [rule], messages, deaths))
    assert _same(broken, unbroken)


def test_the_games_above_do_lead_to_transitions() -> None:
    messages = [_streak(0, n, NOW + n * SECOND, 0, [NOW + i * SECOND for i in range(1, n + 1)]) for n in range(1, 4)]
    messages.append(_streak(0, 4, NOW + 90 * SECOND, NOW + 90 * SECOND, []))
    messages.append(_streak(0, 5, NOW + 99 * SECOND, NOW + 99 * SECOND, []))
    spec = {"metric": "m", "flag": "f", "failure_threshold": 3}
    breaker = Breaker(organisation="acme", key="b", version=1, spec=spec)
    disk = asyncio.run(play({"type": "streak"}, [breaker], messages, [(3, False), (4, True)]))
    assert [t[3] for t in disk.transitions] == ["consecutive_failures", "timeout_passed", "probe_succeeded"]
    assert disk.switches == [(True, 0), (True, 0), (False, 0)]
    assert disk.incidents == [("breaker:b", "trigger", 1), ("breaker:b", "resolve", 1)]


def test_a_rule_whose_threshold_changes_keeps_what_it_has_counted() -> None:
    async def run() -> Disk:
        disk = Disk()
        process = Process(disk, Bounds(series=2))
        spec = {"metric": "m", "direction": "above", "critical": 120, "window": "10m"}
        await process.begin({"type": "count"}, [Rule(organisation="acme", key="r", version=1, spec=spec)])
        for offset in range(5):
            await process.read(offset, _at(update(minute=offset - 4, n=20, revision=offset + 1), NOW))
        changed = Rule(organisation="acme", key="r", version=2, spec={**spec, "critical": 90})
        await process.installer.install_rule(changed, decide=True)
        return disk

    disk = asyncio.run(run())
    assert [t[1:4] for t in disk.transitions] == [("ok", "critical", "triggered")]


def _same(one: Disk, other: Disk) -> bool:
    assert one.transitions == other.transitions
    assert one.incidents == other.incidents
    assert one.switches == other.switches
    assert {k: (r.status, r.state) for k, r in one.states.items()} == {
        k: (r.status, r.state) for k, r in other.states.items()
    }
    return True


def _streak(shard: int, revision: int, now: int, success: int, failures: Sequence[int]) -> MetricUpdate:
    made = update("streak", streak=True, shard=shard, revision=revision, n=revision, latest_success=success)
    return _at(made, now, failures=tuple(failures))


def _counted(component: str, group: str, minute: int, revision: int, now: int, n: int, shard: int) -> MetricUpdate:
    return _at(update(component, (group,), minute=minute, revision=revision, n=n, shard=shard), now)


def _at(message: MetricUpdate, now: int, **fields: Any) -> MetricUpdate:
    values = {name: getattr(message, name) for name in message.__struct_fields__}
    return MetricUpdate(**{**values, "published_at": now, **fields})
