-- migrate:up

-- `seen` and `settles` change with most writes of a row: an index that sorts by them would have each write go through
-- every index of the table. Ranges of blocks keep up without that, and only maintenance asks by these columns.
DROP INDEX aggregator.unit_facts_without_start, aggregator.unit_facts_to_settle;
CREATE INDEX unit_facts_by_seen ON aggregator.unit_facts USING brin (seen);
CREATE INDEX unit_facts_by_settling ON aggregator.unit_facts USING brin (settles);

-- migrate:down

DROP INDEX aggregator.unit_facts_by_seen, aggregator.unit_facts_by_settling;
CREATE INDEX unit_facts_without_start ON aggregator.unit_facts (seen) WHERE started IS NULL;
CREATE INDEX unit_facts_to_settle ON aggregator.unit_facts (settles) WHERE settles IS NOT NULL AND facts IS NOT NULL;
