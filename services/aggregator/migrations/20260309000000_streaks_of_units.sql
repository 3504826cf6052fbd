-- migrate:up

-- Of streaks, whose values say how something ended: how many of the latest failures are kept.
ALTER TABLE aggregator.experiment_series ADD COLUMN run_length smallint;

-- Metrics of a single part, without those whose events have no amount: whoever reads this adds up and takes means.
CREATE OR REPLACE VIEW aggregator.v1_experiment_totals AS
SELECT s.organisation, s.experiment, t.variant, s.metric, s.component, s.scale,
       t.observations, t.sum, t.min::numeric AS min, t.max::numeric AS max,
       t.units, t.unit_sum, t.unit_sum_squares, t.conflicted, t.revision, t.shard, t.updated_at,
       t.sum_squares, t.state AS sketch, t.other_sum, t.other_sum_squares, t.cross_sum,
       true AS includes_conflicted          -- observations, sum, sum_squares, min, max and sketch do
FROM aggregator.experiment_totals t
JOIN aggregator.experiment_series s ON s.id = t.series_id
WHERE s.part = '' AND s.component <> 'streak' AND s.version = (
    SELECT max(newest.version) FROM aggregator.experiment_series newest
    WHERE newest.organisation = s.organisation AND newest.experiment = s.experiment AND newest.metric = s.metric
);

-- migrate:down

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
DELETE FROM aggregator.experiment_totals t USING aggregator.experiment_series s
WHERE s.id = t.series_id AND s.component = 'streak';
DELETE FROM aggregator.unit_values v USING aggregator.experiment_series s
WHERE s.id = v.series_id AND s.component = 'streak';
DELETE FROM aggregator.unit_waiting w USING aggregator.experiment_series s
WHERE s.id = w.series_id AND s.component = 'streak';
DELETE FROM aggregator.experiment_series WHERE component = 'streak';
ALTER TABLE aggregator.experiment_series DROP COLUMN run_length;
