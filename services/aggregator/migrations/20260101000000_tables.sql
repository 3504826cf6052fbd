-- migrate:up

-- One row a partition of events.v1: the shard's clock and cursor. Moves in the transaction that applies a batch.
CREATE TABLE aggregator.shards (
    shard int PRIMARY KEY,
    next_offset bigint NOT NULL,
    watermark bigint NOT NULL,              -- µs; 0 before the first event
    rolled_through bigint NOT NULL,         -- µs; minutes before it are in window_rolls
    generation text NOT NULL,               -- the Kafka cluster that the offsets belong to
    last_timestamp bigint,                  -- broker time and digest of record next_offset - 1
    last_digest bytea,
    published_revision bigint NOT NULL DEFAULT 0,
    dead_letters bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

-- The ids that a batch brought, 16 bytes each, by broker minute: read back on assignment.
CREATE TABLE aggregator.id_digests (
    shard int NOT NULL,
    minute int NOT NULL,                    -- broker time in minutes since the epoch
    first_offset bigint NOT NULL,
    digests bytea NOT NULL,
    PRIMARY KEY (shard, minute, first_offset)
);
ALTER TABLE aggregator.id_digests ALTER COLUMN digests SET STORAGE EXTERNAL;

CREATE TABLE aggregator.metrics (
    organisation text NOT NULL,
    key text NOT NULL,
    version int NOT NULL,
    published_version int NOT NULL DEFAULT 0,
    spec jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation, key)
);

CREATE TABLE aggregator.window_series (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation text NOT NULL,
    metric text NOT NULL,
    version int NOT NULL,
    component text NOT NULL,
    scale smallint NOT NULL,
    UNIQUE (organisation, metric, version, component)
);

-- Where each shard began to count a series: events below were folded before it existed.
CREATE TABLE aggregator.series_starts (
    series_id int NOT NULL,
    shard int NOT NULL,
    first_offset bigint NOT NULL,
    PRIMARY KEY (series_id, shard)
);

CREATE TABLE aggregator.series_counters (
    series_id int NOT NULL,
    shard int NOT NULL,
    counted bigint NOT NULL,
    late bigint NOT NULL,
    duplicates bigint NOT NULL,
    invalid bigint NOT NULL,
    PRIMARY KEY (series_id, shard)
) WITH (fillfactor = 70);

CREATE TABLE aggregator.organisation_counters (
    organisation text NOT NULL,
    shard int NOT NULL,
    events bigint NOT NULL,
    counted bigint NOT NULL,
    late bigint NOT NULL,
    duplicates bigint NOT NULL,
    PRIMARY KEY (organisation, shard)
) WITH (fillfactor = 70);

-- One-minute windows, one row a shard: one writer each. Sums are integers in units of 10^-scale (squares 10^-2·scale).
CREATE TABLE aggregator.window_minutes (
    series_id int NOT NULL,
    shard int NOT NULL,
    minute timestamptz NOT NULL,
    group_key text NOT NULL,
    n bigint NOT NULL,
    sum numeric NOT NULL,
    sum_squares numeric NOT NULL,
    min bigint,
    max bigint,
    sketch bytea NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (series_id, minute, shard, group_key)
) PARTITION BY RANGE (minute);

-- Days that got no partition of their own in advance: backfills and clocks gone wrong.
CREATE TABLE aggregator.window_minutes_rest PARTITION OF aggregator.window_minutes DEFAULT WITH (fillfactor = 70);

-- Closed minutes added up to 5m, 15m, 1h and 1d, still one row a shard.
CREATE TABLE aggregator.window_rolls (
    series_id int NOT NULL,
    shard int NOT NULL,
    width int NOT NULL,                     -- seconds
    start timestamptz NOT NULL,
    group_key text NOT NULL,
    n bigint NOT NULL,
    sum numeric NOT NULL,
    sum_squares numeric NOT NULL,
    min bigint,
    max bigint,
    sketch bytea NOT NULL,
    PRIMARY KEY (series_id, width, start, shard, group_key)
) WITH (fillfactor = 70);

CREATE TABLE aggregator.experiment_series (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation text NOT NULL,
    experiment text NOT NULL,
    metric text NOT NULL,                   -- '' is the exposures
    version int NOT NULL,
    component text NOT NULL,
    scale smallint NOT NULL,
    UNIQUE (organisation, experiment, metric, version, component)
);

-- A unit of an experiment. Its row is the lock under which its values move.
CREATE TABLE aggregator.experiment_units (
    series_id int NOT NULL,                 -- the experiment's exposure series
    unit text NOT NULL,
    variant text,                           -- NULL while the unit has values but no exposure
    first_exposure bigint,                  -- µs
    conflicted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (series_id, unit)
) WITH (fillfactor = 70);

CREATE TABLE aggregator.unit_values (
    series_id int NOT NULL,
    unit text NOT NULL,
    n bigint NOT NULL,
    sum numeric NOT NULL,
    PRIMARY KEY (series_id, unit)
) WITH (fillfactor = 70);

-- Values of units that were not exposed yet (or, as far as we know, later): an exposure takes them over within grace.
CREATE TABLE aggregator.unit_waiting (
    exposure_series_id int NOT NULL,
    unit text NOT NULL,
    series_id int NOT NULL,
    time bigint NOT NULL,
    value bigint NOT NULL
);
CREATE INDEX unit_waiting_by_unit ON aggregator.unit_waiting (exposure_series_id, unit);
CREATE INDEX unit_waiting_by_time ON aggregator.unit_waiting USING brin (time);

-- Totals a variant, one row a shard: observations are events, units_* are over units' sums.
CREATE TABLE aggregator.experiment_totals (
    series_id int NOT NULL,
    variant text NOT NULL,
    shard int NOT NULL,
    observations bigint NOT NULL,
    sum numeric NOT NULL,
    min bigint,
    max bigint,
    units bigint NOT NULL,
    unit_sum numeric NOT NULL,
    unit_sum_squares numeric NOT NULL,
    conflicted bigint NOT NULL,
    revision bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (series_id, variant, shard)
) WITH (fillfactor = 70);

-- What other services may read; a breaking change gets a new version beside it.
CREATE VIEW aggregator.v1_experiment_totals AS
SELECT s.organisation, s.experiment, t.variant, s.metric, s.component, s.scale,
       t.observations, t.sum, t.min::numeric AS min, t.max::numeric AS max,
       t.units, t.unit_sum, t.unit_sum_squares, t.conflicted, t.revision, t.shard, t.updated_at
FROM aggregator.experiment_totals t
JOIN aggregator.experiment_series s ON s.id = t.series_id
WHERE s.version = (
    SELECT max(newest.version) FROM aggregator.experiment_series newest
    WHERE newest.organisation = s.organisation AND newest.experiment = s.experiment AND newest.metric = s.metric
);

-- migrate:down

DROP VIEW aggregator.v1_experiment_totals;
DROP TABLE aggregator.experiment_totals, aggregator.unit_waiting, aggregator.unit_values, aggregator.experiment_units,
    aggregator.experiment_series, aggregator.window_rolls, aggregator.window_minutes, aggregator.organisation_counters,
    aggregator.series_counters, aggregator.series_starts, aggregator.window_series, aggregator.metrics,
    aggregator.id_digests, aggregator.shards;
