-- migrate:up

-- What a series asks of its units; follows from the definition's version.
ALTER TABLE aggregator.experiment_series
    ADD COLUMN lower bigint,                -- limits of units' sums
    ADD COLUMN upper bigint,
    ADD COLUMN covariate_days smallint NOT NULL DEFAULT 0,
    ADD COLUMN sketched boolean NOT NULL DEFAULT false,
    ADD COLUMN exact_up_to int,                 -- of uniques, whose values are hashes
    ADD COLUMN part text NOT NULL DEFAULT '',   -- whose the values are: a survey's question, a limit of a share
    ADD COLUMN unit_kind text,                  -- of the exposures: user, session or job
    DROP CONSTRAINT experiment_series_organisation_experiment_metric_version_co_key,
    ADD CONSTRAINT experiment_series_names UNIQUE (organisation, experiment, metric, version, component, part);

-- `context`: canonical JSON of path → text, what the earliest exposure said of the unit.
ALTER TABLE aggregator.experiment_units
    ALTER COLUMN unit TYPE text COLLATE "C",
    ADD COLUMN context text COLLATE "C" NOT NULL DEFAULT '{}';

-- A row carries its unit's state, so that adding to it takes one look at one row: values at or after `counts_from`
-- count. `other` is a ratio's denominator, or what the unit did in the days before it was exposed.
ALTER TABLE aggregator.unit_values
    ALTER COLUMN unit TYPE text COLLATE "C",
    ADD COLUMN variant text,
    ADD COLUMN counts_from bigint,
    ADD COLUMN conflicted boolean NOT NULL DEFAULT false,
    ADD COLUMN other_n bigint NOT NULL DEFAULT 0,
    ADD COLUMN other numeric NOT NULL DEFAULT 0;

UPDATE aggregator.unit_values v
SET variant = u.variant, counts_from = u.first_exposure - 5000000, conflicted = u.conflicted
FROM aggregator.experiment_series s
JOIN aggregator.experiment_series e ON e.organisation = s.organisation AND e.experiment = s.experiment AND e.metric = ''
JOIN aggregator.experiment_units u ON u.series_id = e.id
WHERE s.id = v.series_id AND u.unit = v.unit;

ALTER TABLE aggregator.unit_values
    ALTER COLUMN variant SET NOT NULL,
    ALTER COLUMN counts_from SET NOT NULL;

ALTER TABLE aggregator.unit_waiting ALTER COLUMN unit TYPE text COLLATE "C";

-- NULL: not known of what was counted before.
ALTER TABLE aggregator.experiment_totals
    ADD COLUMN sum_squares numeric,
    ADD COLUMN state bytea NOT NULL DEFAULT '',
    ADD COLUMN other_sum numeric NOT NULL DEFAULT 0,
    ADD COLUMN other_sum_squares numeric NOT NULL DEFAULT 0,
    ADD COLUMN cross_sum numeric NOT NULL DEFAULT 0;

-- Metrics of a single part: whoever reads this adds up the rows of a component.
CREATE OR REPLACE VIEW aggregator.v1_experiment_totals AS
SELECT s.organisation, s.experiment, t.variant, s.metric, s.component, s.scale,
       t.observations, t.sum, t.min::numeric AS min, t.max::numeric AS max,
       t.units, t.unit_sum, t.unit_sum_squares, t.conflicted, t.revision, t.shard, t.updated_at,
       t.sum_squares, t.state AS sketch, t.other_sum, t.other_sum_squares, t.cross_sum,
       true AS includes_conflicted          -- observations, sum, sum_squares, min, max and sketch do
FROM aggregator.experiment_totals t
JOIN aggregator.experiment_series s ON s.id = t.series_id
WHERE s.part = '' AND s.version = (
    SELECT max(newest.version) FROM aggregator.experiment_series newest
    WHERE newest.organisation = s.organisation AND newest.experiment = s.experiment AND newest.metric = s.metric
);

-- Who an anonymous visitor turned out to be: the earliest event that carries both ids decides.
CREATE TABLE aggregator.identity_links (
    organisation text NOT NULL,
    anonymous_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    at bigint NOT NULL,                     -- µs
    PRIMARY KEY (organisation, anonymous_id)
) WITH (fillfactor = 70);

CREATE VIEW aggregator.v1_identity_links AS
SELECT organisation, anonymous_id, user_id, to_timestamp(at / 1000000.0) AS at FROM aggregator.identity_links;

-- migrate:down

DROP VIEW aggregator.v1_identity_links;
DROP TABLE aggregator.identity_links;
DROP VIEW aggregator.v1_experiment_totals;
ALTER TABLE aggregator.experiment_totals
    DROP COLUMN sum_squares, DROP COLUMN state, DROP COLUMN other_sum, DROP COLUMN other_sum_squares,
    DROP COLUMN cross_sum;
ALTER TABLE aggregator.unit_values
    DROP COLUMN variant, DROP COLUMN counts_from, DROP COLUMN conflicted, DROP COLUMN other_n, DROP COLUMN other;
ALTER TABLE aggregator.experiment_units DROP COLUMN context;
DELETE FROM aggregator.experiment_series WHERE part <> '';
ALTER TABLE aggregator.experiment_series
    DROP CONSTRAINT experiment_series_names,
    ADD UNIQUE (organisation, experiment, metric, version, component),
    DROP COLUMN part, DROP COLUMN unit_kind, DROP COLUMN exact_up_to, DROP COLUMN lower, DROP COLUMN upper, DROP COLUMN covariate_days, DROP COLUMN sketched;
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
