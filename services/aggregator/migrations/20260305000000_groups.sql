-- migrate:up

-- The groups of a metric that count under their own name, by shard and day: the first so many in the log's order.
CREATE TABLE aggregator.series_groups (
    series_id int NOT NULL,
    shard int NOT NULL,
    day int NOT NULL,                       -- UTC days since 1970, of event time; 0: for good
    part text NOT NULL,                     -- caps are by part, where parts are the definition's own: else ''
    group_key text NOT NULL,
    PRIMARY KEY (series_id, shard, day, part, group_key)
);

-- Of the counted ones: those of groups beyond the cap, which stand as "other".
ALTER TABLE aggregator.series_counters ADD COLUMN overflow bigint NOT NULL DEFAULT 0;

-- The first byte of a state names its kind and parameters: 1 is the histogram that all of them were so far.
UPDATE aggregator.window_minutes SET sketch = '\x01'::bytea || sketch WHERE length(sketch) % 10 = 0 AND length(sketch) > 0;
UPDATE aggregator.window_rolls SET sketch = '\x01'::bytea || sketch WHERE length(sketch) % 10 = 0 AND length(sketch) > 0;

-- migrate:down

DELETE FROM aggregator.window_minutes WHERE length(sketch) > 0 AND get_byte(sketch, 0) <> 1;
DELETE FROM aggregator.window_rolls WHERE length(sketch) > 0 AND get_byte(sketch, 0) <> 1;
UPDATE aggregator.window_minutes SET sketch = substr(sketch, 2) WHERE length(sketch) > 0;
UPDATE aggregator.window_rolls SET sketch = substr(sketch, 2) WHERE length(sketch) > 0;
ALTER TABLE aggregator.series_counters DROP COLUMN overflow;
DROP TABLE aggregator.series_groups;
