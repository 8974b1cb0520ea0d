-- The second factor of people who approve: a time-based code (TOTP, RFC 6238).
-- The secret is sealed with the master key of the installation; a counter that was
-- used, or is older, is never taken again.

-- +goose NO TRANSACTION
-- +goose Up

CREATE TABLE factors (
	id           TEXT NOT NULL,
	person       TEXT NOT NULL,
	sealed       BYTEA NOT NULL, -- nonce and AES-256-GCM of the secret, bound to the id
	used_counter INT8 NOT NULL DEFAULT 0,
	wrong        INT4 NOT NULL DEFAULT 0, -- codes in a row
	locked_until TIMESTAMPTZ,
	created_at   TIMESTAMPTZ NOT NULL,
	revoked_at   TIMESTAMPTZ,
	CONSTRAINT factors_key PRIMARY KEY (id),
	CONSTRAINT factors_person CHECK (person <> ''),
	CONSTRAINT factors_sealed CHECK (length(sealed) > 28),
	CONSTRAINT factors_wrong CHECK (wrong >= 0)
);

CREATE UNIQUE INDEX factors_one ON factors (lower(person)) WHERE revoked_at IS NULL;

GRANT SELECT, INSERT, UPDATE ON factors TO clearward_app;
