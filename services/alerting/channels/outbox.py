"""The sending end of the outbox in Postgres: who may send what, and when.

A channel's lease lets one process at a time send its messages; the head of each alert's messages goes first:

    due ─► claim (lease, attempts + 1) ─► send ─► settle (state or next attempt; lease ends)
               └── killed in between: the lease runs out and the same row is sent again, with the same token

All times are the database's: processes whose clocks differ agree on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from services.alerting.channels.attempt import Attempt
from services.alerting.channels.spec import Channel, parse_channel
from services.alerting.domain.notification import Notification
from shared.postgres import Connection, Pool

_KEEP = timedelta(days=90)
"""How long what is finished can be read."""


@dataclass(frozen=True, slots=True)
class ChannelName:
    organisation: str
    key: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Channels that have something to send, by the seconds until they may; and how many messages wait."""

    channels: dict[ChannelName, float]
    messages: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A message that nobody else sends while the lease lasts."""

    id: int
    token: str
    name: ChannelName
    channel: Channel
    notification: Notification
    age: float
    """Seconds since it was enqueued."""
    failures: int
    """Attempts in a row that failed: of the message, and of the channel."""
    channel_failures: int


class Outbox:
    """`owner` must be unique to the process, `lease` is in seconds. All methods raise what `RETRYABLE` lists."""

    def __init__(self, pool: Pool, *, owner: str, lease: float) -> None:
        self._pool = pool
        self._owner = owner
        self._lease = timedelta(seconds=lease)

    async def waiting(self) -> Waiting:
        rows = await self._pool.fetch(_WAITING)
        return Waiting(
            {ChannelName(row["organisation"], row["key"]): float(row["seconds"]) for row in rows},
            sum(row["messages"] for row in rows),
        )

    async def claim(self, name: ChannelName) -> Claim | None:
        """The next message that is due, or None if there is none or somebody else is sending."""
        async with self._pool.acquire() as connection, connection.transaction():
            channel = await connection.fetchrow(_LOCK_CHANNEL, name.organisation, name.key)
            if channel is None:
                return None
            head = await connection.fetchrow(_HEAD, name.organisation, name.key)
            if head is None:
                return None
            row = await connection.fetchrow(_TAKE, await _newest(connection, name, head))
            await connection.execute(_LEASE, name.organisation, name.key, self._owner, self._lease)
        return Claim(
            id=row["id"],
            token=row["token"].hex,
            name=name,
            channel=parse_channel(channel["spec"]),
            notification=_notification(row),
            age=float(row["age"]),
            failures=row["attempts"] - 1,
            channel_failures=channel["failures"],
        )

    async def finish(
        self, claim: Claim, attempt: Attempt, state: Literal["delivered", "failed", "expired"], pause: float
    ) -> None:
        """Nothing more is to be sent of this message; the channel rests for `pause` seconds."""
        failures = claim.channel_failures + 1 if state == "expired" else 0
        async with self._pool.acquire() as connection, connection.transaction():
            await self._release(connection, claim.name, failures, pause)
            await connection.execute(
                "UPDATE alerting.notifications SET state = $2, detail = $3, finished_at = clock_timestamp() "
                "WHERE id = $1 AND state IN ('pending', 'failed')",
                claim.id,
                state,
                attempt.detail,
            )

    async def postpone(self, claim: Claim, attempt: Attempt, delay: float, pause: float) -> None:
        """The message is due again in `delay` seconds; the channel rests for `pause`."""
        async with self._pool.acquire() as connection, connection.transaction():
            await self._release(connection, claim.name, claim.channel_failures + 1, pause)
            await connection.execute(
                "UPDATE alerting.notifications SET detail = $2, next_attempt_at = clock_timestamp() + $3 "
                "WHERE id = $1 AND state = 'pending'",
                claim.id,
                attempt.detail,
                timedelta(seconds=delay),
            )

    async def forget_finished(self) -> None:
        await self._pool.execute("DELETE FROM alerting.notifications WHERE finished_at < now() - $1::interval", _KEEP)

    async def _release(self, connection: Connection, name: ChannelName, failures: int, pause: float) -> None:
        """Leaves the lease alone that another process has taken since."""
        await connection.execute(
            "UPDATE alerting.channels SET leased_by = NULL, leased_until = '-infinity', failures = $4, "
            "paused_until = clock_timestamp() + $5 WHERE organisation = $1 AND key = $2 AND leased_by = $3",
            name.organisation,
            name.key,
            self._owner,
            failures,
            timedelta(seconds=pause),
        )


async def _newest(connection: Connection, name: ChannelName, head: Any) -> int:
    """A trigger that never arrived gives way to the newest of its incident that follows without another action."""
    head_id: int = head["id"]
    if head["action"] != "trigger":
        return head_id
    newest = await connection.fetchval(_NEWEST_TRIGGER, name.organisation, name.key, head["alert_key"], head_id)
    if newest is None:
        return head_id
    await connection.execute(
        "UPDATE alerting.notifications SET state = 'superseded', finished_at = clock_timestamp() "
        "WHERE organisation = $1 AND channel = $2 AND alert_key = $3 AND state = 'pending' AND id >= $4 AND id < $5",
        name.organisation,
        name.key,
        head["alert_key"],
        head_id,
        newest,
    )
    return int(newest)


def _notification(row: Any) -> Notification:
    return Notification(
        organisation=row["organisation"],
        notify=(row["channel"],),
        alert_key=row["alert_key"],
        dedup_key=row["dedup_key"],
        action=row["action"],
        severity=row["severity"],
        title=row["title"],
        message=row["message"],
        at=row["decided_at"],
        data=row["data"],
        runbook_url=row["runbook_url"],
        dashboard_url=row["dashboard_url"],
        alert_id=row["alert_id"],
    )


# Both go once over what is pending: a question for each row whether an earlier one waits would take the square of it.
_WAITING = """
WITH pending AS (
    SELECT organisation, channel, next_attempt_at,
           row_number() OVER (PARTITION BY organisation, channel, alert_key ORDER BY id) AS place
    FROM alerting.notifications WHERE state = 'pending'
), queues AS (
    SELECT organisation, channel, count(*) AS messages, min(next_attempt_at) FILTER (WHERE place = 1) AS due
    FROM pending GROUP BY organisation, channel
)
SELECT c.organisation, c.key, q.messages,
       greatest(0, extract(epoch FROM greatest(q.due, c.paused_until, c.leased_until) - clock_timestamp())) AS seconds
FROM queues q JOIN alerting.channels c ON c.organisation = q.organisation AND c.key = q.channel
"""

_LOCK_CHANNEL = """
SELECT spec, failures FROM alerting.channels
WHERE organisation = $1 AND key = $2 AND leased_until <= clock_timestamp() AND paused_until <= clock_timestamp()
FOR NO KEY UPDATE
"""

_HEAD = """
SELECT id, action, alert_key
FROM (SELECT DISTINCT ON (alert_key) id, action, alert_key, next_attempt_at FROM alerting.notifications
      WHERE organisation = $1 AND channel = $2 AND state = 'pending' ORDER BY alert_key, id) first_of_its_alert
WHERE next_attempt_at <= clock_timestamp() ORDER BY id LIMIT 1
"""

_NEWEST_TRIGGER = """
WITH following AS (
    SELECT id, action = 'trigger' AND dedup_key = first_value(dedup_key) OVER (ORDER BY id) AS alike
    FROM alerting.notifications
    WHERE organisation = $1 AND channel = $2 AND alert_key = $3 AND state = 'pending' AND id >= $4
)
SELECT max(id) FROM following
WHERE id > $4 AND id < coalesce((SELECT min(id) FROM following WHERE NOT alike), 9223372036854775807)
"""

_TAKE = """
UPDATE alerting.notifications SET attempts = attempts + 1 WHERE id = $1
RETURNING *, extract(epoch FROM clock_timestamp() - created_at) AS age
"""

_LEASE = """
UPDATE alerting.channels SET leased_by = $3, leased_until = clock_timestamp() + $4
WHERE organisation = $1 AND key = $2
"""
