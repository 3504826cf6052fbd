-- migrate:up

-- µs: up to here the shard has told everything, but for amendments. Its watermark, or with nothing left to fold the
-- brokers' time. Never goes back.
ALTER TABLE aggregator.shards ADD COLUMN clock bigint NOT NULL DEFAULT 0;

-- One row: minutes that end at or before this (µs) were announced as closed. Never goes back.
CREATE TABLE aggregator.closed_windows (
    the_one boolean PRIMARY KEY DEFAULT true CHECK (the_one),
    closed_through bigint NOT NULL
);
INSERT INTO aggregator.closed_windows (closed_through) VALUES (0);

-- Of the counted ones: those that came to minutes already closed.
ALTER TABLE aggregator.series_counters ADD COLUMN amended bigint NOT NULL DEFAULT 0;

-- What an operator gave up, so that a partition could be read on.
CREATE TABLE aggregator.accepted_losses (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard int NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL,                   -- why the log was refused
    generation_before text NOT NULL,        -- the Kafka clusters of the two offsets
    offset_before bigint NOT NULL,          -- up to here it had been folded
    generation_after text NOT NULL,
    offset_after bigint NOT NULL            -- from here it is folded
);

-- migrate:down

DROP TABLE aggregator.accepted_losses, aggregator.closed_windows;
ALTER TABLE aggregator.series_counters DROP COLUMN amended;
ALTER TABLE aggregator.shards DROP COLUMN clock;
