"""Support tickets: each event is a ticket as it stands, and any of them may be sent again and again.

Metrics of type `latest` count a ticket once, by its latest state; so a daily export of a help desk does no harm.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from services.ingest.domain.kinds.family import Demand, Family, Name

IMPORT_CATEGORIES = ("import_issue", "data_migration", "file_upload")
"""Those of the reference application's imports; any other name will do."""

_Time = Annotated[datetime, Meta(description="RFC 3339; without a zone it is UTC")]


class Ticket(msgspec.Struct, rename={"ticket_id": "ticketId"}, kw_only=True):
    """A support ticket as it stands."""

    ticket_id: Annotated[str, Meta(min_length=1, max_length=256)] | int
    category: Annotated[str, Meta(min_length=1, max_length=200, examples=[*IMPORT_CATEGORIES])]
    priority: Annotated[str, Meta(min_length=1, max_length=200, examples=["low", "normal", "high"])] | None = None
    status: Name | None = None
    created_at: Annotated[_Time, Meta(description="RFC 3339; absent: when the event happened")] | None = None
    updated_at: (
        Annotated[_Time, Meta(description="Which of two states is the later one; absent: when the event happened")]
        | None
    ) = None
    resolved_at: Annotated[_Time, Meta(description="RFC 3339; absent or null: it is open")] | None = None


class ResolvedTicket(Ticket, kw_only=True):
    """A support ticket that is resolved."""

    created_at: _Time
    resolved_at: _Time


SUPPORT_TICKETS = Family(
    "support-tickets",
    "Support tickets",
    {
        "support_ticket": Demand(Ticket),
        "support_ticket_created": Demand(Ticket, marks=("ticketId",)),
        "support_ticket_resolved": Demand(ResolvedTicket, marks=("ticketId",)),
    },
)
