-- migrate:up

-- History folded afterwards goes to series of its own, which nobody reads until all of it is there.
ALTER TABLE aggregator.window_series
    ADD COLUMN backfill_id int,             -- NULL: counted as the events came
    ADD COLUMN visible boolean NOT NULL DEFAULT true,
    DROP CONSTRAINT window_series_organisation_metric_version_component_key,
    ADD CONSTRAINT window_series_names UNIQUE NULLS NOT DISTINCT
        (organisation, metric, version, component, backfill_id);

-- One row a metric version whose history was asked for.
CREATE TABLE aggregator.backfills (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation text NOT NULL,
    metric text NOT NULL,
    version int NOT NULL,
    since bigint,                           -- µs of broker time; NULL: from the log's beginning
    state text NOT NULL,                    -- running, done, stopped, failed
    reason text,                            -- why it failed
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    UNIQUE (organisation, metric, version)
);

-- How far each shard's share is. Moves in the transaction that adds a batch of it.
CREATE TABLE aggregator.backfill_shards (
    backfill_id int NOT NULL REFERENCES aggregator.backfills ON DELETE CASCADE,
    shard int NOT NULL,
    begin_offset bigint,                    -- read from here, counted from from_offset to before to_offset;
                                            -- NULL until the shard's owner begins
    from_offset bigint,
    to_offset bigint,
    next_offset bigint,
    watermark bigint NOT NULL DEFAULT 0,    -- µs, of the offsets below next_offset
    broker_time bigint NOT NULL DEFAULT 0,  -- µs, of record next_offset - 1
    done boolean NOT NULL DEFAULT false,
    PRIMARY KEY (backfill_id, shard)
) WITH (fillfactor = 70);

-- migrate:down

DROP TABLE aggregator.backfill_shards, aggregator.backfills;
DELETE FROM aggregator.window_series WHERE backfill_id IS NOT NULL;
ALTER TABLE aggregator.window_series
    DROP CONSTRAINT window_series_names,
    DROP COLUMN backfill_id, DROP COLUMN visible,
    ADD UNIQUE (organisation, metric, version, component);
