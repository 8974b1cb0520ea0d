-- Payments and refunds that are made here and not only imported; who may ask for
-- them, and where the outside is. Settings hold references to secrets, never one.

-- +goose NO TRANSACTION
-- +goose Up

-- Business apps: the programs of a hospital that pay and refund through us.
CREATE TABLE apps (
	name       TEXT NOT NULL,
	notify_url TEXT NOT NULL, -- '' for none: such an app asks
	CONSTRAINT apps_key PRIMARY KEY (name)
);

CREATE TABLE app_hospitals (
	app      TEXT NOT NULL,
	hospital TEXT NOT NULL,
	CONSTRAINT app_hospitals_key PRIMARY KEY (app, hospital),
	CONSTRAINT app_hospitals_app FOREIGN KEY (app) REFERENCES apps (name),
	CONSTRAINT app_hospitals_hospital FOREIGN KEY (hospital) REFERENCES hospitals (code)
);

-- Up to which amount a refund needs no second person, and in which order the
-- payments of a stay are refunded.
CREATE TABLE refund_policies (
	hospital          TEXT NOT NULL,
	from_day          INT4 NOT NULL,
	cashier_limit_fen INT8 NOT NULL,
	head_limit_fen    INT8 NOT NULL,
	refund_order      TEXT NOT NULL,
	CONSTRAINT refund_policies_key PRIMARY KEY (hospital, from_day),
	CONSTRAINT refund_policies_hospital FOREIGN KEY (hospital) REFERENCES hospitals (code),
	CONSTRAINT refund_policies_limits CHECK (0 <= cashier_limit_fen AND cashier_limit_fen <= head_limit_fen),
	CONSTRAINT refund_policies_order CHECK (refund_order IN ('NEWEST', 'OLDEST', 'ROUTE'))
);

-- How a merchant number is reached. Settings is a JSON object of plain ids and of
-- references to secrets ("file:…", "env:…").
CREATE TABLE gateways (
	channel     TEXT NOT NULL,
	merchant_no TEXT NOT NULL,
	api         TEXT NOT NULL,
	environment TEXT NOT NULL,
	settings    TEXT NOT NULL,
	CONSTRAINT gateways_key PRIMARY KEY (channel, merchant_no),
	CONSTRAINT gateways_merchant FOREIGN KEY (channel, merchant_no) REFERENCES merchants (channel, merchant_no),
	CONSTRAINT gateways_environment CHECK (environment IN ('PRODUCTION', 'SANDBOX'))
);

CREATE TABLE his_links (
	hospital TEXT NOT NULL,
	url      TEXT NOT NULL,
	format   TEXT NOT NULL,
	secret   TEXT NOT NULL, -- a reference
	CONSTRAINT his_links_key PRIMARY KEY (hospital),
	CONSTRAINT his_links_hospital FOREIGN KEY (hospital) REFERENCES hospitals (code),
	CONSTRAINT his_links_format CHECK (format IN ('JSON', 'XML'))
);

CREATE TABLE bank_links (
	account  TEXT NOT NULL,
	url      TEXT NOT NULL,
	settings TEXT NOT NULL,
	CONSTRAINT bank_links_key PRIMARY KEY (account)
);

-- Calls to the outside with their answers, masked; nothing is ever changed. N
-- is drawn, so that two calls of one moment are two rows.
CREATE TABLE exchanges (
	day      INT4 NOT NULL,
	number   TEXT NOT NULL, -- of the payment, refund or transfer
	n        INT8 NOT NULL,
	call     TEXT NOT NULL,
	at       TIMESTAMPTZ NOT NULL,
	took_ms  INT8 NOT NULL,
	status   INT4 NOT NULL, -- HTTP, 0 where nothing came back
	request  TEXT NOT NULL,
	response TEXT NOT NULL,
	fault    TEXT NOT NULL,
	CONSTRAINT exchanges_key PRIMARY KEY (day, number, n)
);

ALTER TABLE payments ADD COLUMN app TEXT NOT NULL DEFAULT '';
ALTER TABLE payments ADD COLUMN way TEXT NOT NULL DEFAULT '';
ALTER TABLE payments ADD COLUMN expires_at TIMESTAMPTZ;
ALTER TABLE payments ADD COLUMN prepay TEXT NOT NULL DEFAULT '';
ALTER TABLE payments ADD COLUMN reason_kind TEXT NOT NULL DEFAULT '';
ALTER TABLE payments ADD COLUMN reason_code TEXT NOT NULL DEFAULT '';
ALTER TABLE payments ADD COLUMN reason_text TEXT NOT NULL DEFAULT '';
ALTER TABLE payments ADD COLUMN act TEXT NOT NULL DEFAULT '';
ALTER TABLE payments ADD COLUMN next_at TIMESTAMPTZ;
ALTER TABLE payments ADD COLUMN tries INT4 NOT NULL DEFAULT 0;
ALTER TABLE payments ADD COLUMN queue INT2 NOT NULL DEFAULT 0;
ALTER TABLE payments ADD COLUMN live BOOL NOT NULL DEFAULT FALSE;
ALTER TABLE payments ADD COLUMN late BOOL NOT NULL DEFAULT FALSE;
ALTER TABLE payments ADD COLUMN posted BOOL NOT NULL DEFAULT FALSE;
ALTER TABLE payments ADD COLUMN held BOOL NOT NULL DEFAULT FALSE;
ALTER TABLE payments ADD COLUMN his TEXT NOT NULL DEFAULT '';
ALTER TABLE payments ADD COLUMN his_next_at TIMESTAMPTZ;
ALTER TABLE payments ADD COLUMN his_tries INT4 NOT NULL DEFAULT 0;
ALTER TABLE payments ADD COLUMN acked_fen INT8 NOT NULL DEFAULT 0;
ALTER TABLE payments ADD COLUMN requested_fen INT8 NOT NULL DEFAULT 0;
ALTER TABLE payments ADD COLUMN version INT4 NOT NULL DEFAULT 0;

UPDATE payments SET posted = TRUE WHERE status = 'SUCCESS';

ALTER TABLE payments DROP CONSTRAINT payments_status;
ALTER TABLE payments ADD CONSTRAINT payments_states CHECK (status IN ('CREATED', 'PAYING', 'UNKNOWN', 'SUCCESS', 'FAILED', 'CLOSED', 'REVERSED'));
ALTER TABLE payments ADD CONSTRAINT payments_only_paid CHECK (status = 'SUCCESS' OR (requested_fen = 0 AND acked_fen = 0 AND NOT posted AND NOT late AND his = ''));
ALTER TABLE payments ADD CONSTRAINT payments_open CHECK (NOT live OR (NOT late AND status IN ('CREATED', 'PAYING', 'UNKNOWN', 'SUCCESS')));
ALTER TABLE payments ADD CONSTRAINT payments_given_back CHECK (requested_fen >= 0 AND refunded_fen + requested_fen <= amount_fen);
ALTER TABLE payments ADD CONSTRAINT payments_acked CHECK (acked_fen BETWEEN 0 AND amount_fen AND (acked_fen = 0 OR posted));
ALTER TABLE payments ADD CONSTRAINT payments_his CHECK (his IN ('', 'WAIT', 'DONE', 'REFUSED'));

-- One live payment per bill (A08, U02).
CREATE UNIQUE INDEX payments_live ON payments (hospital, bill_no) WHERE live;
CREATE INDEX payments_due ON payments (queue, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX payments_his_due ON payments (queue, his_next_at) WHERE his_next_at IS NOT NULL;

ALTER TABLE refunds ADD COLUMN payment_no TEXT;
ALTER TABLE refunds ADD COLUMN app TEXT NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN cause TEXT NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN maker TEXT NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN checker TEXT NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN approval TEXT NOT NULL DEFAULT ''; -- the condition that asks for a second person
ALTER TABLE refunds ADD COLUMN case_id TEXT NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN debt_no TEXT NOT NULL DEFAULT '';  -- the number under which 2205 and 1125 keep it
ALTER TABLE refunds ADD COLUMN next_no TEXT NOT NULL DEFAULT '';  -- CLOSED: the refund that goes on with the debt
ALTER TABLE refunds ADD COLUMN settlement_no TEXT NOT NULL DEFAULT ''; -- of the insurance, B17
ALTER TABLE refunds ADD COLUMN channel_refund_no TEXT NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN total_fen INT8 NOT NULL DEFAULT 0; -- of the payment, for the channel
ALTER TABLE refunds ADD COLUMN owed_fen INT8 NOT NULL DEFAULT 0;  -- made a debt by this row (debit), 0 where the debt stood before
ALTER TABLE refunds ADD COLUMN owed_day INT4 NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN debit TEXT NOT NULL DEFAULT '';    -- the journal that made it so
ALTER TABLE refunds ADD COLUMN posted BOOL NOT NULL DEFAULT FALSE; -- J19a and J20 stand
ALTER TABLE refunds ADD COLUMN held BOOL NOT NULL DEFAULT FALSE;
ALTER TABLE refunds ADD COLUMN abnormal BOOL NOT NULL DEFAULT FALSE;
ALTER TABLE refunds ADD COLUMN in_flight BOOL NOT NULL DEFAULT FALSE;
ALTER TABLE refunds ADD COLUMN reason_kind TEXT NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN reason_code TEXT NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN reason_text TEXT NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN act TEXT NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN next_at TIMESTAMPTZ;
ALTER TABLE refunds ADD COLUMN tries INT4 NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN queue INT2 NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN his TEXT NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN his_next_at TIMESTAMPTZ;
ALTER TABLE refunds ADD COLUMN his_tries INT4 NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN version INT4 NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN created_at TIMESTAMPTZ; -- NULL: imported

UPDATE refunds SET payment_no = order_no, debt_no = refund_no,
	debit = CASE WHEN status = 'FAILED' THEN '' WHEN kind = 'REVERSE' THEN 'J22' ELSE 'J18' END,
	owed_fen = CASE WHEN status = 'FAILED' THEN 0 ELSE amount_fen END,
	owed_day = CASE WHEN status = 'FAILED' THEN 0 ELSE fund_day END,
	posted = (status = 'SUCCESS');

-- A case may give back money of an order that the platform never knew.
ALTER TABLE refunds DROP CONSTRAINT refunds_payment;
ALTER TABLE refunds ADD CONSTRAINT refunds_of FOREIGN KEY (hospital, payment_no) REFERENCES payments (hospital, order_no);
ALTER TABLE refunds DROP CONSTRAINT refunds_status;
ALTER TABLE refunds ADD CONSTRAINT refunds_states CHECK (status IN ('APPROVING', 'CANCELLING', 'OWED', 'SUCCESS', 'CLOSED', 'FAILED', 'REROUTED'));
ALTER TABLE refunds ADD CONSTRAINT refunds_flying CHECK (NOT in_flight OR status IN ('APPROVING', 'CANCELLING', 'OWED'));
ALTER TABLE refunds ADD CONSTRAINT refunds_same_order CHECK (payment_no IS NULL OR payment_no = order_no);
ALTER TABLE refunds ADD CONSTRAINT refunds_debt CHECK (owed_fen IN (0, amount_fen) AND ((owed_fen = 0) = (debit = '')) AND ((owed_fen = 0) = (owed_day = 0)));
ALTER TABLE refunds ADD CONSTRAINT refunds_posted CHECK (NOT posted OR status = 'SUCCESS');
ALTER TABLE refunds ADD CONSTRAINT refunds_two_people CHECK (checker = '' OR checker <> maker);
ALTER TABLE refunds ADD CONSTRAINT refunds_his CHECK (his IN ('', 'WAIT', 'DONE', 'REFUSED'));

-- One refund of an order in flight; an insurance settlement is given back once.
CREATE UNIQUE INDEX refunds_one_in_flight ON refunds (hospital, order_no) WHERE in_flight;
CREATE UNIQUE INDEX refunds_settlement ON refunds (hospital, settlement_no) WHERE settlement_no <> '' AND status <> 'FAILED';
CREATE INDEX refunds_waiting ON refunds (hospital, status, refund_no) WHERE status IN ('APPROVING', 'CANCELLING', 'OWED', 'CLOSED');
CREATE INDEX refunds_due ON refunds (queue, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX refunds_his_due ON refunds (queue, his_next_at) WHERE his_next_at IS NOT NULL;

-- What a business app is told. Versions of one number only rise.
CREATE TABLE app_notices (
	number     TEXT NOT NULL, -- of the payment or refund
	version    INT4 NOT NULL,
	app        TEXT NOT NULL,
	hospital   TEXT NOT NULL,
	kind       TEXT NOT NULL,
	body       TEXT NOT NULL,
	created_at TIMESTAMPTZ NOT NULL,
	state      TEXT NOT NULL,
	next_at    TIMESTAMPTZ,
	tries      INT4 NOT NULL,
	queue      INT2 NOT NULL,
	last_error TEXT NOT NULL,
	CONSTRAINT app_notices_key PRIMARY KEY (number, version),
	CONSTRAINT app_notices_states CHECK (state IN ('WAIT', 'DONE', 'GIVEN_UP') AND ((state = 'WAIT') = (next_at IS NOT NULL)))
);

CREATE INDEX app_notices_due ON app_notices (queue, next_at) WHERE next_at IS NOT NULL;

GRANT SELECT, INSERT ON app_hospitals, refund_policies, exchanges TO clearward_app;

GRANT SELECT, INSERT, UPDATE ON apps, gateways, his_links, bank_links, app_notices TO clearward_app;
