-- migrate:up
CREATE SCHEMA IF NOT EXISTS assignment;

-- One namespace for everything that a key can name (experiments, flags).
CREATE TABLE assignment.names (
    organisation text NOT NULL,
    key          text NOT NULL,
    kind         text NOT NULL,
    PRIMARY KEY (organisation, key)
);

-- A row is its own outbox: what has version > published_version still has to reach experiments.v1.
CREATE TABLE assignment.experiments (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation      text NOT NULL,
    key               text NOT NULL,
    name              text NOT NULL,
    description       text NOT NULL,
    status            text NOT NULL CHECK (status IN
                          ('draft', 'running', 'paused', 'completed', 'archived', 'cancelled', 'failed')),
    unit              text NOT NULL CHECK (unit IN ('user', 'session', 'job')),
    salt              text NOT NULL,
    metrics           text[] NOT NULL,
    -- json, not jsonb: the order of variants decides which buckets are whose, and jsonb sorts keys.
    plan              json,               -- name or type → buckets, as announced at creation
    stratify_by       text,
    strata            json NOT NULL,      -- as given: name, below or up_to, shares
    allocations       json NOT NULL,      -- the distinct splits since the first start, the present one last
    version           int NOT NULL,
    published_version int NOT NULL DEFAULT 0,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    started_at        timestamptz,
    ended_at          timestamptz,
    FOREIGN KEY (organisation, key) REFERENCES assignment.names (organisation, key),
    UNIQUE (organisation, key)
);
CREATE INDEX experiments_unpublished ON assignment.experiments (id) WHERE version > published_version;

CREATE TABLE assignment.variants (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id bigint NOT NULL REFERENCES assignment.experiments (id) ON DELETE CASCADE,
    position      int NOT NULL,
    name          text NOT NULL,
    type          text NOT NULL CHECK (type IN ('control', 'treatment')),
    buckets       int NOT NULL CHECK (buckets BETWEEN 0 AND 1000000),
    model_id      bigint,
    model_version text,
    config        json NOT NULL,
    metadata      json NOT NULL
);
CREATE INDEX variants_of_experiment ON assignment.variants (experiment_id, position);

-- The first answer of each unit. Without foreign keys: rows arrive late and in bulk, and experiments are never deleted.
CREATE TABLE assignment.assignments (
    experiment_id   bigint NOT NULL,
    unit            text NOT NULL,
    variant_id      bigint NOT NULL,
    version         int NOT NULL,
    stratum         text,
    context         jsonb NOT NULL,
    consistency_key text NOT NULL,
    assigned_at     timestamptz NOT NULL,
    PRIMARY KEY (experiment_id, unit)
);

CREATE TABLE assignment.api_keys (
    prefix            text PRIMARY KEY,
    hash              text NOT NULL,
    organisation      text NOT NULL,
    scope             text NOT NULL CHECK (scope IN ('ingest', 'read', 'admin')),
    label             text NOT NULL,
    revoked           boolean NOT NULL DEFAULT false,
    version           int NOT NULL DEFAULT 1,
    published_version int NOT NULL DEFAULT 0,
    created_at        timestamptz NOT NULL
);
CREATE INDEX api_keys_unpublished ON assignment.api_keys (prefix) WHERE version > published_version;

-- migrate:down
DROP TABLE assignment.api_keys;
DROP TABLE assignment.assignments;
DROP TABLE assignment.variants;
DROP TABLE assignment.experiments;
DROP TABLE assignment.names;
