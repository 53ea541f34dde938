-- Network connectors of customers. A change that is under way is done at `settles_at`; versions are
-- immutable and numbered from 1.
CREATE TABLE connectors (
    id            TEXT   NOT NULL PRIMARY KEY,
    name          TEXT   NOT NULL UNIQUE,
    state         TEXT   NOT NULL,
    update_status TEXT,
    update_reason TEXT,
    tags          TEXT   NOT NULL,
    version       BIGINT NOT NULL,
    settles_at    BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    modified_at   BIGINT NOT NULL
);
CREATE INDEX connectors_by_creation ON connectors (created_at, id);

CREATE TABLE connector_versions (
    connector     TEXT   NOT NULL,
    version       BIGINT NOT NULL,
    configuration TEXT   NOT NULL,
    operator_role TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    PRIMARY KEY (connector, version)
);
