-- The keys with which people and programs come in. Only the hash of a key is
-- kept; the key itself is shown once, when it is made. A revoked key stays, since
-- what was done with it names it.

-- +goose NO TRANSACTION
-- +goose Up

CREATE TABLE api_keys (
	id         TEXT NOT NULL,
	hash       BYTEA NOT NULL, -- SHA-256 of the whole key
	person     TEXT NOT NULL,  -- a person's name, or a program's
	kind       TEXT NOT NULL,
	role       TEXT NOT NULL,
	created_at TIMESTAMPTZ NOT NULL,
	revoked_at TIMESTAMPTZ,
	CONSTRAINT api_keys_key PRIMARY KEY (id),
	CONSTRAINT api_keys_id CHECK (id LIKE 'key_%'),
	CONSTRAINT api_keys_hash UNIQUE (hash),
	CONSTRAINT api_keys_hash_size CHECK (length(hash) = 32),
	CONSTRAINT api_keys_person CHECK (person <> ''),
	CONSTRAINT api_keys_role CHECK (role IN ('ACCOUNTANT', 'FINANCE_HEAD', 'CASHIER', 'TREASURER', 'INSURANCE',
		'IT', 'OPERATOR', 'SUPPLIER', 'AUDITOR', 'ADMIN', 'SERVICE')),
	CONSTRAINT api_keys_kind CHECK (kind = CASE WHEN role = 'SERVICE' THEN 'SERVICE' ELSE 'PERSON' END),
	CONSTRAINT api_keys_revoked CHECK (revoked_at >= created_at)
);

CREATE INDEX api_keys_of_person ON api_keys (lower(person));

GRANT SELECT, INSERT, UPDATE ON api_keys TO clearward_app;
