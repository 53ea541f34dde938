-- What the emulator knows. Times are microseconds since 1970; JSON stands in TEXT.
-- `seq` is the order of creation, which lists and cursors go by.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- API keys, environment keys and session tokens, by the SHA-256 of their text.
CREATE TABLE credential (
    hash           BLOB PRIMARY KEY,
    kind           TEXT NOT NULL,
    environment_id TEXT,
    session_id     TEXT,
    work_id        TEXT,
    created_at     INTEGER NOT NULL
);

CREATE TABLE agent (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    version     INTEGER NOT NULL,
    body        TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    archived_at INTEGER
);

-- Every version that an agent has had, the current one included.
CREATE TABLE agent_version (
    agent_id   TEXT NOT NULL,
    version    INTEGER NOT NULL,
    body       TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (agent_id, version)
);

CREATE TABLE environment (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    name        TEXT NOT NULL,
    body        TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    archived_at INTEGER
);
CREATE UNIQUE INDEX environment_name ON environment (name) WHERE archived_at IS NULL;

-- `state` is the state machine's own; `status` and `step_at` are copied out of it to be found.
CREATE TABLE session (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL UNIQUE,
    environment_id TEXT NOT NULL,
    agent_id       TEXT NOT NULL,
    agent_version  INTEGER NOT NULL,
    agent          TEXT NOT NULL,
    body           TEXT NOT NULL,
    state          TEXT NOT NULL,
    status         TEXT NOT NULL,
    step_at        INTEGER,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    archived_at    INTEGER
);
CREATE INDEX session_step ON session (step_at) WHERE step_at IS NOT NULL;
CREATE INDEX session_environment ON session (environment_id);

-- A queued event gets a new `seq` when it is processed, so `seq` is the order of processing.
CREATE TABLE event (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL UNIQUE,
    session_id   TEXT NOT NULL,
    type         TEXT NOT NULL,
    processed_at INTEGER,
    body         TEXT NOT NULL
);
CREATE INDEX event_session ON event (session_id, seq);

-- `state_at` is the one moment that belongs to the state: polled at, or good until.
CREATE TABLE work (
    seq                 INTEGER PRIMARY KEY AUTOINCREMENT,
    id                  TEXT NOT NULL UNIQUE,
    environment_id      TEXT NOT NULL,
    session_id          TEXT NOT NULL,
    state               TEXT NOT NULL,
    state_at            INTEGER,
    metadata            TEXT NOT NULL,
    created_at          INTEGER NOT NULL,
    acknowledged_at     INTEGER,
    started_at          INTEGER,
    latest_heartbeat_at INTEGER,
    stop_requested_at   INTEGER,
    stopped_at          INTEGER
);
CREATE INDEX work_environment ON work (environment_id, seq);
-- One live item a session, whatever happens.
CREATE UNIQUE INDEX work_session ON work (session_id) WHERE state <> 'stopped';

CREATE TABLE endpoint (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT NOT NULL UNIQUE,
    url             TEXT NOT NULL UNIQUE,
    secret          TEXT NOT NULL,
    types           TEXT NOT NULL,
    created_at      INTEGER NOT NULL,
    disabled_reason TEXT
);

CREATE TABLE delivery (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    hook_id         TEXT NOT NULL,
    endpoint_id     TEXT NOT NULL,
    type            TEXT NOT NULL,
    subject         TEXT NOT NULL,
    body            TEXT NOT NULL,
    outcome         TEXT NOT NULL,
    next_attempt_at INTEGER,
    created_at      INTEGER NOT NULL
);
CREATE INDEX delivery_due ON delivery (next_attempt_at) WHERE next_attempt_at IS NOT NULL;

CREATE TABLE attempt (
    delivery_seq INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    status       INTEGER,
    error        TEXT,
    PRIMARY KEY (delivery_seq, number)
);
