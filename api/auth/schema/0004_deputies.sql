-- A deputy stands in for somebody until a time; the right then ends by itself.

-- +goose NO TRANSACTION
-- +goose Up

ALTER TABLE api_keys ADD COLUMN deputy_for TEXT NOT NULL DEFAULT '';

ALTER TABLE api_keys ADD COLUMN ends_at TIMESTAMPTZ;

ALTER TABLE api_keys ADD CONSTRAINT api_keys_deputy CHECK ((deputy_for <> '') = (ends_at IS NOT NULL)
	AND (deputy_for = '' OR (kind = 'PERSON' AND ends_at > created_at AND lower(deputy_for) <> lower(person))));
