-- A checkpoint of a MicroVM, with all that a MicroVM made of it takes over from the source. Without a
-- name: made for a fork, and removed when the last fork has begun.
CREATE TABLE checkpoints (
    id           TEXT   NOT NULL PRIMARY KEY,
    name         TEXT   UNIQUE,
    source       TEXT   NOT NULL,
    parent       TEXT,
    image        TEXT   NOT NULL,
    version      BIGINT NOT NULL,
    memory_mib   BIGINT NOT NULL,
    template     TEXT   NOT NULL,
    spec         TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    memory_bytes BIGINT NOT NULL,
    disk_bytes   BIGINT NOT NULL,
    pause_us     BIGINT NOT NULL,
    created_at   BIGINT NOT NULL
);

-- The checkpoint that a MicroVM was made of; NULL: it was made of its image.
ALTER TABLE microvms ADD COLUMN checkpoint TEXT;
