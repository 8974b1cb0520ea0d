-- The public half of a key's pair, with which a program's signatures are checked.
-- A key that was made before has none and signs nothing.

-- +goose NO TRANSACTION
-- +goose Up

ALTER TABLE api_keys ADD COLUMN public_key BYTEA NOT NULL DEFAULT '';

ALTER TABLE api_keys ADD CONSTRAINT api_keys_public CHECK (length(public_key) IN (0, 32));
