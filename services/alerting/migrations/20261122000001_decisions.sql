-- migrate:up
CREATE SCHEMA IF NOT EXISTS alerting;

-- Definitions are their own outbox: what has version > published_version still has to reach its topic.
CREATE TABLE alerting.rules (
    organisation      text NOT NULL,
    key               text NOT NULL,
    version           int NOT NULL,
    published_version int NOT NULL DEFAULT 0,
    spec              jsonb NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation, key)
);

CREATE TABLE alerting.breakers (LIKE alerting.rules INCLUDING ALL);

-- One row a state machine: a rule's group, a breaker, or a built-in alert. `version` is the optimistic lock.
CREATE TABLE alerting.states (
    organisation       text NOT NULL,
    kind               text NOT NULL CHECK (kind IN ('rule', 'breaker', 'builtin')),
    key                text NOT NULL,
    grp                text NOT NULL,        -- JSON array of a rule's group, else empty
    version            bigint NOT NULL,
    definition_version int NOT NULL,
    definition         jsonb NOT NULL,       -- the spec that the state belongs to
    status             text NOT NULL,
    state              jsonb NOT NULL,
    since              bigint NOT NULL,      -- µs of the heartbeat clock
    decided_to         bigint NOT NULL,      -- updates below this offset of its partition are decided
    updated_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation, kind, key, grp)
) WITH (fillfactor = 70);

CREATE TABLE alerting.transitions (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation text NOT NULL,
    kind         text NOT NULL,
    key          text NOT NULL,
    grp          text NOT NULL,
    from_state   text NOT NULL,
    to_state     text NOT NULL,
    reason       text NOT NULL,
    at           bigint NOT NULL,            -- µs of the heartbeat clock
    evidence     json NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX transitions_of ON alerting.transitions (organisation, kind, key, id);

-- One row an incident. `version` rises over all incidents of a key; the row is its own outbox to alerts.v1.
CREATE TABLE alerting.alerts (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation      text NOT NULL,
    key               text NOT NULL,
    incident          bigint NOT NULL,
    version           bigint NOT NULL,
    published_version bigint NOT NULL DEFAULT 0,
    alert_type        text NOT NULL,
    title             text NOT NULL,
    message           text NOT NULL,
    severity          text NOT NULL CHECK (severity IN ('info', 'warning', 'error', 'critical')),
    status            text NOT NULL CHECK (status IN ('open', 'acknowledged', 'resolved')),
    data_source_id    bigint,
    data              json NOT NULL,
    notify            text[],                -- the channels that hear of it; null: all of the organisation
    runbook_url       text,
    dashboard_url     text,
    created_at        bigint NOT NULL,       -- µs, as are the others
    acknowledged_at   bigint,
    resolved_at       bigint,
    resolution_notes  text,
    UNIQUE (organisation, key, incident)
);
CREATE INDEX alerts_unpublished ON alerting.alerts (id) WHERE version > published_version;
CREATE INDEX alerts_by_age ON alerting.alerts (organisation, id);

-- What each breaker says of its flag; the row is its own outbox to switches.v1.
CREATE TABLE alerting.switches (
    organisation      text NOT NULL,
    flag              text NOT NULL,
    variant           text NOT NULL,         -- empty: the whole flag
    cause             text NOT NULL,
    version           bigint NOT NULL,
    published_version bigint NOT NULL DEFAULT 0,
    off               boolean NOT NULL,
    admit_from        int NOT NULL,
    admit_to          int NOT NULL,
    decided_at        bigint NOT NULL,
    off_since         bigint NOT NULL,       -- of the outage that lasts, or of the last one
    evidence          json NOT NULL,
    PRIMARY KEY (organisation, flag, variant, cause)
);

-- How far topics are read and decided on. Offsets count only within a generation: one Kafka cluster's log.
CREATE TABLE alerting.positions (
    topic       text NOT NULL,
    partition   int NOT NULL,
    generation  text NOT NULL,
    next_offset bigint NOT NULL,
    clock       bigint NOT NULL,             -- µs: the clock of decisions at that offset
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 70);

-- migrate:down
DROP TABLE alerting.positions;
DROP TABLE alerting.switches;
DROP TABLE alerting.alerts;
DROP TABLE alerting.transitions;
DROP TABLE alerting.states;
DROP TABLE alerting.breakers;
DROP TABLE alerting.rules;
