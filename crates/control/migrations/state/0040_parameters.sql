-- Parameters of SSM: each with its versions, the newest of which is the parameter. `value` is sealed.
CREATE TABLE parameters (
    name TEXT NOT NULL PRIMARY KEY,
    tags TEXT NOT NULL
);

CREATE TABLE parameter_versions (
    name        TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    value       TEXT   NOT NULL,
    about       TEXT   NOT NULL,
    labels      TEXT   NOT NULL,
    modified_at BIGINT NOT NULL,
    PRIMARY KEY (name, version)
);
