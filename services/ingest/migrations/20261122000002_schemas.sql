-- migrate:up

-- What the data of each event type must look like; `key` is the event type. As the sources are kept: a row is its own
-- outbox, and a removed schema keeps its row.
CREATE TABLE ingest.schemas (
    organisation      text NOT NULL,
    key               text NOT NULL,
    version           int NOT NULL,
    published_version int NOT NULL DEFAULT 0,
    spec              jsonb NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation, key)
);

-- Every version that has been in force, whoever wrote it.
CREATE TABLE ingest.schema_history (
    organisation text NOT NULL,
    key          text NOT NULL,
    version      int NOT NULL,
    spec         jsonb NOT NULL,
    stored_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation, key, version)
);

CREATE FUNCTION ingest.keep_schema() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ingest.schema_history (organisation, key, version, spec)
    VALUES (new.organisation, new.key, new.version, new.spec) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER keep_schema AFTER INSERT OR UPDATE OF version ON ingest.schemas
FOR EACH ROW EXECUTE FUNCTION ingest.keep_schema();

-- migrate:down
DROP TABLE ingest.schemas, ingest.schema_history;
DROP FUNCTION ingest.keep_schema();
