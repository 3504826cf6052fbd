-- migrate:up

-- What is known of units over time (journeys, funnels), one row a track and unit, whichever shards its events come
-- through. The row is the lock under which the unit moves between windows.
CREATE TABLE aggregator.unit_facts (
    series_id int NOT NULL,
    track text NOT NULL,                    -- tells a metric's tracks apart; '' is the main one
    unit text NOT NULL,
    shard int NOT NULL,                     -- the shard that counted the earliest start: it applies the deadline
    facts bytea,                            -- moments by slot, MessagePack; NULL: nothing can matter any more
    seen bigint NOT NULL,                   -- the latest event that told something new (µs)
    started bigint,                         -- the earliest start (µs); NULL: nothing counts until then
    group_key text NOT NULL DEFAULT '[]',   -- of the earliest start, like the three ids
    user_id text,
    session_id text,
    job_id text,
    state text,                             -- a journey's outcome, the last stage that a funnel's unit reached
    duration bigint,                        -- how long that took, ms in units of 10^-6
    deadline bigint,                        -- when time alone changes what counts (µs); NULL: never, or it has
    on_deadline bytea,                      -- what moves then, MessagePack
    expired boolean NOT NULL DEFAULT false, -- the deadline is applied
    settles bigint,                         -- after this time (µs) nothing that happens matters; NULL: unknown
    PRIMARY KEY (series_id, track, unit)
) WITH (fillfactor = 70);
CREATE INDEX unit_facts_due ON aggregator.unit_facts (shard, deadline) WHERE deadline IS NOT NULL;
CREATE INDEX unit_facts_without_start ON aggregator.unit_facts (seen) WHERE started IS NULL;
CREATE INDEX unit_facts_to_settle ON aggregator.unit_facts (settles) WHERE settles IS NOT NULL AND facts IS NOT NULL;

-- Its rows cannot be told in facts: units that are in progress are to be counted anew from the log.
DROP TABLE aggregator.journeys;

-- migrate:down

DROP TABLE aggregator.unit_facts;
CREATE TABLE aggregator.journeys (
    series_id int NOT NULL,
    unit text NOT NULL,
    shard int NOT NULL,
    started bigint,
    group_key text NOT NULL,
    deadline bigint,
    completed bigint,
    navigated bigint,
    died bigint,
    steps int NOT NULL DEFAULT 0,
    seen bigint NOT NULL,
    expired boolean NOT NULL DEFAULT false,
    PRIMARY KEY (series_id, unit)
) WITH (fillfactor = 70);
CREATE INDEX journeys_due ON aggregator.journeys (shard, deadline) WHERE NOT expired AND completed IS NULL;
CREATE INDEX journeys_without_start ON aggregator.journeys (seen) WHERE started IS NULL;
