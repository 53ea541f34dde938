-- One row a session: the VM that serves it, or the launch that is on its way.
CREATE TABLE launches (
    session_id     TEXT   PRIMARY KEY,
    environment_id TEXT   NOT NULL,
    -- Counts the VMs that this session has had; the client token is made from it.
    generation     BIGINT NOT NULL,
    state          TEXT   NOT NULL CHECK (state IN ('launching', 'launched', 'failed')),
    -- The webhook event that asked for this generation; null where a poll found the work.
    event_id       TEXT,
    client_token   TEXT   NOT NULL,
    -- The RunMicrovm request as JSON, so that a repetition is the same request to the letter.
    request        TEXT   NOT NULL,
    microvm_id     TEXT,
    -- Why it failed, in AWS's words.
    reason         TEXT,
    -- Unix time, seconds.
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL
);
CREATE INDEX launches_by_age ON launches (updated_at);

-- One row a webhook event that got its VM: what a repeated delivery is answered with.
CREATE TABLE deliveries (
    event_id    TEXT   PRIMARY KEY,
    session_id  TEXT   NOT NULL,
    microvm_id  TEXT   NOT NULL,
    answered_at BIGINT NOT NULL
);
CREATE INDEX deliveries_by_age ON deliveries (answered_at);
