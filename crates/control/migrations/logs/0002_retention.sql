-- How long a group's events are kept, in days (none: for ever), and the group's tags.
ALTER TABLE log_groups ADD COLUMN retention_days BIGINT;
ALTER TABLE log_groups ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
