-- migrate:up

-- Rises with every transaction that changes a shard's rows, also with those that move no offset: passed deadlines.
ALTER TABLE aggregator.shards ADD COLUMN revision bigint;
UPDATE aggregator.shards SET revision = next_offset;
ALTER TABLE aggregator.shards ALTER COLUMN revision SET NOT NULL;

-- A streak's state, one row a shard: the latest success and the latest failures after it. µs.
CREATE TABLE aggregator.streaks (
    series_id int NOT NULL,
    shard int NOT NULL,
    group_key text NOT NULL,
    latest_success bigint NOT NULL,         -- 0 if there was none
    failures bigint[] NOT NULL,             -- ascending, as many as the metric's length
    n bigint NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (series_id, shard, group_key)
) WITH (fillfactor = 70);

-- What is known of a unit's journey, shared by all shards. Its row is the lock under which it moves. Times in µs.
CREATE TABLE aggregator.journeys (
    series_id int NOT NULL,
    unit text NOT NULL,
    shard int NOT NULL,                     -- the shard that counted the earliest start: it applies the deadline
    started bigint,                         -- NULL while the unit has no start: nothing counts until then
    group_key text NOT NULL,                -- of the earliest start
    deadline bigint,
    completed bigint,
    navigated bigint,
    died bigint,
    steps int NOT NULL DEFAULT 0,           -- bit i: the definition's step i was reached
    seen bigint NOT NULL,                   -- the latest event that told something new
    expired boolean NOT NULL DEFAULT false, -- the deadline is applied
    PRIMARY KEY (series_id, unit)
) WITH (fillfactor = 70);
CREATE INDEX journeys_due ON aggregator.journeys (shard, deadline) WHERE NOT expired AND completed IS NULL;
CREATE INDEX journeys_without_start ON aggregator.journeys (seen) WHERE started IS NULL;

-- migrate:down

DROP TABLE aggregator.journeys, aggregator.streaks;
ALTER TABLE aggregator.shards DROP COLUMN revision;
