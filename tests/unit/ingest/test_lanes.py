"""Parcels of many requests in batches of bounded size."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.lanes import Encoded, Lane, Parcel, Ticket, size_of
from tests.unit.ingest.fakes import Batch


def _ticket() -> Ticket:
    return Ticket(asyncio.get_running_loop().create_future(), 0.0)


def _parcel(ticket: Ticket, *values: bytes) -> Parcel:
    records: list[Encoded] = [(b"key", value) for value in values]
    return Parcel(records, size_of(records), ticket)


async def test_a_request_is_answered_when_the_last_part_of_it_is_stored() -> None:
    lane, ticket = Lane(0), _ticket()
    lane.put(_parcel(ticket, b"x" * 6, b"x" * 6, b"x" * 6))
    for is_last in (False, False, True):
        lane.fill(Batch(room=8))
        for parcel in lane.take_in_flight():
            parcel.ticket.stored()
        assert ticket.future.done() == is_last
    assert not lane.filled.is_set()


async def test_what_has_no_room_waits_with_its_size() -> None:
    lane = Lane(0)
    lane.put(_parcel(_ticket(), b"a"))
    lane.put(_parcel(_ticket(), b"bb", b"c" * 9))
    lane.fill(Batch(room=4))
    assert [parcel.size for parcel in lane.in_flight] == [4, 5]
    assert [parcel.size for parcel in lane.queue] == [12]
    assert lane.filled.is_set()


@given(sizes=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), min_size=1, max_size=6))
def test_every_record_travels_once_and_in_order(sizes: list[list[int]]) -> None:
    async def travel() -> list[bytes]:
        lane = Lane(0)
        values = iter(range(1_000))
        for one in sizes:
            lane.put(_parcel(_ticket(), *(b"%03d" % next(values) + b"x" * size for size in one)))
        seen: list[bytes] = []
        while lane.queue:
            batch = Batch(room=12)
            lane.fill(batch)
            assert batch.records
            seen += [value[:3] for _, value in batch.records]
            assert [value for parcel in lane.in_flight for _, value in parcel.records] == [
                v for _, v in batch.records
            ]
            lane.take_in_flight()
        return seen

    assert asyncio.run(travel()) == [b"%03d" % n for n in range(sum(map(len, sizes)))]
