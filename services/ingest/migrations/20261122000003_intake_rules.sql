-- migrate:up

-- What organisations want to be dropped, hashed, cut short or sampled of their events, as the sources are kept: a row
-- is its own outbox, and a removed rule keeps its row.
CREATE TABLE ingest.intake_rules (
    organisation      text NOT NULL,
    key               text NOT NULL,
    version           int NOT NULL,
    published_version int NOT NULL DEFAULT 0,
    spec              jsonb NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation, key)
);

-- migrate:down
DROP TABLE ingest.intake_rules;
