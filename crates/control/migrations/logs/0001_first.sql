-- Log events, in a store of their own: a chatty VM must not make a launch wait for the writer.

CREATE TABLE log_groups (
    id         BIGINT NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE log_streams (
    id          BIGINT NOT NULL PRIMARY KEY,
    group_id    BIGINT NOT NULL,
    name        TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    first_at    BIGINT,
    last_at     BIGINT,
    ingested_at BIGINT,
    bytes       BIGINT NOT NULL,
    UNIQUE (group_id, name)
);

CREATE TABLE log_events (
    sequence    BIGINT NOT NULL PRIMARY KEY,
    group_id    BIGINT NOT NULL,
    stream_id   BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    ingested_at BIGINT NOT NULL,
    message     TEXT   NOT NULL
);
CREATE INDEX log_events_by_group ON log_events (group_id, at, sequence);
CREATE INDEX log_events_by_stream ON log_events (stream_id, at, sequence);
