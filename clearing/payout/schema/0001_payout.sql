-- Money that leaves by a bank: payees, payouts with their approvals, the pause
-- switch, and the lines and receipts by which the bank proves them. Money is whole
-- fen, days are numbers yyyymmdd in Beijing time, times are UTC.

-- +goose NO TRANSACTION
-- +goose Up

-- The white-list. A row never changes its account: another account is another
-- row, approved by a second person and usable a day later.
CREATE TABLE payees (
	id            TEXT NOT NULL,
	hospital      TEXT NOT NULL,
	hospital_name TEXT NOT NULL,
	use_for       TEXT NOT NULL,
	account       TEXT NOT NULL,
	name          TEXT NOT NULL,
	bank          TEXT NOT NULL,
	cnaps         TEXT NOT NULL, -- 12-digit bank code, '' within the same bank
	replaces      TEXT NOT NULL,
	state         TEXT NOT NULL,
	maker         TEXT NOT NULL,
	checker       TEXT NOT NULL DEFAULT '',
	factor        TEXT NOT NULL DEFAULT '',
	reason        TEXT NOT NULL DEFAULT '',
	proposed_at   TIMESTAMPTZ NOT NULL,
	decided_at    TIMESTAMPTZ,
	usable_from   TIMESTAMPTZ,
	CONSTRAINT payees_key PRIMARY KEY (id),
	CONSTRAINT payees_hospital FOREIGN KEY (hospital, hospital_name) REFERENCES hospitals (code, name),
	CONSTRAINT payees_use CHECK (use_for IN ('HOSPITAL', 'CUSTODY', 'CHANNEL')),
	CONSTRAINT payees_own_name CHECK (use_for <> 'HOSPITAL' OR name = hospital_name),
	CONSTRAINT payees_state CHECK (state IN ('PROPOSED', 'ACTIVE', 'SUSPENDED', 'REPLACED', 'REFUSED')),
	CONSTRAINT payees_two_people CHECK (maker <> checker),
	CONSTRAINT payees_decided CHECK (state IN ('PROPOSED', 'REFUSED') OR (checker <> '' AND factor <> '' AND usable_from > decided_at))
);

CREATE UNIQUE INDEX payees_one ON payees (hospital, use_for, account) WHERE state IN ('PROPOSED', 'ACTIVE');

-- What a role may ask for or approve, one payout and a day. The newest row not
-- after the day holds; a role without a row may nothing.
CREATE TABLE payout_limits (
	role     TEXT NOT NULL,
	act      TEXT NOT NULL,
	from_day INT4 NOT NULL,
	each_fen INT8 NOT NULL,
	day_fen  INT8 NOT NULL,
	CONSTRAINT payout_limits_key PRIMARY KEY (role, act, from_day),
	CONSTRAINT payout_limits_act CHECK (act IN ('REQUEST', 'APPROVE')),
	CONSTRAINT payout_limits_fen CHECK (each_fen > 0 AND day_fen >= each_fen)
);

-- How many checkers an amount needs: the band with the greatest above_fen that is
-- below the amount, of the newest from_day not after the day.
CREATE TABLE payout_bands (
	from_day  INT4 NOT NULL,
	above_fen INT8 NOT NULL,
	checkers  INT2 NOT NULL,
	CONSTRAINT payout_bands_key PRIMARY KEY (from_day, above_fen),
	CONSTRAINT payout_bands_two_people CHECK (above_fen >= 0 AND checkers >= 1)
);

-- When a bank takes transfers of an account, in minutes of the Beijing day;
-- account '' is every account without a row of its own.
CREATE TABLE payout_windows (
	account   TEXT NOT NULL,
	from_day  INT4 NOT NULL,
	opens     INT2 NOT NULL,
	closes    INT2 NOT NULL,
	every_day BOOL NOT NULL, -- also when banks do not work
	CONSTRAINT payout_windows_key PRIMARY KEY (account, from_day),
	CONSTRAINT payout_windows_minutes CHECK (opens >= 0 AND opens < closes AND closes <= 1440)
);

INSERT INTO payout_limits (role, act, from_day, each_fen, day_fen) VALUES
	('TREASURER', 'REQUEST', 20200101, 10000000000, 50000000000),
	('FINANCE_HEAD', 'APPROVE', 20200101, 10000000000, 50000000000);

INSERT INTO payout_bands (from_day, above_fen, checkers) VALUES (20200101, 0, 1), (20200101, 2000000000, 2);

INSERT INTO payout_windows (account, from_day, opens, closes, every_day) VALUES ('', 20200101, 510, 1020, FALSE);

-- A payout; its number is the bank's reference of the transfer. charged: the
-- entry that sends it stands. frozen: its money waits in 2202.FROZEN for another
-- account of the payee. rev is what every change compares and sets.
CREATE TABLE payouts (
	number        TEXT NOT NULL,
	hospital      TEXT NOT NULL,
	ownership     TEXT NOT NULL,
	kind          TEXT NOT NULL,
	mode          TEXT NOT NULL,
	from_account  TEXT NOT NULL,
	payee         TEXT, -- NULL: a patient, in payout_people
	payee_mark    TEXT NOT NULL, -- keyed commitment to the patient's name and account
	amount_fen    INT8 NOT NULL,
	purpose       TEXT NOT NULL,
	subject       TEXT NOT NULL, -- settlement, case or refund whose debt is paid
	channel       TEXT NOT NULL,
	merchant_no   TEXT NOT NULL,
	contract      TEXT NOT NULL,
	day           INT4 NOT NULL,
	repeat_reason TEXT NOT NULL,
	payload       BYTEA NOT NULL, -- SHA-256, frozen when it was asked for
	maker         TEXT NOT NULL,
	checker       TEXT NOT NULL DEFAULT '',
	needs         INT2 NOT NULL, -- checkers
	requested_at  TIMESTAMPTZ NOT NULL,
	rev           INT8 NOT NULL DEFAULT 0,
	state         TEXT NOT NULL DEFAULT 'REQUESTED',
	state_at      TIMESTAMPTZ NOT NULL,
	held          TEXT NOT NULL DEFAULT '',
	batch         TEXT NOT NULL DEFAULT '',
	sent_at       TIMESTAMPTZ,
	bank_ref      TEXT NOT NULL DEFAULT '',
	bank_refused  BOOL NOT NULL DEFAULT FALSE, -- the bank said no when it was sent; a query has not proved it
	reason_kind   TEXT NOT NULL DEFAULT '',
	reason_code   TEXT NOT NULL DEFAULT '',
	reason_text   TEXT NOT NULL DEFAULT '',
	charged       BOOL NOT NULL DEFAULT FALSE,
	frozen        BOOL NOT NULL DEFAULT FALSE,
	sent_lane     INT2 NOT NULL DEFAULT 0,
	sent_seq      INT8 NOT NULL DEFAULT 0,
	sent_ord      INT2 NOT NULL DEFAULT 0,
	line_lane     INT2 NOT NULL DEFAULT 0,
	line_seq      INT8 NOT NULL DEFAULT 0,
	line_ord      INT2 NOT NULL DEFAULT 0,
	debit_ref     TEXT NOT NULL DEFAULT '', -- the bank's line that proves it
	credit_ref    TEXT NOT NULL DEFAULT '', -- the line by which it came back
	arrived_ref   TEXT NOT NULL DEFAULT '', -- top-up, recharge: where it arrived
	queue         INT2 NOT NULL,
	next_at       TIMESTAMPTZ,
	tries         INT4 NOT NULL DEFAULT 0,
	CONSTRAINT payouts_key PRIMARY KEY (number),
	CONSTRAINT payouts_maker UNIQUE (number, maker),
	CONSTRAINT payouts_number CHECK (length(number) BETWEEN 1 AND 30),
	CONSTRAINT payouts_hospital FOREIGN KEY (hospital, ownership) REFERENCES hospitals (code, ownership),
	CONSTRAINT payouts_payee FOREIGN KEY (payee) REFERENCES payees (id),
	CONSTRAINT payouts_kind CHECK (kind IN ('HOSPITAL', 'SUBSIDY', 'COMPENSATION', 'REROUTED_REFUND', 'FEE_TOPUP', 'RECHARGE')),
	CONSTRAINT payouts_mode CHECK ((mode = 'A' AND kind NOT IN ('HOSPITAL', 'FEE_TOPUP'))
		OR (mode = 'B' AND ownership = 'PRIVATE' AND kind <> 'SUBSIDY')),
	CONSTRAINT payouts_person CHECK ((kind = 'REROUTED_REFUND') = (payee IS NULL) AND (payee IS NULL) = (payee_mark <> '')),
	CONSTRAINT payouts_amount CHECK (amount_fen > 0),
	CONSTRAINT payouts_payload CHECK (length(payload) = 32),
	CONSTRAINT payouts_two_people CHECK (maker <> checker AND needs >= 1),
	CONSTRAINT payouts_state CHECK (state IN ('REQUESTED', 'APPROVED', 'REFUSED', 'SENDING', 'SENT', 'BANK_APPROVAL', 'UNKNOWN',
		'SUCCEEDED', 'REJECTED', 'RETURNED')),
	CONSTRAINT payouts_approved CHECK (state IN ('REQUESTED', 'REFUSED') OR checker <> ''),
	CONSTRAINT payouts_charged CHECK (charged OR state IN ('REQUESTED', 'REFUSED', 'APPROVED')),
	CONSTRAINT payouts_lines CHECK ((debit_ref = '' OR state IN ('SUCCEEDED', 'RETURNED')) AND (credit_ref = '' OR (debit_ref <> '' AND state = 'RETURNED')))
);

-- One payout at a time asks for one settlement, case or refund.
CREATE UNIQUE INDEX payouts_subject ON payouts (hospital, kind, subject) WHERE state IN ('REQUESTED', 'APPROVED') AND subject <> '';

CREATE INDEX payouts_due ON payouts (queue, next_at) WHERE next_at IS NOT NULL;

CREATE INDEX payouts_of_day ON payouts (hospital, day);

CREATE INDEX payouts_of_payee ON payouts (payee);

-- Who is paid where it is a patient. It is erased when its time is over: what
-- stays elsewhere is a keyed commitment.
CREATE TABLE payout_people (
	number  TEXT NOT NULL,
	account TEXT NOT NULL,
	name    TEXT NOT NULL,
	bank    TEXT NOT NULL,
	cnaps   TEXT NOT NULL,
	reason  TEXT NOT NULL,
	proof   TEXT NOT NULL,
	CONSTRAINT payout_people_key PRIMARY KEY (number),
	CONSTRAINT payout_people_payout FOREIGN KEY (number) REFERENCES payouts (number),
	CONSTRAINT payout_people_proof CHECK (name <> '' AND account <> '' AND reason <> '' AND proof <> '')
);

-- The maker stands beside the checker, tied to the payout, so that the CHECK can
-- compare them.
CREATE TABLE payout_approvals (
	number  TEXT NOT NULL,
	person  TEXT NOT NULL,
	maker   TEXT NOT NULL,
	role    TEXT NOT NULL,
	factor  TEXT NOT NULL,
	payload BYTEA NOT NULL,
	day     INT4 NOT NULL,
	at      TIMESTAMPTZ NOT NULL,
	CONSTRAINT payout_approvals_key PRIMARY KEY (number, person),
	CONSTRAINT payout_approvals_payout FOREIGN KEY (number, maker) REFERENCES payouts (number, maker),
	CONSTRAINT payout_approvals_two_people CHECK (person <> maker),
	CONSTRAINT payout_approvals_factor CHECK (factor <> '')
);

CREATE INDEX payout_approvals_day ON payout_approvals (person, day);

-- One switch for all. Whoever asks to resume needs another to agree.
CREATE TABLE payout_pauses (
	id        TEXT NOT NULL,
	switch    TEXT NOT NULL DEFAULT 'ALL',
	paused_by TEXT NOT NULL,
	paused_at TIMESTAMPTZ NOT NULL,
	reason    TEXT NOT NULL,
	asked_by  TEXT NOT NULL DEFAULT '',
	agreed_by TEXT NOT NULL DEFAULT '',
	ended_at  TIMESTAMPTZ,
	CONSTRAINT payout_pauses_key PRIMARY KEY (id),
	CONSTRAINT payout_pauses_switch CHECK (switch = 'ALL' AND paused_by <> '' AND reason <> ''),
	CONSTRAINT payout_pauses_two_people CHECK (ended_at IS NULL OR (asked_by <> '' AND agreed_by <> '' AND asked_by <> agreed_by))
);

CREATE UNIQUE INDEX payout_pauses_one ON payout_pauses (switch) WHERE ended_at IS NULL;

-- Each line of a bank about a payout, once.
CREATE TABLE payout_lines (
	account  TEXT NOT NULL,
	bank_ref TEXT NOT NULL,
	number   TEXT NOT NULL,
	side     TEXT NOT NULL,
	day      INT4 NOT NULL,
	CONSTRAINT payout_lines_key PRIMARY KEY (account, bank_ref),
	CONSTRAINT payout_lines_payout FOREIGN KEY (number) REFERENCES payouts (number),
	CONSTRAINT payout_lines_once UNIQUE (number, side),
	CONSTRAINT payout_lines_side CHECK (side IN ('PAID', 'RETURNED', 'ARRIVED'))
);

CREATE TABLE payout_receipts (
	number     TEXT NOT NULL,
	name       TEXT NOT NULL,
	check_code TEXT NOT NULL,
	hash       BYTEA NOT NULL,
	content    BYTEA NOT NULL,
	fetched_at TIMESTAMPTZ NOT NULL,
	CONSTRAINT payout_receipts_key PRIMARY KEY (number),
	CONSTRAINT payout_receipts_payout FOREIGN KEY (number) REFERENCES payouts (number),
	CONSTRAINT payout_receipts_hash CHECK (length(hash) = 32)
);

GRANT SELECT, INSERT ON payout_limits, payout_bands, payout_windows, payout_approvals, payout_lines, payout_receipts TO clearward_app;

GRANT SELECT, INSERT, UPDATE ON payees, payouts, payout_pauses TO clearward_app;

GRANT SELECT, INSERT, DELETE ON payout_people TO clearward_app;
