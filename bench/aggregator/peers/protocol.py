"""What a program under measurement tells on its standard output: one JSON object a line.

Started ─► Progress … ─► Done ─► (waits to be ended, so that what it used can still be read)
   ▲                       │
   └──────── again ────────┘
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import msgspec


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The measured time begins."""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """So many events are done by now."""

    events: int


class Summary(msgspec.Struct, frozen=True):
    """Of the numbers of one property, as the system computed them."""

    n: int
    sum: float
    min: float
    max: float


class GroupTotal(msgspec.Struct, frozen=True):
    """One event type and variant over all windows. Durations are in ms."""

    event_type: str
    variant: str
    durations: Summary


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The measured time is over: `events` took `seconds`. `totals` are what the system's windows add up to.

    `again`: the same process now reads the topic once more, from its beginning and into windows of its own.
    """

    events: int
    seconds: float
    totals: tuple[GroupTotal, ...] = ()
    again: bool = False


Line = Started | Progress | Done

_DECODER: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def read_line(raw: bytes) -> Line:
    """Raises msgspec.MsgspecError."""
    return _DECODER.decode(raw)


def tell(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


@dataclass(frozen=True, slots=True)
class Task:
    """Where to read, and how many events."""

    kafka: str
    topic: str
    partitions: int
    events: int

    def arguments(self) -> tuple[str, ...]:
        return (self.kafka, self.topic, str(self.partitions), str(self.events))


def task_from(arguments: list[str]) -> Task:
    """The inverse of `Task.arguments`. Ends the program with 2 when they are wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kafka")
    parser.add_argument("topic")
    parser.add_argument("partitions", type=int)
    parser.add_argument("events", type=int)
    return Task(**vars(parser.parse_args(arguments)))
