"""What reads a dead letter's payload without the request that was around it, by the way in which it came."""

from __future__ import annotations

from functools import partial

from services.ingest.domain.compat import cloudevents, posthog, segment
from services.ingest.domain.letters.correction import Reader
from services.ingest.domain.normalise import EventBody, Rejected, read_event
from services.ingest.domain.prediction_body import ORIGIN as PREDICTION
from services.ingest.domain.prediction_body import read_prediction
from services.ingest.domain.sent_at import by_our_clock
from shared.messages import DeadLetter


def reader_of(letter: DeadLetter) -> Reader:
    """Clocks that were wrong are put right as they would have been then: by when the letter came, and was sent."""
    match letter.origin:
        case "segment":
            return partial(segment.event_of, common=segment.Common(letter.received_at, letter.sent_at))
        case "posthog":
            return partial(posthog.event_of, common=posthog.Common(letter.received_at, letter.sent_at))
        case "cloudevents":
            return cloudevents.event_of
        case _ if letter.origin == PREDICTION:
            return read_prediction
    return read_event if letter.sent_at is None else partial(_read, letter=letter)


def _read(raw: bytes, letter: DeadLetter) -> EventBody | Rejected:
    return by_our_clock(read_event(raw), str(letter.sent_at), letter.received_at)
