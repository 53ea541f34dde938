-- The work item that a VM was launched for; null where the VM polls for itself.
ALTER TABLE launches ADD COLUMN work_id TEXT;

-- One row a work item that the launcher has acknowledged and that no worker has taken over yet. The
-- secret is the item's own: a token for one session. The row goes when the worker has the item.
CREATE TABLE claims (
    work_id        TEXT   PRIMARY KEY,
    session_id     TEXT   NOT NULL,
    environment_id TEXT   NOT NULL,
    secret         TEXT   NOT NULL,
    -- Unix time, seconds.
    claimed_at     BIGINT NOT NULL
);
