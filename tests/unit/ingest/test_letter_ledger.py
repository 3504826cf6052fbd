"""What became of dead letters, told by marks."""

from __future__ import annotations

import pytest

from services.ingest.domain.letters.ledger import ALIVE, Ledger, State
from shared.messages import DeadLetterMark, LetterMark


def _mark(mark: LetterMark, letter: str = "a", attempt: str = "1", at: int = 1, digest: str = "d") -> DeadLetterMark:
    return DeadLetterMark(
        letter=letter,
        organisation="o",
        mark=mark,
        marked_at=at,
        attempt=attempt,
        event_id=f"e-{letter}",
        event_key="k",
        event_digest=digest,
    )


def _after(*marks: DeadLetterMark) -> Ledger:
    ledger = Ledger()
    for mark in marks:
        ledger.apply(mark)
    return ledger


@pytest.mark.parametrize(
    ("marks", "state"),
    [
        ([], State.OPEN),
        (["claimed"], State.CLAIMED),
        (["claimed", "released"], State.OPEN),
        (["claimed", "replayed"], State.REPLAYED),
        (["replayed", "claimed"], State.REPLAYED),
        (["replayed", "discarded"], State.REPLAYED),
        (["claimed", "discarded"], State.CLAIMED),
        (["discarded"], State.DISCARDED),
        (["discarded", "claimed"], State.CLAIMED),
        (["discarded", "claimed", "released"], State.DISCARDED),
        (["discarded", "claimed", "replayed"], State.REPLAYED),
    ],
)
def test_the_marks_of_a_letter_tell_its_state(marks: list[LetterMark], state: State) -> None:
    ledger = _after(*map(_mark, marks))

    assert ledger.state("a") is state
    assert ledger.state("b") is State.OPEN


def test_the_first_claim_holds_until_it_is_released_itself() -> None:
    ledger = _after(_mark("claimed", attempt="1"), _mark("claimed", attempt="2"), _mark("released", attempt="2"))

    claim = ledger.claim("a")
    assert claim is not None
    assert (claim.attempt, claim.event_id, claim.event_key, claim.event_digest, claim.since) == (
        "1",
        "e-a",
        "k",
        "d",
        1,
    )

    ledger.apply(_mark("released", attempt="1"))
    ledger.apply(_mark("claimed", attempt="3"))
    assert (claim := ledger.claim("a")) is not None
    assert claim.attempt == "3"


@pytest.mark.parametrize(
    ("digest", "at", "holds"), [("d", 1 + ALIVE, "2"), ("d", ALIVE, "1"), ("other", 1 + ALIVE, "1")]
)
def test_a_claim_to_the_same_event_takes_over_one_that_is_left_behind(digest: str, at: int, holds: str) -> None:
    ledger = _after(_mark("claimed"), _mark("claimed", attempt="2", at=at, digest=digest))

    assert (claim := ledger.claim("a")) is not None
    assert (claim.attempt, claim.since, claim.renewed) == (holds, 1, at if holds == "2" else 1)

    ledger.apply(_mark("released", attempt=holds))
    assert ledger.state("a") is State.OPEN


def test_a_settled_letter_is_held_by_nobody_and_names_its_event() -> None:
    ledger = _after(_mark("claimed"), _mark("replayed", at=7))

    assert ledger.claim("a") is None
    assert (mark := ledger.settled_by("a")) is not None
    assert (mark.event_id, mark.marked_at) == ("e-a", 7)


def test_of_long_settled_letters_the_state_stays_known() -> None:
    ledger = Ledger(recent=10)
    for n in range(1_000):
        ledger.apply(_mark("discarded" if n % 3 else "replayed", letter=str(n)))
    for n in range(1, 1_000, 3):
        ledger.apply(_mark("replayed", letter=str(n)))

    assert [ledger.state(str(n)) for n in range(1_000)] == [
        State.DISCARDED if n % 3 == 2 else State.REPLAYED for n in range(1_000)
    ]
    assert ledger.state("1000") is State.OPEN
    assert ledger.settled_by("0") is None
    assert ledger.settled_by("997") is not None
