-- Whether a session waits for what its model says; copied out of its state to be found.
ALTER TABLE session ADD COLUMN asking INTEGER NOT NULL DEFAULT 0;
CREATE INDEX session_asking ON session (asking) WHERE asking = 1;
