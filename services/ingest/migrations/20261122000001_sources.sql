-- migrate:up
CREATE SCHEMA IF NOT EXISTS ingest;

CREATE SEQUENCE ingest.source_ids AS int START WITH 2;  -- 1 is the built-in source

-- Definitions are their own outbox: what has version > published_version still has to reach its topic.
-- A removed source keeps its row, so that its key's next version is higher; `spec` then says so.
CREATE TABLE ingest.sources (
    organisation      text NOT NULL,
    key               text NOT NULL,
    version           int NOT NULL,
    published_version int NOT NULL DEFAULT 0,
    spec              jsonb NOT NULL,          -- with its id; secrets are sealed
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    id                int GENERATED ALWAYS AS ((spec ->> 'id')::int) STORED NOT NULL UNIQUE,
    PRIMARY KEY (organisation, key)
);

-- The processes that run sources.
CREATE TABLE ingest.source_processes (
    name    text PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Who runs a source, until when; how it does, and how far it is. `token` rises with every holder: whoever writes
-- with a lower one has lost the source and writes nothing.
CREATE TABLE ingest.source_runs (
    source_id  int PRIMARY KEY,
    holder     text NOT NULL,
    token      bigint NOT NULL DEFAULT 1,
    expires_at timestamptz NOT NULL,
    health     jsonb NOT NULL DEFAULT '{}',
    position   jsonb NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);

-- migrate:down
DROP TABLE ingest.source_runs, ingest.source_processes, ingest.sources;
DROP SEQUENCE ingest.source_ids;
