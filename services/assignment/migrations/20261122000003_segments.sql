-- migrate:up
-- Paths into a unit's exposure by whose values results can be cut.
ALTER TABLE assignment.experiments ADD COLUMN segments text[] NOT NULL DEFAULT '{}';

-- migrate:down
ALTER TABLE assignment.experiments DROP COLUMN segments;
