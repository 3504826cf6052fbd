"""The last check of an organisation that has rules of privacy, and what their dead letters may keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from services.ingest.domain.normalise import EventBody, Reason, Rejected
from services.ingest.domain.quality.aside import WARNING, Verdict, WarnedEvent
from services.ingest.domain.quality.privacy import MAX_VALUES, Redactor, TooManyValuesError
from shared.messages import Event, Kept

_SHORTEST = 3
"""Characters of a text that is looked for in explanations: shorter ones stand everywhere."""
_CUT = "…"
"""What ends a name in an explanation that is too long for it, and stands for what is left out."""
_UNSAID = "the explanation is long and may quote what rules of privacy withhold"
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class LetterContent:
    """What a dead letter keeps of an event."""

    payload: bytes
    detail: str
    kept: Kept = "as_sent"


class Guard:
    """A `Check`. No event must pass while `refusal` gives a reason."""

    def __init__(self, redactor: Redactor | None) -> None:
        """None stands for rules that cannot be read: nothing passes."""
        self._redactor = redactor

    def __call__(self, event: Event, received_at: int) -> Verdict:
        if self._redactor is None:
            return event
        try:
            if isinstance(event, WarnedEvent):
                return _with_discreet_warning(*self._redactor.event_and_removed(event, received_at))
            return self._redactor.event(event, received_at)
        except TooManyValuesError:
            detail = f"more than {MAX_VALUES:,} of its values would have to be hashed or cut"
            return Rejected(Reason.TOO_LARGE, detail, event.event_id)

    def refusal(self, received_at: int) -> str | None:
        """Why events of that time (microseconds UTC) cannot be judged at the moment."""
        if self._redactor is None:
            return "a rule about what is kept of events cannot be read here"
        if not self._redactor.is_ready(received_at):
            return "the key that hashes values is not there yet"
        return None

    def letter(self, body: EventBody | Rejected, raw: bytes, detail: str, received_at: int) -> LetterContent:
        """What may be kept of what was received as `raw` and says `body`."""
        if self._redactor is None:
            return _withheld(raw)
        if isinstance(body, Rejected):
            return LetterContent(raw, detail) if self._redactor.keeps_unreadable else _withheld(raw)
        try:
            found = self._redactor.body(body, received_at)
        except TooManyValuesError:
            return _withheld(raw, f"hold more than {MAX_VALUES:,} values that would have to be hashed or cut")
        if found is None:
            return LetterContent(raw, detail)
        redacted, removed = found
        fields = {name: value for name, value in msgspec.structs.asdict(redacted).items() if value is not None}
        return LetterContent(_ENCODER.encode(fields), _without(detail, removed), "redacted")


def _withheld(raw: bytes, why: str = "could not be read") -> LetterContent:
    detail = f"{len(raw)} bytes were received and {why}; rules of privacy withhold them"
    return LetterContent(b"", detail, "withheld")


def _with_discreet_warning(event: Event, removed: Sequence[str]) -> Event:
    """What the schema says of an event is stored with it."""
    warning = event.context.get(WARNING)
    if not removed or not isinstance(warning, str):
        return event
    return msgspec.structs.replace(event, context={**event.context, WARNING: _without(warning, removed)})


def _without(detail: str, removed: Sequence[str]) -> str:
    """Explanations may quote what they are about: as it is, or as JSON writes it."""
    texts = sorted({text for text in removed if len(text) >= _SHORTEST}, key=len, reverse=True)
    if texts and _CUT in detail:  # it may end with the beginning of any of them
        return _UNSAID
    for text in texts:
        detail = detail.replace(text, _CUT)
        if not text.isalnum():
            detail = detail.replace(_ENCODER.encode(text).decode()[1:-1], _CUT)
    return detail
