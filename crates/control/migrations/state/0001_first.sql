-- What exists and what should. Plain SQL that PostgreSQL takes too: text and bigint, times in
-- milliseconds since the epoch, documents as JSON in text.

-- A MicroVM. `phase`, `phase_at` and `state_reason` are its life (crate control, life.rs), the only
-- columns that change; `spec` is what it was run with; `payload` is there until /run has been called.
CREATE TABLE microvms (
    id            TEXT   NOT NULL PRIMARY KEY,
    image         TEXT   NOT NULL,
    version       BIGINT NOT NULL,
    memory_mib    BIGINT NOT NULL,
    template      TEXT   NOT NULL,
    spec          TEXT   NOT NULL,
    payload       TEXT,
    state         TEXT   NOT NULL,
    phase         TEXT   NOT NULL,
    phase_at      BIGINT NOT NULL,
    state_reason  TEXT,
    started_at    BIGINT NOT NULL,
    terminated_at BIGINT
);
CREATE INDEX microvms_by_start ON microvms (started_at, id);
CREATE INDEX microvms_by_image ON microvms (image, started_at, id);
CREATE INDEX microvms_by_state ON microvms (state);

-- Timeline of a MicroVM.
CREATE TABLE microvm_marks (
    microvm    TEXT   NOT NULL,
    position   BIGINT NOT NULL,
    mark       TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    elapsed_us BIGINT NOT NULL,
    detail     TEXT   NOT NULL,
    PRIMARY KEY (microvm, position)
);

-- Client tokens; each goes with the resource that it made.
CREATE TABLE client_tokens (
    operation   TEXT NOT NULL,
    token       TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    resource    TEXT NOT NULL,
    PRIMARY KEY (operation, token)
);
CREATE INDEX client_tokens_by_resource ON client_tokens (resource);

-- `last_major` is the number of the newest version that ever was: a number is not used again.
CREATE TABLE images (
    name       TEXT   NOT NULL PRIMARY KEY,
    state      TEXT   NOT NULL,
    tags       TEXT   NOT NULL,
    last_major BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE image_versions (
    image        TEXT   NOT NULL,
    major        BIGINT NOT NULL,
    state        TEXT   NOT NULL,
    status       TEXT   NOT NULL,
    state_reason TEXT,
    spec         TEXT   NOT NULL,
    template     TEXT,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    PRIMARY KEY (image, major)
);

CREATE TABLE builds (
    id           TEXT   NOT NULL PRIMARY KEY,
    image        TEXT   NOT NULL,
    major        BIGINT NOT NULL,
    state        TEXT   NOT NULL,
    state_reason TEXT,
    memory_bytes BIGINT,
    code_bytes   BIGINT,
    disk_bytes   BIGINT,
    cold_boot_ms BIGINT,
    created_at   BIGINT NOT NULL
);
CREATE INDEX builds_by_version ON builds (image, major);

CREATE TABLE secrets (
    name        TEXT   NOT NULL PRIMARY KEY,
    arn         TEXT   NOT NULL UNIQUE,
    description TEXT,
    tags        TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    changed_at  BIGINT NOT NULL,
    deletion_at BIGINT
);

-- `sealed` is the value, encrypted with the key file.
CREATE TABLE secret_versions (
    name       TEXT   NOT NULL,
    version_id TEXT   NOT NULL,
    sealed     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (name, version_id)
);

CREATE TABLE secret_stages (
    name       TEXT NOT NULL,
    stage      TEXT NOT NULL,
    version_id TEXT NOT NULL,
    PRIMARY KEY (name, stage)
);
