-- migrate:up

-- Where an organisation wants to be told. Secrets are in `spec` and leave this table only towards their receiver.
CREATE TABLE alerting.channels (
    organisation text NOT NULL,
    key          text NOT NULL,
    version      int NOT NULL,
    spec         jsonb NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    failures     int NOT NULL DEFAULT 0,              -- attempts in a row that should be tried again
    paused_until timestamptz NOT NULL DEFAULT now(),  -- back-off, Retry-After and pace
    leased_by    text,                                -- the one process that sends at present
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (organisation, key)
) WITH (fillfactor = 70);

-- The outbox: one row a transition and channel, written in the transaction of the transition.
CREATE TABLE alerting.notifications (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token           uuid NOT NULL DEFAULT gen_random_uuid(),  -- names the message to receivers, at every attempt
    organisation    text NOT NULL,
    channel         text NOT NULL,
    alert_id        bigint,
    alert_key       text NOT NULL,
    dedup_key       text NOT NULL,
    action          text NOT NULL CHECK (action IN ('trigger', 'acknowledge', 'resolve')),
    severity        text NOT NULL CHECK (severity IN ('info', 'warning', 'error', 'critical')),
    title           text NOT NULL,
    message         text NOT NULL,
    data            json NOT NULL,                    -- json, not jsonb: fields stay in the order they were given
    runbook_url     text,
    dashboard_url   text,
    decided_at      bigint NOT NULL,                  -- µs
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN
                        ('pending', 'delivered', 'failed', 'expired', 'superseded')),
    attempts        int NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    detail          text NOT NULL DEFAULT '',         -- what the receiver said last
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz
) WITH (fillfactor = 70);
CREATE INDEX notifications_pending ON alerting.notifications (organisation, channel, alert_key, id)
    WHERE state = 'pending';
CREATE INDEX notifications_of_alert ON alerting.notifications (organisation, alert_id);
CREATE INDEX notifications_finished ON alerting.notifications (finished_at);

-- migrate:down

DROP TABLE alerting.notifications, alerting.channels;
