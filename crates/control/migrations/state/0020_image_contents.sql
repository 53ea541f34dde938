-- What a version is made of, as JSON: disk, app, size of its files. With it a snapshot can be made
-- again on another kernel or VMM without its artifact. NULL until the version is built.
ALTER TABLE image_versions ADD COLUMN content TEXT;
