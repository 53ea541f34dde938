-- Buckets, objects and uploads; their bytes are in files that are named by `segments.file`. Plain SQL
-- that PostgreSQL takes too: text and bigint, times in milliseconds since the epoch.

CREATE TABLE buckets (
    name       TEXT   NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL
);

-- `id` owns the segments. An object that is written again is a new row with a new id.
CREATE TABLE objects (
    bucket      TEXT   NOT NULL,
    key         TEXT   NOT NULL,
    id          TEXT   NOT NULL UNIQUE,
    size        BIGINT NOT NULL,
    etag        TEXT   NOT NULL,
    checksum    TEXT,
    parts       BIGINT,
    traits      TEXT   NOT NULL,
    modified_at BIGINT NOT NULL,
    PRIMARY KEY (bucket, key)
);

-- A multipart upload that is under way; it becomes the id of the object.
CREATE TABLE uploads (
    id           TEXT   NOT NULL PRIMARY KEY,
    bucket       TEXT   NOT NULL,
    key          TEXT   NOT NULL,
    traits       TEXT   NOT NULL,
    checksum     TEXT,
    initiated_at BIGINT NOT NULL
);
CREATE INDEX uploads_by_key ON uploads (bucket, key, id);

-- A piece of an object or of an upload. `owner` is the id of either.
CREATE TABLE segments (
    owner       TEXT   NOT NULL,
    number      BIGINT NOT NULL,
    file        TEXT   NOT NULL UNIQUE,
    size        BIGINT NOT NULL,
    md5         TEXT   NOT NULL,
    checksum    TEXT,
    modified_at BIGINT NOT NULL,
    PRIMARY KEY (owner, number)
);
