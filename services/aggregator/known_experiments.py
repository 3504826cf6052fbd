"""The experiments as they are defined: a copy of their topic, for the API."""

from __future__ import annotations

from shared import topics
from shared.clock import Clock
from shared.kafka import Replica
from shared.messages import Experiment


class KnownExperiments:
    """What an experiment lists as segments, and when it ended, is in no row."""

    def __init__(self, kafka: str, clock: Clock) -> None:
        self._experiments: dict[tuple[str, str], Experiment] = {}
        self._topic = Replica(kafka, topics.EXPERIMENTS, self._learn, clock=clock)

    async def start(self) -> None:
        await self._topic.start()

    async def stop(self) -> None:
        await self._topic.stop()

    def waiting_for(self) -> str | None:
        """None while the copy is kept, else what /readyz should say."""
        return self._topic.waiting_for()

    def get(self, organisation: str, key: str) -> Experiment | None:
        """None of an experiment that we do not know, or not yet."""
        return self._experiments.get((organisation, key))

    def _learn(self, experiment: Experiment) -> None:
        name = (experiment.organisation, experiment.key)
        known = self._experiments.get(name)
        if known is None or experiment.version > known.version:
            self._experiments[name] = experiment
