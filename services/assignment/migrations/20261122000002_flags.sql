-- migrate:up
-- json, not jsonb: numbers and the order of keys are answered as they were written.
CREATE TABLE assignment.flags (
    organisation      text NOT NULL,
    key               text NOT NULL,
    version           int NOT NULL,
    published_version int NOT NULL DEFAULT 0,
    spec              json NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation, key),
    FOREIGN KEY (organisation, key) REFERENCES assignment.names (organisation, key)
);
CREATE INDEX flags_unpublished ON assignment.flags (organisation, key) WHERE version > published_version;

-- migrate:down
DROP TABLE assignment.flags;
DELETE FROM assignment.names WHERE kind = 'flag';
