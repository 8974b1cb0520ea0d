-- The tables of the ledger. Days are numbers yyyymmdd in Beijing time, money is
-- whole fen, times are UTC. Keys of the append-only tables are final: (lane, seq,
-- ord) is the place of an item in the journal and the only order there is.

-- +goose NO TRANSACTION
-- +goose Up

CREATE TABLE accounts (
	id      INT8 NOT NULL,
	book    INT2 NOT NULL,
	code    TEXT NOT NULL,
	type    TEXT NOT NULL,
	side    INT2 NOT NULL, -- the normal side: 1 debit, 2 credit
	checked BOOL NOT NULL, -- has a row in floors
	opened  TIMESTAMPTZ NOT NULL DEFAULT now(),
	closed  TIMESTAMPTZ,
	CONSTRAINT accounts_key PRIMARY KEY (id),
	CONSTRAINT accounts_code UNIQUE (book, code),
	CONSTRAINT accounts_book CHECK (book > 0 AND id >> 48 = book),
	CONSTRAINT accounts_type CHECK (type IN ('ASSET', 'LIABILITY', 'EQUITY', 'INCOME', 'EXPENSE')),
	CONSTRAINT accounts_side CHECK (side = CASE WHEN type IN ('ASSET', 'EXPENSE') THEN 1 ELSE 2 END)
);

-- A day that has no row is open.
CREATE TABLE days (
	book  INT2 NOT NULL,
	day   INT4 NOT NULL,
	state TEXT NOT NULL,
	CONSTRAINT days_key PRIMARY KEY (book, day),
	CONSTRAINT days_state CHECK (state IN ('OPEN', 'CLOSING', 'CLOSED'))
);

-- Who may write to a lane. The lease is for speed only: what keeps a process out
-- that lost its lane without noticing is the key of batches.
CREATE TABLE lanes (
	lane       INT2 NOT NULL,
	owner      TEXT NOT NULL,
	epoch      INT8 NOT NULL,
	expires_at TIMESTAMPTZ NOT NULL,
	CONSTRAINT lanes_key PRIMARY KEY (lane),
	CONSTRAINT lanes_lane CHECK (lane BETWEEN 0 AND 15)
);

INSERT INTO lanes (lane, owner, epoch, expires_at)
SELECT lane, '', 0, '1970-01-01 00:00:00+00' FROM generate_series(0, 15) AS lanes(lane);

-- One row for each group commit, chained without a gap. Content is the hashes of
-- its entries and events, 16 bytes each in the order of ord.
CREATE TABLE batches (
	lane    INT2 NOT NULL,
	seq     INT8 NOT NULL,
	prev    INT8,
	epoch   INT8 NOT NULL,
	id      UUID NOT NULL,
	items   INT4 NOT NULL,
	content BYTEA NOT NULL,
	at      TIMESTAMPTZ NOT NULL,
	CONSTRAINT batches_key PRIMARY KEY (lane, seq),
	CONSTRAINT batches_chain CHECK ((seq = 1 AND prev IS NULL) OR (prev IS NOT NULL AND prev = seq - 1)),
	CONSTRAINT batches_prev FOREIGN KEY (lane, prev) REFERENCES batches (lane, seq)
);

CREATE TABLE entries (
	lane      INT2 NOT NULL,
	seq       INT8 NOT NULL,
	ord       INT2 NOT NULL,
	book      INT2 NOT NULL,
	kind      TEXT NOT NULL,
	ref       TEXT NOT NULL,
	day       INT4 NOT NULL,
	value_day INT4 NOT NULL,
	maker     TEXT NOT NULL,
	checker   TEXT NOT NULL,
	case_id   TEXT NOT NULL,
	rev_lane  INT2,
	rev_seq   INT8,
	rev_ord   INT2,
	meta      TEXT NOT NULL,
	CONSTRAINT entries_key PRIMARY KEY (lane, seq, ord),
	CONSTRAINT entries_days CHECK (value_day <= day)
);

CREATE INDEX entries_ref ON entries (ref);

CREATE UNIQUE INDEX entries_reversed_once ON entries (rev_lane, rev_seq, rev_ord) WHERE rev_seq IS NOT NULL;

-- Debit and credit stand in one row, so that no entry can be out of balance, and
-- the first 18 bits of an account are its book and set, so that no set can be.
CREATE TABLE postings (
	lane       INT2 NOT NULL,
	seq        INT8 NOT NULL,
	ord        INT2 NOT NULL,
	n          INT2 NOT NULL,
	day        INT4 NOT NULL,
	debit      INT8 NOT NULL,
	credit     INT8 NOT NULL,
	amount     INT8 NOT NULL,
	debit_ref  TEXT NOT NULL,
	credit_ref TEXT NOT NULL,
	CONSTRAINT postings_key PRIMARY KEY (lane, seq, ord, n),
	CONSTRAINT postings_amount CHECK (amount > 0),
	CONSTRAINT postings_sets CHECK (debit <> credit AND debit >> 45 = credit >> 45)
);

CREATE INDEX postings_debit ON postings (day, debit);

CREATE INDEX postings_credit ON postings (day, credit);

-- Facts without money: refusals, approvals, what the proof needs.
CREATE TABLE events (
	lane  INT2 NOT NULL,
	seq   INT8 NOT NULL,
	ord   INT2 NOT NULL,
	kind  TEXT NOT NULL,
	canon BYTEA NOT NULL,
	CONSTRAINT events_key PRIMARY KEY (lane, seq, ord)
);

-- The answer to every request by its key. Hash is the SHA-256 of the canonical
-- request, then four bytes for each field, by which a conflict names the field.
CREATE TABLE requests (
	scope   TEXT NOT NULL,
	key     TEXT NOT NULL,
	form    INT2 NOT NULL,
	hash    BYTEA NOT NULL,
	outcome TEXT NOT NULL, -- OK or the code of the refusal
	body    TEXT NOT NULL,
	lane    INT2 NOT NULL,
	seq     INT8 NOT NULL,
	ord     INT2,          -- of the entry or event, where the answer names one
	CONSTRAINT requests_key PRIMARY KEY (scope, key)
);

-- Sums of the postings. Each lane adds to its own rows, so that two writers never
-- wait for each other. Red is the part of a sum that came from reversing entries.
CREATE TABLE turnover (
	account     INT8 NOT NULL,
	day         INT4 NOT NULL,
	value_day   INT4 NOT NULL,
	lane        INT2 NOT NULL,
	debits      INT8 NOT NULL,
	credits     INT8 NOT NULL,
	red_debits  INT8 NOT NULL,
	red_credits INT8 NOT NULL,
	CONSTRAINT turnover_key PRIMARY KEY (account, day, value_day, lane),
	CONSTRAINT turnover_red CHECK (red_debits BETWEEN 0 AND debits AND red_credits BETWEEN 0 AND credits)
) WITH (fillfactor = 70);

-- What may leave an account. Outgo is exact, income_seen is a lower bound. The
-- CHECK never decides: it is there to stop a wrong decision.
CREATE TABLE floors (
	account     INT8 NOT NULL,
	floor       INT8 NOT NULL,
	outgo       INT8 NOT NULL,
	income_seen INT8 NOT NULL,
	CONSTRAINT floors_key PRIMARY KEY (account),
	CONSTRAINT floors_account FOREIGN KEY (account) REFERENCES accounts (id),
	CONSTRAINT floors_hold CHECK (income_seen - outgo >= floor)
) WITH (fillfactor = 70);

-- How far a reader of the journal has come in each lane.
CREATE TABLE cursors (
	name TEXT NOT NULL,
	lane INT2 NOT NULL,
	seq  INT8 NOT NULL,
	CONSTRAINT cursors_key PRIMARY KEY (name, lane)
);

-- The lines that accountants expect: one for each entry, account, side and
-- reference, so that a bank credit made of several postings stays one line.
CREATE VIEW ledger_lines AS
SELECT lane, seq, ord, day, account, side, ref, SUM(amount)::INT8 AS amount
FROM (
	SELECT lane, seq, ord, day, debit AS account, 1::INT2 AS side, debit_ref AS ref, amount FROM postings
	UNION ALL
	SELECT lane, seq, ord, day, credit AS account, 2::INT2 AS side, credit_ref AS ref, amount FROM postings
) AS sides
GROUP BY lane, seq, ord, day, account, side, ref;

-- +goose StatementBegin
CREATE FUNCTION append_only() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'the journal is append-only: post a reversing entry instead' USING ERRCODE = '42501';
	RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER batches_append_only BEFORE UPDATE OR DELETE ON batches FOR EACH ROW EXECUTE FUNCTION append_only();

CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE ON entries FOR EACH ROW EXECUTE FUNCTION append_only();

CREATE TRIGGER postings_append_only BEFORE UPDATE OR DELETE ON postings FOR EACH ROW EXECUTE FUNCTION append_only();

CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION append_only();

CREATE TRIGGER requests_append_only BEFORE UPDATE OR DELETE ON requests FOR EACH ROW EXECUTE FUNCTION append_only();

GRANT SELECT, INSERT ON batches, entries, postings, events, requests, accounts TO clearward_app;

GRANT SELECT, INSERT, UPDATE ON days, turnover, floors, cursors TO clearward_app;

GRANT SELECT, UPDATE ON lanes TO clearward_app;

GRANT SELECT ON ledger_lines TO clearward_app;
