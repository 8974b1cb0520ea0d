-- Who made a key and who revoked it: a person or program, or "cli:" with the name of
-- the system's user who worked at the command line. Of keys from before, nobody knows.

-- +goose NO TRANSACTION
-- +goose Up

ALTER TABLE api_keys ADD COLUMN made_by TEXT NOT NULL DEFAULT 'not kept';

ALTER TABLE api_keys ALTER COLUMN made_by DROP DEFAULT;

ALTER TABLE api_keys ADD CONSTRAINT api_keys_made_by CHECK (made_by <> '');

ALTER TABLE api_keys ADD COLUMN revoked_by TEXT NOT NULL DEFAULT '';

UPDATE api_keys SET revoked_by = 'not kept' WHERE revoked_at IS NOT NULL;

ALTER TABLE api_keys ADD CONSTRAINT api_keys_revoked_by CHECK ((revoked_by <> '') = (revoked_at IS NOT NULL));
