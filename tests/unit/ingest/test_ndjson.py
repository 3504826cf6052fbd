"""An event a line: verdicts, files larger than a batch, uploads that break."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from services.ingest.domain.batch_body import MAX_BATCH_EVENTS
from services.ingest.domain.normalise import MAX_EVENT_BYTES
from services.ingest.domain.upload import MAX_INVALID, MAX_SHOWN
from services.ingest.event_log import Cause, NotStoredError, Record
from services.ingest.ndjson import UploadLimits
from shared.http import MAX_BODY
from tests.unit.ingest.encodings import ENCODINGS
from tests.unit.ingest.fakes import MemoryLog
from tests.unit.ingest.service import Service


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    async with service.client:
        yield service


class Failing(MemoryLog):
    """Stores so many events, then nothing until `room` is set again."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    async def append(self, records: Sequence[Record]) -> None:
        if len(records) > self.room:
            raise NotStoredError(Cause.DEADLINE)
        self.room -= len(records)
        await super().append(records)


def line(n: int | str, **more: Any) -> bytes:
    return json.dumps({"event_type": "a", "event_id": f"e-{n}", **more}).encode() + b"\n"


def ids(service: Service) -> set[str]:
    return {event.event_id for event in service.stored()}


async def test_each_line_gets_its_verdict_in_order(service: Service) -> None:
    body = line(1) + b'\n{"event_type":""}\n{"event_type":"a"\n' + line(5).rstrip()

    answer = await service.lines(body)

    assert answer.status_code == 202
    found = answer.json()
    assert (found["accepted"], found["invalid"], found["next_line"]) == (2, 2, 6)
    assert [(r["line"], r["event_id"], r["status"], r.get("reason")) for r in found["results"]] == [
        (1, "e-1", "accepted", None),
        (3, None, "invalid", "event_type_empty"),
        (4, None, "invalid", "malformed_json"),
        (5, "e-5", "accepted", None),
    ]
    assert ids(service) == {"e-1", "e-5"}


async def test_a_line_that_is_no_json_is_a_dead_letter_of_its_own(service: Service) -> None:
    await service.lines(line(1) + b'{"event_type":"\xff"}\r\n')

    (letter,) = service.dead()
    assert (letter.reason, letter.payload) == ("malformed_json", b'{"event_type":"\xff"}')


@pytest.mark.parametrize(
    "media_type",
    [
        "application/x-ndjson",
        "application/ndjson; charset=utf-8",
        "application/jsonl",
        "application/x-jsonl",
        "Application/JSONLines",
        "application/x-jsonlines",
    ],
)
async def test_every_name_of_the_format_is_known(service: Service, media_type: str) -> None:
    assert (await service.lines(line(1), {"Content-Type": media_type})).status_code == 202


async def test_lines_are_for_batches_only(service: Service) -> None:
    answer = await service.one(line(1), **{"Content-Type": "application/x-ndjson"})

    assert (answer.status_code, answer.json()["reason"]) == (415, "unsupported_media_type")
    assert answer.headers["accept-post"] == "application/json"


@pytest.mark.parametrize("body", [b"", b"\n\n", b" \r\n", b"\xef\xbb\xbf"])
async def test_an_upload_without_lines_is_refused(service: Service, body: bytes) -> None:
    answer = await service.lines(body)

    assert (answer.status_code, answer.json()["reason"]) == (422, "batch_empty")


async def test_an_upload_without_any_valid_event_is_refused_with_its_verdicts(service: Service) -> None:
    answer = await service.lines(b"1\n2\n")

    problem = answer.json()
    assert (answer.status_code, problem["reason"]) == (422, "no_event_accepted")
    assert [(r["line"], r["reason"]) for r in problem["results"]] == [
        (1, "schema_violation"),
        (2, "schema_violation"),
    ]
    assert len(service.dead()) == 2


async def test_a_line_above_the_size_of_an_event_is_refused_alone(service: Service) -> None:
    long = line(2, event_data={"x": "y" * 3_000_000})

    answer = await service.lines(line(1) + long + line(3))

    assert [r["status"] for r in answer.json()["results"]] == ["accepted", "invalid", "accepted"]
    assert f"this has {len(long) - 1}" in answer.json()["results"][1]["detail"]
    (letter,) = service.dead()
    assert (letter.reason, letter.payload) == ("event_too_large", long[:MAX_EVENT_BYTES])
    assert "first" in letter.detail


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_file_larger_than_a_batch_is_taken_in_whatever_its_encoding(service: Service, encoding: str) -> None:
    coding, encode = ENCODINGS[encoding]
    count = 2 * MAX_BATCH_EVENTS
    body = b"".join(b"nonsense\n" if n % 5_000 == 7 else line(n) for n in range(count))

    answer = await service.lines(encode(body), {"Content-Encoding": coding.value})

    found = answer.json()
    assert (answer.status_code, found["accepted"], found["invalid"]) == (202, count - 4, 4)
    assert found["next_line"] == count + 1
    assert [r["line"] for r in found["results"]] == [8, 5_008, 10_008, 15_008]
    assert len(ids(service)) == count - 4


async def test_a_file_larger_than_other_bodies_may_be_takes_little_memory() -> None:
    class Sink(MemoryLog):
        count = 0

        async def append(self, records: Sequence[Record]) -> None:
            self.count += len(records)

    sink = Sink()
    service = Service(sink)
    many = b"".join(line(n, event_data={"x": "y" * 1_000}) for n in range(1_000))

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(20):
            for start in range(0, len(many), 65_536):
                yield many[start : start + 65_536]

    async with service.client:
        tracemalloc.start()
        answer = await service.lines(parts())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert len(many) * 20 > 2 * MAX_BODY
    assert (answer.status_code, answer.json()["accepted"], sink.count) == (202, 20_000, 20_000)
    assert peak < MAX_BODY


async def test_the_limit_of_files_holds_after_decoding() -> None:
    service = Service(uploads=UploadLimits(file=1_000_000))
    many = b"".join(line(n) for n in range(100_000))

    async with service.client:
        answer = await service.lines(ENCODINGS["gzip"][1](many), {"Content-Encoding": "gzip"})

    found = answer.json()
    assert (answer.status_code, found["reason"]) == (413, "body_too_large")
    assert 0 < found["accepted"] == len(service.stored()) < 30_000
    assert found["next_line"] == found["accepted"] + 1


async def test_an_upload_of_too_many_events_goes_on_in_another() -> None:
    service = Service(uploads=UploadLimits(lines=5_000))
    file = [line(n) for n in range(7_000)]

    async with service.client:
        answer = await service.lines(b"".join(file))

        found = answer.json()
        assert (answer.status_code, found["reason"]) == (413, "upload_too_long")
        stored = found["next_line"] - 1
        assert found["accepted"] == stored == len(service.stored()) >= 5_000
        assert (await service.lines(b"".join(file[stored:]), first_line=stored + 1)).status_code == 202
    assert len(ids(service)) == 7_000


async def test_an_upload_that_breaks_goes_on_from_the_line_it_names() -> None:
    log = Failing(room=5_000)
    service = Service(log)
    file = [line(n) for n in range(12_000)]
    async with service.client:
        answer = await service.lines(b"".join(file))

        found = answer.json()
        assert (answer.status_code, found["reason"]) == (503, "not_confirmed")
        assert int(answer.headers["retry-after"]) >= 1
        stored = found["next_line"] - 1
        assert found["accepted"] == stored == len(service.stored()) > 0

        log.room = 100_000
        answer = await service.lines(b"".join(file[stored:]), first_line=stored + 1)

    assert (answer.status_code, answer.json()["next_line"]) == (202, 12_001)
    assert [event.event_id for event in service.stored()].count("e-11999") == 1
    assert len(service.stored()) == 12_000


async def test_an_upload_cut_off_by_its_encoding_says_how_far_it_came(service: Service) -> None:
    many = b"".join(line(n) for n in range(30_000))

    answer = await service.lines(ENCODINGS["gzip"][1](many)[:-1000], {"Content-Encoding": "gzip"})

    found = answer.json()
    assert (answer.status_code, found["reason"]) == (400, "undecodable_body")
    assert found["accepted"] == found["next_line"] - 1 == len(service.stored()) > 0


async def test_with_an_idempotency_key_lines_keep_their_ids_through_a_resend(service: Service) -> None:
    file = [b'{"event_type":"a"}\n'] * 10
    key = {"Idempotency-Key": "file-7"}

    await service.lines(b"".join(file), key)
    first = ids(service)
    await service.lines(b"".join(file[4:]), key, first_line=5)

    assert len(first) == 10
    assert ids(service) == first
    assert len(service.stored()) == 16


async def test_a_file_of_something_else_is_given_up(service: Service) -> None:
    answer = await service.lines(b"a;b;c\n" * (2 * MAX_INVALID))

    found = answer.json()
    assert (answer.status_code, found["reason"]) == (422, "too_many_invalid_lines")
    assert len(found["results"]) == MAX_SHOWN
    assert MAX_INVALID < found["invalid"] == len(service.dead()) < 2 * MAX_INVALID


@pytest.mark.parametrize("first_line", ["0", "-1", "1.5", "x", "", "9" * 16, "\u0661"])
async def test_a_first_line_that_is_no_line_number_is_refused(service: Service, first_line: Any) -> None:
    answer = await service.lines(line(1), first_line=first_line)

    assert (answer.status_code, answer.json()["reason"]) == (422, "schema_violation")
    assert service.stored() == []


async def test_a_long_upload_that_drips_does_not_keep_its_place() -> None:
    service = Service(uploads=UploadLimits(uploads=1, piece_seconds=0.5))

    async def dripping() -> AsyncIterator[bytes]:
        yield b"".join(line(n) for n in range(4_100))
        for n in range(4_100, 10_000):
            yield line(n)
            await asyncio.sleep(0.01)

    async with service.client:
        answer = await service.lines(dripping())

        found = answer.json()
        assert (answer.status_code, found["reason"]) == (408, "upload_too_slow")
        assert found["accepted"] == found["next_line"] - 1 == len(service.stored()) == 4_000
        assert (await service.lines(b"".join(line(n) for n in range(4_000, 9_000)))).status_code == 202


async def test_only_so_many_long_uploads_at_a_time() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    long = b"".join(line(n) for n in range(10_000))

    async def slow() -> AsyncIterator[bytes]:
        yield long
        begun.set()
        await go_on.wait()
        yield line("last")

    async def chunked(body: bytes) -> AsyncIterator[bytes]:
        yield body

    service = Service(uploads=UploadLimits(uploads=1))
    async with service.client:
        upload = asyncio.create_task(service.lines(slow()))
        await begun.wait()

        refused = await service.lines(long * 4)
        assert (refused.status_code, refused.json()["reason"], refused.json()["next_line"]) == (503, "overloaded", 1)
        refused = await service.lines(chunked(long))
        assert (refused.status_code, refused.json()["reason"]) == (503, "overloaded")
        assert 1 < refused.json()["next_line"] < 10_000
        assert (await service.lines(chunked(line(4)))).status_code == 202, "a short one takes no place"

        go_on.set()
        assert (await upload).status_code == 202
        assert (await service.lines(chunked(long))).status_code == 202
