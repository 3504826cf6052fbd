"""A Kafka record batch that many records enter at once, compressed where it pays.

aiokafka assembles the records (in C) and compresses them with lz4 at level 9, which takes eight times as long as
level 1 for a fifth less bytes, and longer than everything else about an event. So its batch stays uncompressed, and
the frame around the records is made anew.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import cramjam
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record._crecords.cutil import crc32c_cython

from services.ingest.lanes import Encoded

_NO_COMPRESSION = 0
_LZ4 = 3
_LEVEL = 1
_HEADER = 61
"""Bytes of a version 2 batch before its records."""
_LENGTH = struct.Struct(">i")
_LENGTH_AT = 8
_CHECKSUM = struct.Struct(">I")
_CHECKSUM_AT = 17
_COVERED_FROM = 21
"""The checksum is of all that follows: attributes, times, producer, records."""
_ATTRIBUTES = struct.Struct(">h")
_WORTH_COMPRESSING = 512
"""Bytes of records; less is one small event."""


class RecordBatch(BatchBuilder):  # type: ignore[misc]  # aiokafka has no types
    """At most `room` bytes of records before compression, but always one record; all made at `now` (ms)."""

    def __init__(self, room: int, now: int) -> None:
        super().__init__(room, _NO_COMPRESSION)
        self._now = now
        self._made: bytes | None = None

    def extend(self, records: Sequence[Encoded]) -> int:
        """Appends from the front until the batch is full; returns how many."""
        append, now = self._builder.append, self._now
        headers: list[tuple[str, bytes]] = []
        first = self.record_count()
        offset = first
        for key, value in records:
            if append(offset, now, key, value, headers) is None:
                break
            offset += 1
        self._relative_offset = offset
        count: int = offset - first
        return count

    def _build(self) -> bytes:
        """What aiokafka sends, made once: a batch that is sent again is the same bytes."""
        if self._made is None:
            self._buffer = self._made = compressed(super()._build())
        return self._made


def compressed(batch: bytes | bytearray) -> bytes:
    """The same records in a batch whose records are compressed; `batch` itself if that is too small to gain."""
    if len(batch) < _HEADER + _WORTH_COMPRESSING:
        return bytes(batch)
    # Brokers read only blocks that don't refer to each other.
    compressor = cramjam.lz4.Compressor(level=_LEVEL, content_checksum=False, block_linked=False)
    compressor.compress(bytes(memoryview(batch)[_HEADER:]))
    made = bytearray(batch[:_HEADER])
    made += compressor.finish()
    (attributes,) = _ATTRIBUTES.unpack_from(made, _COVERED_FROM)
    _ATTRIBUTES.pack_into(made, _COVERED_FROM, attributes | _LZ4)
    _LENGTH.pack_into(made, _LENGTH_AT, len(made) - _LENGTH_AT - _LENGTH.size)
    _CHECKSUM.pack_into(made, _CHECKSUM_AT, crc32c_cython(memoryview(made)[_COVERED_FROM:]))
    return bytes(made)
