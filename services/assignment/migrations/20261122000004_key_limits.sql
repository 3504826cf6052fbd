-- migrate:up
-- How many events may be sent with a key: in the long run, and at once. Null: as ingest's settings say.
ALTER TABLE assignment.api_keys ADD COLUMN events_per_second double precision, ADD COLUMN burst int;

-- migrate:down
ALTER TABLE assignment.api_keys DROP COLUMN events_per_second, DROP COLUMN burst;
