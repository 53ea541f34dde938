-- What is kept and shown, and has no state machine of its own: vaults, credentials, memory
-- stores, memories and their versions, skills and their versions, files, deployments and runs.
-- `parent`: what it belongs to. `key`: what it is found by beside its id (a memory's path, a
-- deployment's agent). `hidden`: what no answer shows.
CREATE TABLE resource (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    kind        TEXT NOT NULL,
    parent      TEXT,
    key         TEXT,
    body        TEXT NOT NULL,
    hidden      TEXT,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    archived_at INTEGER,
    due_at      INTEGER
);
CREATE INDEX resource_list ON resource (kind, parent, seq);
CREATE UNIQUE INDEX resource_path ON resource (parent, key) WHERE kind = 'memory';
CREATE INDEX resource_due ON resource (due_at) WHERE due_at IS NOT NULL;

-- The bytes of files and of skill versions, by the id of their row.
CREATE TABLE blob (
    id    TEXT PRIMARY KEY,
    bytes BLOB NOT NULL
);

-- Sessions are found by what they were made from.
ALTER TABLE session ADD COLUMN deployment_id TEXT;

-- Webhook endpoints as an API shows them.
ALTER TABLE endpoint ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE endpoint ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE endpoint ADD COLUMN updated_at INTEGER NOT NULL DEFAULT 0;
-- 'enabled', or 'disabled' by its owner or by the platform (then with a reason).
ALTER TABLE endpoint ADD COLUMN state TEXT NOT NULL DEFAULT 'enabled';
-- When an unbroken row of failed deliveries began, and how many there are.
ALTER TABLE endpoint ADD COLUMN failing_since INTEGER;
ALTER TABLE endpoint ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
UPDATE endpoint SET updated_at = created_at,
                    state = CASE WHEN disabled_reason IS NULL THEN 'enabled' ELSE 'disabled' END;
