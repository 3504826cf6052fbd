"""Dead letters over HTTP, on topics in memory: corrected, replayed once, discarded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.ingest.event_log import Cause
from shared.clock import DAY, MINUTE, SECOND
from shared.keys import describe_key, new_key
from shared.messages import Scope
from tests.unit.ingest.fakes import MemoryLog
from tests.unit.ingest.letter_client import get, keep, listed, post, refused
from tests.unit.ingest.service import NOW, Service


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    async with service.client:
        yield service


async def test_one_that_is_corrected_and_replayed_becomes_an_event_once(service: Service) -> None:
    letter = await refused(service, {"event_type": "", "user_id": "u-1", "event_data": {"n": 1}})

    first = await post(service, f"/{letter}/replay", {"patch": {"event_type": "import"}})
    second = await post(service, f"/{letter}/replay", {"patch": {"event_type": "other"}})

    (event,) = service.stored()
    assert (first.status_code, second.status_code) == (202, 409)
    assert first.json() == {"id": letter, "event_id": event.event_id, "status": "accepted"}
    assert (second.json()["reason"], second.json()["event_id"]) == ("already_replayed", event.event_id)
    assert (event.organisation, event.event_type, event.user_id, event.properties) == (
        "acme",
        "import",
        "u-1",
        {"n": 1},
    )
    shown = (await get(service, f"/{letter}")).json()
    assert (shown["state"], shown["event_id"]) == ("replayed", event.event_id)
    assert service.metric("dead_letters_settled_total", outcome="replayed") == 1
    assert service.metric("events_accepted_total") == 1


async def test_one_that_is_still_invalid_stays_as_it_is(service: Service) -> None:
    letter = await refused(service, {"event_type": ""})
    before = (await get(service, f"/{letter}")).json()

    for body, reason in (
        (None, "event_type_empty"),
        ({"patch": {"event_type": 5}}, "schema_violation"),
        ({"event": {"event_type": "a", "event_timestamp": "1999-01-01T00:00:00Z"}}, "timestamp_before_2000"),
    ):
        answer = await post(service, f"/{letter}/replay", body)
        assert (answer.status_code, answer.json()["reason"]) == (422, reason)

    assert (await get(service, f"/{letter}")).json() == before
    assert (len(service.dead()), service.stored(), service.marks.records()) == (1, [], [])
    assert service.metric("dead_letters_total") == 1


@pytest.mark.parametrize("body", [{"patch": "x"}, {"evnt": {}}, {"rename": {"a": 1}}, {"event": []}, []])
async def test_a_faulty_correction_is_refused(service: Service, body: Any) -> None:
    letter = await refused(service, {"event_type": ""})

    answer = await post(service, f"/{letter}/replay", body)

    assert (answer.status_code, answer.json()["reason"]) == (422, "schema_violation")


@pytest.mark.parametrize("path", ["/replay", "/discard", "/{}/replay", "/{}/discard"])
@pytest.mark.parametrize("scope", ["read", "ingest"])
async def test_settling_needs_an_admin_key(service: Service, path: str, scope: Scope) -> None:
    letter = await refused(service, {"event_type": ""})

    answer = await post(service, path.format(letter), {"filter": {}}, scope)

    assert (answer.status_code, answer.json()["reason"]) == (403, "scope_insufficient")


async def test_an_event_without_a_time_keeps_that_of_its_letter(service: Service) -> None:
    letter = await refused(service, {"event_type": ""})
    service.clock = NOW + DAY

    await post(service, f"/{letter}/replay", {"patch": {"event_type": "a"}})

    (event,) = service.stored()
    assert (event.time, event.received_at) == (NOW, NOW + DAY)


async def test_all_that_are_alike_are_replayed_in_one_go(service: Service) -> None:
    for n in range(1_200):
        await service.one({"event_type": "", "event_data": {"job": n}})
    await service.one({"event_type": "", "event_timestamp": "never"})
    await service.one(b'{"event_type": "a\\u0000"}')
    body = {
        "filter": {"reason": "event_type_empty"},
        "rename": {"event_data.job": "job_id"},
        "patch": {"event_type": "import"},
    }

    tried = (await post(service, "/replay", {**body, "dry_run": True})).json()
    assert (tried["valid"], tried["replayed"], service.stored()) == (1_200, 0, [])
    first = (await post(service, "/replay", body)).json()
    again = (await post(service, "/replay", body)).json()

    assert first == {
        "found": 1_201,
        "valid": 1_200,
        "replayed": 1_200,
        "invalid": {"timestamp_not_rfc3339": 1},
        "hindered": {},
        "searched": 1_202,
        "next_cursor": None,
    }
    assert (again["found"], again["replayed"]) == (1, 0)
    assert sorted(int(event.job_id or "") for event in service.stored()) == list(range(1_200))
    assert len({event.event_id for event in service.stored()}) == 1_200


async def test_an_operation_on_many_that_is_cut_short_goes_on_where_it_stopped(service: Service) -> None:
    for n in range(20):
        await service.one({"event_type": "", "user_id": n})
    slow = service.letters.first

    async def slower(*args: Any, **kwargs: Any) -> Any:
        service.seconds += 11
        return await slow(*args, **kwargs)

    service.letters.first = slower  # type: ignore[method-assign]
    body: dict[str, Any] = {"filter": {}, "patch": {"event_type": "a"}}
    answers = [(await post(service, "/replay", body)).json()]
    while answers[-1]["next_cursor"]:
        answers.append((await post(service, "/replay", {**body, "cursor": answers[-1]["next_cursor"]})).json())

    assert len(answers) > 1
    assert sum(answer["replayed"] for answer in answers) == len(service.stored()) == 20


async def test_a_letter_that_lies_there_twice_is_replayed_once(service: Service) -> None:
    for _ in range(2):
        await keep(service, b'{"event_type":"a"}', id="events.v1-0-1")

    answer = (await post(service, "/replay", {"filter": {}})).json()

    assert (answer["replayed"], answer["hindered"], len(service.stored())) == (1, {"already_replayed": 1}, 1)
    assert {item["state"] for item in (await listed(service))["items"]} == {"replayed"}


async def test_nobodys_letters_are_replayed_into_the_operators_organisation() -> None:
    service = Service()
    operator = new_key()
    service.ring.learn(describe_key(operator, organisation="default", scope="admin"))
    await keep(service, b'{"event_type":"a"}', organisation="")
    async with service.client:
        assert (await listed(service))["items"] == []
        service.keys["admin"] = operator
        (shown,) = (await get(service, scope="admin")).json()["items"]
        letter = shown["id"]
        assert (await post(service, f"/{letter}/replay")).status_code == 202

    assert [event.organisation for event in service.stored()] == ["default"]


class Interrupted(MemoryLog):
    """Stores what it is given and then says that it did not; or only says so."""

    stores = True
    silent = False

    async def append(self, records: Any) -> None:
        self.refuses = None
        if self.silent and self.stores:
            await super().append(records)
        self.refuses = Cause.DEADLINE if self.silent else None
        await super().append(records)


@pytest.fixture
async def interrupted() -> AsyncIterator[Service]:
    service = Service(Interrupted())
    async with service.client:
        yield service


def _log(service: Service) -> Interrupted:
    assert isinstance(service.events, Interrupted)
    return service.events


async def test_a_replay_that_was_cut_off_is_finished_by_sending_it_again(interrupted: Service) -> None:
    letter = await refused(interrupted, {"event_type": "", "user_id": "u"})
    correction = {"patch": {"event_type": "a"}}
    _log(interrupted).silent = True

    cut = await post(interrupted, f"/{letter}/replay", correction)
    assert (cut.status_code, cut.json()["reason"]) == (503, "not_confirmed")
    assert (await get(interrupted, f"/{letter}")).json()["state"] == "replaying"
    _log(interrupted).silent = False
    at_once = await post(interrupted, f"/{letter}/replay", correction)
    assert (at_once.status_code, at_once.json()["reason"]) == (503, "replay_in_progress")
    interrupted.clock += 29 * MINUTE
    assert (await post(interrupted, f"/{letter}/replay", correction)).status_code == 202

    # Twice in the log, with one id within the time in which duplicates are recognised.
    assert len({event.event_id for event in interrupted.stored()}) == 1
    assert interrupted.elsewhere.asked == []


@pytest.mark.parametrize("stores", [True, False])
async def test_another_replay_after_one_that_was_cut_off_looks_what_became_of_that(
    interrupted: Service, stores: bool
) -> None:
    letter = await refused(interrupted, {"event_type": "", "user_id": "u"})
    _log(interrupted).silent, _log(interrupted).stores = True, stores
    await post(interrupted, f"/{letter}/replay", {"patch": {"event_type": "a", "event_id": "e-1"}})
    _log(interrupted).silent = False
    interrupted.elsewhere.ids = {event.event_id for event in interrupted.stored()}
    other = {"patch": {"event_type": "a", "event_id": "e-2"}}

    interrupted.clock += 59 * SECOND
    early = await post(interrupted, f"/{letter}/replay", other)
    assert (early.status_code, early.json()["reason"]) == (503, "replay_in_progress")
    interrupted.clock += 2 * SECOND
    later = await post(interrupted, f"/{letter}/replay", other)

    assert later.status_code == (409 if stores else 202)
    assert [event.event_id for event in interrupted.stored()] == ["e-1" if stores else "e-2"]
    assert interrupted.elsewhere.asked == [(NOW, NOW + MINUTE)]
    assert (await get(interrupted, f"/{letter}")).json()["state"] == "replayed"


async def test_a_replay_that_was_cut_off_a_day_ago_is_not_sent_blindly_again(interrupted: Service) -> None:
    letter = await refused(interrupted, {"event_type": "", "user_id": "u"})
    _log(interrupted).silent = True
    await post(interrupted, f"/{letter}/replay", {"patch": {"event_type": "a"}})
    _log(interrupted).silent = False
    interrupted.elsewhere.ids = {event.event_id for event in interrupted.stored()}
    interrupted.clock += DAY

    answer = await post(interrupted, "/replay", {"filter": {}, "patch": {"event_type": "a"}})

    assert answer.json()["hindered"] == {"already_replayed": 1}
    assert len(interrupted.stored()) == 1


async def test_what_a_repetition_stored_before_it_was_cut_off_too_is_found(interrupted: Service) -> None:
    letter = await refused(interrupted, {"event_type": "", "user_id": "u"})
    correction = {"patch": {"event_type": "a"}}
    _log(interrupted).silent, _log(interrupted).stores = True, False
    await post(interrupted, f"/{letter}/replay", correction)
    interrupted.clock += 29 * MINUTE
    _log(interrupted).stores = True
    await post(interrupted, f"/{letter}/replay", correction)
    _log(interrupted).silent = False
    interrupted.elsewhere.ids = {event.event_id for event in interrupted.stored()}
    interrupted.clock += DAY

    later = await post(interrupted, f"/{letter}/replay", correction)

    assert (later.status_code, len(interrupted.stored())) == (409, 1)
    assert interrupted.elsewhere.asked == [(NOW, NOW + 30 * MINUTE)]


async def test_of_two_replays_at_once_the_first_one_holds(service: Service) -> None:
    letter = await refused(service, {"event_type": "", "user_id": "u"})

    answers = await asyncio.gather(
        *(post(service, f"/{letter}/replay", {"patch": {"event_type": f"a-{n}"}}) for n in range(5))
    )

    codes = [answer.status_code for answer in answers]
    assert codes.count(202) == 1
    assert set(codes) <= {202, 409, 503}
    assert [event.event_type for event in service.stored()] == [f"a-{codes.index(202)}"]


async def test_while_a_replay_is_repeated_no_other_one_takes_its_letter(interrupted: Service) -> None:
    letter = await refused(interrupted, {"event_type": "", "user_id": "u"})
    correction = {"patch": {"event_type": "a"}}
    _log(interrupted).silent, _log(interrupted).stores = True, False
    await post(interrupted, f"/{letter}/replay", correction)
    interrupted.clock += 2 * MINUTE
    await post(interrupted, f"/{letter}/replay", correction)
    _log(interrupted).silent = False

    other = await post(interrupted, f"/{letter}/replay", {"patch": {"event_type": "b"}})

    assert (other.status_code, other.json()["reason"]) == (503, "replay_in_progress")
    assert interrupted.stored() == []


async def test_without_a_claim_nothing_is_stored(service: Service) -> None:
    letter = await refused(service, {"event_type": ""})
    service.marks.refuses = Cause.FULL

    one = await post(service, f"/{letter}/replay", {"patch": {"event_type": "a"}})
    many = await post(service, "/replay", {"filter": {}, "patch": {"event_type": "a"}})

    assert (one.status_code, many.status_code, service.stored()) == (503, 503, [])
    assert many.json()["replayed"] == 0


async def test_discarded_ones_are_left_alone_unless_they_are_asked_for(service: Service) -> None:
    letters = [await refused(service, {"event_type": "", "user_id": n}) for n in range(3)]
    patch = {"patch": {"event_type": "a"}}
    await post(service, f"/{letters[0]}/replay", patch)

    assert (await post(service, f"/{letters[0]}/discard")).json()["state"] == "replayed"
    assert (await post(service, f"/{letters[1]}/discard")).json()["state"] == "discarded"
    many = (await post(service, "/discard", {"filter": {"reason": "event_type_empty"}})).json()
    assert (many["found"], many["discarded"]) == (1, 1)
    assert (await post(service, "/replay", {"filter": {}, **patch})).json()["found"] == 0
    assert (await post(service, f"/{letters[1]}/replay", patch)).status_code == 202
    back = (await post(service, "/replay", {"filter": {}, "state": "discarded", **patch})).json()
    assert back["replayed"] == 1
    assert service.metric("dead_letters_settled_total", outcome="discarded") == 2


async def test_discarding_all_must_be_said(service: Service) -> None:
    answer = await post(service, "/discard", {})

    assert (answer.status_code, answer.json()["reason"]) == (422, "schema_violation")
