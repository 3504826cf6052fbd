"""The metrics and experiments in force: copies of the definition topics, compiled into a plan."""

from __future__ import annotations

import asyncio
import logging

from services.aggregator.domain.metrics import Definition, parse_definition
from services.aggregator.domain.plan import Plan, make_plan
from shared import topics
from shared.clock import SECOND, Clock
from shared.definition_error import DefinitionError
from shared.kafka import Replica
from shared.messages import Experiment, Metric

logger = logging.getLogger(__name__)

_SKEW = SECOND
"""How far the brokers' clocks may be behind ours."""


class Catalogue:
    """Hands out plans that hold every definition acknowledged before a given moment."""

    def __init__(self, kafka: str, clock: Clock) -> None:
        self._definitions: dict[tuple[str, str], Definition] = {}
        self._experiments: dict[tuple[str, str], Experiment] = {}
        self._metrics_topic = Replica(kafka, topics.METRICS, self._learn_metric, clock=clock)
        self._experiments_topic = Replica(kafka, topics.EXPERIMENTS, self._learn_experiment, clock=clock)
        self._plan: Plan | None = None
        self._current_as_of = 0
        self._doubts = 0

    async def start(self) -> None:
        await self._metrics_topic.start()
        await self._experiments_topic.start()

    async def stop(self) -> None:
        await asyncio.gather(self._metrics_topic.stop(), self._experiments_topic.stop())

    async def plan(self, newest: int) -> Plan:
        """The plan for events that brokers took up to `newest` (µs): definitions acknowledged before are in it.

        Asks the brokers only when `newest` is later than the last answer. Raises KafkaError.
        """
        if newest + _SKEW >= self._current_as_of:
            doubts = self._doubts
            asked = await asyncio.gather(self._metrics_topic.catch_up(), self._experiments_topic.catch_up())
            if doubts == self._doubts:
                self._current_as_of = min(asked)
        if self._plan is None:
            self._plan = make_plan(self._definitions.values(), self._experiments.values())
        return self._plan

    def ask_again(self) -> None:
        """A shard comes from another writer: whatever that one knew is in the next plan."""
        self._doubts += 1
        self._current_as_of = 0

    def _learn_metric(self, message: Metric) -> None:
        key = (message.organisation, message.key)
        known = self._definitions.get(key)
        if known is not None and message.version <= known.version:
            return
        try:
            self._definitions[key] = parse_definition(*key, message.version, message.spec)
        except DefinitionError as error:
            logger.error("metric definition ignored", extra={"metric": message.key, "error": str(error)})
            return
        self._plan = None

    def _learn_experiment(self, message: Experiment) -> None:
        key = (message.organisation, message.key)
        known = self._experiments.get(key)
        if known is not None and message.version <= known.version:
            return
        self._experiments[key] = message
        self._plan = None
