"""The floor, a program of its own: `python -m bench.ingest.floor PLAN`, a `FloorPlan` as JSON.

The same events, ready as records, by the same Kafka client with the same acknowledgements, in the largest batches
that it sends, one under way on each partition: no HTTP, no JSON, no verdicts. Prints a `Told` as JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime

import msgspec
import uvloop
from aiokafka import AIOKafkaProducer

from bench.ingest.load import Told, nearest_rank
from bench.ingest.workloads import WORKLOADS, requests
from shared.kafka import new_producer
from shared.topics import EVENTS

_RECORDS = 5_000
"""More than the largest batch holds."""


class FloorPlan(msgspec.Struct, frozen=True):
    """What is acknowledged in the first `warm_up` seconds is in no figure but `accepted`."""

    kafka: str
    seconds: float
    warm_up: float
    seed: int


class Floor:
    """One loop per partition: fill a batch, send it, wait for its acknowledgement."""

    def __init__(self, plan: FloorPlan) -> None:
        self._plan = plan
        drawn = requests(WORKLOADS["single"], _RECORDS, plan.seed, datetime.now(UTC))
        self._records = [(f"user-{i}".encode(), event) for i, (event,) in enumerate(drawn)]
        self._accepted = 0
        self._counted = 0
        self._size = 0
        self._latencies: list[float] = []

    async def run(self) -> Told:
        producer = new_producer(self._plan.kafka)
        await producer.start()
        try:
            partitions = await producer.partitions_for(EVENTS.name)
            start = time.perf_counter() + self._plan.warm_up
            began = time.process_time()
            await asyncio.gather(*(self._drive(producer, partition, start) for partition in partitions))
            used = time.process_time() - began
        finally:
            await producer.stop()
        ordered = sorted(self._latencies)
        return Told(
            accepted=self._accepted,
            answers=self._counted,
            events=self._counted,
            size=self._size,
            refused={},
            seconds=self._plan.seconds,
            cpu_seconds=used,
            p50=1e3 * nearest_rank(ordered, 0.5),
            p99=1e3 * nearest_rank(ordered, 0.99),
            max=1e3 * ordered[-1],
        )

    async def _drive(self, producer: AIOKafkaProducer, partition: int, start: float) -> None:
        clock, end = time.perf_counter, start + self._plan.seconds
        while (began := clock()) < end:
            batch = producer.create_batch()
            size = 0
            for key, value in self._records:
                if batch.append(timestamp=None, key=key, value=value) is None:
                    break
                size += len(value)
            count = batch.record_count()
            await (await producer.send_batch(batch, EVENTS.name, partition=partition))
            self._accepted += count
            if start <= (at := clock()) < end:
                self._counted += count
                self._size += size
                self._latencies.append(at - began)


def main(arguments: list[str]) -> int:
    plan = msgspec.json.decode(arguments[0], type=FloorPlan)
    told = uvloop.run(Floor(plan).run())
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
