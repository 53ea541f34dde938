-- Times that are counted from are steady ones (crate control, clock.rs), which begin as the wall
-- clock's: microvms.phase_at of a phase that counts, and the start of a MicroVM.
ALTER TABLE microvms ADD COLUMN counted_from BIGINT NOT NULL DEFAULT 0;
UPDATE microvms SET counted_from = started_at;

-- How long the work took that ended with a mark.
ALTER TABLE microvm_marks ADD COLUMN took_us BIGINT;

-- One row: how steady time is reckoned.
CREATE TABLE reckoning (
    id               BIGINT NOT NULL PRIMARY KEY,
    boot             TEXT   NOT NULL,
    at_boot_ms       BIGINT NOT NULL,
    ahead_of_wall_ms BIGINT NOT NULL
);
