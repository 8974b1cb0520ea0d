-- Master data, and the payments and refunds of the business apps. Days are
-- numbers yyyymmdd in Beijing time, money is whole fen, times are UTC.

-- +goose NO TRANSACTION
-- +goose Up

CREATE TABLE regions (
	code TEXT NOT NULL,
	name TEXT NOT NULL,
	CONSTRAINT regions_key PRIMARY KEY (code)
);

CREATE TABLE hospitals (
	code      TEXT NOT NULL,
	name      TEXT NOT NULL,
	region    TEXT NOT NULL,
	ownership TEXT NOT NULL,
	his_calls TEXT NOT NULL, -- who calls the hospital's HIS
	CONSTRAINT hospitals_key PRIMARY KEY (code),
	CONSTRAINT hospitals_ownership UNIQUE (code, ownership),
	CONSTRAINT hospitals_name UNIQUE (code, name),
	CONSTRAINT hospitals_region FOREIGN KEY (region) REFERENCES regions (code),
	CONSTRAINT hospitals_owner CHECK (ownership IN ('PUBLIC', 'PRIVATE')),
	CONSTRAINT hospitals_his CHECK (his_calls IN ('APP', 'PLATFORM'))
);

-- A settlement account is in the hospital's own name: the name of the hospital
-- stands beside it, tied to the hospital, so that the CHECK can compare them.
CREATE TABLE bank_accounts (
	hospital      TEXT NOT NULL,
	account       TEXT NOT NULL,
	role          TEXT NOT NULL,
	name          TEXT NOT NULL,
	bank          TEXT NOT NULL,
	hospital_name TEXT NOT NULL,
	CONSTRAINT bank_accounts_key PRIMARY KEY (hospital, account),
	CONSTRAINT bank_accounts_role UNIQUE (hospital, account, role),
	CONSTRAINT bank_accounts_hospital FOREIGN KEY (hospital, hospital_name) REFERENCES hospitals (code, name),
	CONSTRAINT bank_accounts_roles CHECK (role IN ('SETTLEMENT', 'CUSTODY')),
	CONSTRAINT bank_accounts_own_name CHECK (role <> 'SETTLEMENT' OR name = hospital_name)
);

CREATE UNIQUE INDEX bank_accounts_one_owner ON bank_accounts (account) WHERE role = 'SETTLEMENT';

-- Accounts of the platform itself.
CREATE TABLE own_accounts (
	account TEXT NOT NULL,
	name    TEXT NOT NULL,
	bank    TEXT NOT NULL,
	CONSTRAINT own_accounts_key PRIMARY KEY (account)
);

-- A public hospital never runs on mode B: its ownership stands beside the mode,
-- tied to the hospital. Each mode settles to an account of its own role.
CREATE TABLE merchants (
	channel       TEXT NOT NULL,
	merchant_no   TEXT NOT NULL,
	hospital      TEXT NOT NULL,
	ownership     TEXT NOT NULL,
	kind          TEXT NOT NULL,
	settle_mode   TEXT NOT NULL,
	settles_to    TEXT NOT NULL,
	settles_role  TEXT NOT NULL,
	retained_fen  INT8 NOT NULL,
	coupon_bearer TEXT NOT NULL,
	fee_returned  BOOL NOT NULL,
	contract_no   TEXT NOT NULL,
	CONSTRAINT merchants_key PRIMARY KEY (channel, merchant_no),
	CONSTRAINT merchants_slice UNIQUE (hospital, channel, merchant_no),
	CONSTRAINT merchants_hospital FOREIGN KEY (hospital, ownership) REFERENCES hospitals (code, ownership),
	CONSTRAINT merchants_account FOREIGN KEY (hospital, settles_to, settles_role) REFERENCES bank_accounts (hospital, account, role),
	CONSTRAINT merchants_channel CHECK (channel IN ('WECHAT', 'ALIPAY', 'UNIONPAY', 'POS', 'AGG')),
	CONSTRAINT merchants_kind CHECK (kind IN ('DIRECT', 'SUB')),
	CONSTRAINT merchants_public CHECK (NOT (ownership = 'PUBLIC' AND settle_mode = 'B')),
	CONSTRAINT merchants_mode CHECK ((settle_mode = 'A' AND settles_role = 'SETTLEMENT') OR (settle_mode = 'B' AND settles_role = 'CUSTODY')),
	CONSTRAINT merchants_retained CHECK (retained_fen >= 0),
	CONSTRAINT merchants_coupon CHECK (coupon_bearer IN ('HOSPITAL', 'PLATFORM'))
);

-- Other numbers by which a channel's files know a merchant number.
CREATE TABLE merchant_aliases (
	channel     TEXT NOT NULL,
	alias       TEXT NOT NULL,
	merchant_no TEXT NOT NULL,
	CONSTRAINT merchant_aliases_key PRIMARY KEY (channel, alias),
	CONSTRAINT merchant_aliases_merchant FOREIGN KEY (channel, merchant_no) REFERENCES merchants (channel, merchant_no)
);

-- Order numbers that begin so are another business on the same number.
CREATE TABLE foreign_prefixes (
	channel     TEXT NOT NULL,
	merchant_no TEXT NOT NULL,
	prefix      TEXT NOT NULL,
	CONSTRAINT foreign_prefixes_key PRIMARY KEY (channel, merchant_no, prefix),
	CONSTRAINT foreign_prefixes_merchant FOREIGN KEY (channel, merchant_no) REFERENCES merchants (channel, merchant_no)
);

CREATE TABLE merchant_rates (
	channel     TEXT NOT NULL,
	merchant_no TEXT NOT NULL,
	from_day    INT4 NOT NULL,
	rate        DECIMAL(9, 6) NOT NULL,
	bearer      TEXT NOT NULL,
	CONSTRAINT merchant_rates_key PRIMARY KEY (channel, merchant_no, from_day),
	CONSTRAINT merchant_rates_merchant FOREIGN KEY (channel, merchant_no) REFERENCES merchants (channel, merchant_no),
	CONSTRAINT merchant_rates_rate CHECK (rate >= 0 AND rate < 0.1),
	CONSTRAINT merchant_rates_bearer CHECK (bearer IN ('PLATFORM', 'HOSPITAL'))
);

-- What the channel held at the cut-over. It is compared, never posted.
CREATE TABLE opening_balances (
	channel     TEXT NOT NULL,
	merchant_no TEXT NOT NULL,
	fen         INT8 NOT NULL,
	arrives     INT4, -- when it reaches the bank; NULL: it is retained
	CONSTRAINT opening_balances_key PRIMARY KEY (channel, merchant_no),
	CONSTRAINT opening_balances_merchant FOREIGN KEY (channel, merchant_no) REFERENCES merchants (channel, merchant_no),
	CONSTRAINT opening_balances_fen CHECK (fen >= 0)
);

-- Under which names the channels pay: bank lines of other names are out of scope.
CREATE TABLE counterparties (
	channel TEXT NOT NULL,
	name    TEXT NOT NULL,
	account TEXT NOT NULL,
	CONSTRAINT counterparties_key PRIMARY KEY (channel, name, account)
);

-- Days on which banks do other than the day of the week says.
CREATE TABLE bank_days (
	day     INT4 NOT NULL,
	working BOOL NOT NULL,
	CONSTRAINT bank_days_key PRIMARY KEY (day)
);

-- A payment as the business app tells it. The sums of its refunds stand in the
-- same row, which is the lock of what may still be refunded. Digest is a hash of
-- what reconciliation reads, so that a change of a day is seen by a sum.
CREATE TABLE payments (
	hospital            TEXT NOT NULL,
	order_no            TEXT NOT NULL,
	channel             TEXT NOT NULL,
	merchant_no         TEXT NOT NULL,
	trade_no            TEXT NOT NULL,
	amount_fen          INT8 NOT NULL,
	settle_fen          INT8 NOT NULL,
	fee_fen             INT8 NOT NULL, -- accrued
	occurred_at         TIMESTAMPTZ NOT NULL,
	channel_success_at  TIMESTAMPTZ,
	status              TEXT NOT NULL,
	bill_no             TEXT NOT NULL,
	biz_type            TEXT NOT NULL,
	terminal            TEXT NOT NULL,
	patient_ref         TEXT NOT NULL,
	fund_day            INT4 NOT NULL,
	digest              INT8 NOT NULL,
	refunded_fen        INT8 NOT NULL DEFAULT 0,
	refunded_settle_fen INT8 NOT NULL DEFAULT 0,
	fee_returned_fen    INT8 NOT NULL DEFAULT 0,
	CONSTRAINT payments_key PRIMARY KEY (hospital, order_no),
	CONSTRAINT payments_merchant FOREIGN KEY (hospital, channel, merchant_no) REFERENCES merchants (hospital, channel, merchant_no),
	CONSTRAINT payments_status CHECK (status IN ('SUCCESS', 'FAILED')),
	CONSTRAINT payments_amount CHECK (amount_fen > 0 AND settle_fen BETWEEN 0 AND amount_fen AND fee_fen BETWEEN 0 AND settle_fen),
	CONSTRAINT payments_failed CHECK (status = 'SUCCESS' OR (settle_fen = 0 AND refunded_fen = 0 AND channel_success_at IS NULL)),
	CONSTRAINT payments_refunded CHECK (refunded_fen BETWEEN 0 AND amount_fen),
	CONSTRAINT payments_refunded_settle CHECK (refunded_settle_fen BETWEEN 0 AND settle_fen),
	CONSTRAINT payments_fee_returned CHECK (fee_returned_fen BETWEEN 0 AND fee_fen)
);

CREATE INDEX payments_slice ON payments (hospital, fund_day, channel, merchant_no);

CREATE INDEX payments_bill ON payments (hospital, bill_no);

-- A refund, or the reversal (撤销) of a payment, whose number is the order's.
CREATE TABLE refunds (
	hospital           TEXT NOT NULL,
	kind               TEXT NOT NULL,
	refund_no          TEXT NOT NULL,
	order_no           TEXT NOT NULL,
	channel            TEXT NOT NULL,
	merchant_no        TEXT NOT NULL,
	trade_no           TEXT NOT NULL,
	amount_fen         INT8 NOT NULL,
	settle_fen         INT8 NOT NULL,
	fee_fen            INT8 NOT NULL, -- given back
	occurred_at        TIMESTAMPTZ NOT NULL, -- acceptance
	channel_success_at TIMESTAMPTZ,          -- makes it final
	status             TEXT NOT NULL,
	bill_no            TEXT NOT NULL,
	biz_type           TEXT NOT NULL,
	terminal           TEXT NOT NULL,
	patient_ref        TEXT NOT NULL,
	fund_day           INT4 NOT NULL,
	digest             INT8 NOT NULL,
	CONSTRAINT refunds_key PRIMARY KEY (hospital, kind, refund_no),
	CONSTRAINT refunds_payment FOREIGN KEY (hospital, order_no) REFERENCES payments (hospital, order_no),
	CONSTRAINT refunds_kind CHECK (kind IN ('REFUND', 'REVERSE')),
	CONSTRAINT refunds_status CHECK (status IN ('SUCCESS', 'FAILED')),
	CONSTRAINT refunds_amount CHECK (amount_fen > 0 AND settle_fen BETWEEN 0 AND amount_fen AND fee_fen BETWEEN 0 AND settle_fen),
	CONSTRAINT refunds_failed CHECK (status = 'SUCCESS' OR (settle_fen = 0 AND channel_success_at IS NULL))
);

CREATE INDEX refunds_slice ON refunds (hospital, fund_day, channel, merchant_no);

CREATE INDEX refunds_order ON refunds (hospital, order_no);

CREATE INDEX refunds_bill ON refunds (hospital, bill_no);

GRANT SELECT, INSERT ON regions, bank_accounts, own_accounts, merchant_aliases, foreign_prefixes, merchant_rates, opening_balances, counterparties, bank_days TO clearward_app;

GRANT SELECT, INSERT, UPDATE ON hospitals, merchants, payments, refunds TO clearward_app;
