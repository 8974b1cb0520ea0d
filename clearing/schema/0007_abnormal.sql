-- Applications for abnormal refunds (退款异常): the money goes to the merchant's own
-- bank account, and from there to the patient by another route (J39). One row per
-- refund; what it was before stands in the journal's events. ARRIVED is the line on
-- the bank's statement, which posts E20c and is counted once.

-- +goose NO TRANSACTION
-- +goose Up

CREATE TABLE abnormal_refunds (
	hospital     TEXT NOT NULL,
	kind         TEXT NOT NULL,
	refund_no    TEXT NOT NULL,
	state        TEXT NOT NULL,
	maker        TEXT NOT NULL, -- '' where it was done on the channel's merchant platform
	checker      TEXT NOT NULL,
	asked_at     TIMESTAMPTZ NOT NULL,
	decided_at   TIMESTAMPTZ,
	reason       TEXT NOT NULL, -- why it ended
	bank_account TEXT NOT NULL,
	bank_ref     TEXT NOT NULL, -- of the line that brought the money
	version      INT4 NOT NULL,
	CONSTRAINT abnormal_refunds_key PRIMARY KEY (hospital, refund_no),
	CONSTRAINT abnormal_refunds_of FOREIGN KEY (hospital, kind, refund_no) REFERENCES refunds (hospital, kind, refund_no),
	CONSTRAINT abnormal_refunds_kind CHECK (kind = 'REFUND'),
	CONSTRAINT abnormal_refunds_states CHECK (state IN ('ASKED', 'SENT', 'PAID', 'ARRIVED', 'REROUTED', 'REJECTED', 'ENDED')),
	CONSTRAINT abnormal_refunds_two_people CHECK (lower(checker) <> lower(maker) OR (checker = '' AND maker = '')),
	CONSTRAINT abnormal_refunds_sent CHECK (state <> 'SENT' OR (maker <> '' AND checker <> '' AND decided_at IS NOT NULL)),
	CONSTRAINT abnormal_refunds_arrived CHECK ((bank_ref <> '') = (state IN ('ARRIVED', 'REROUTED')) AND (bank_ref = '') = (bank_account = ''))
);

-- A bank line brings the money of one refund.
CREATE UNIQUE INDEX abnormal_refunds_line ON abnormal_refunds (bank_account, bank_ref) WHERE bank_ref <> '';

CREATE INDEX refunds_abnormal ON refunds (hospital, refund_no) WHERE abnormal;

GRANT SELECT, INSERT, UPDATE ON abnormal_refunds TO clearward_app;
