-- Days reconciled: what stands of each leg, the immutable runs with their
-- versions and items, and the cases that people work on. Amounts are fen.
-- +goose NO TRANSACTION
-- +goose Up

-- One row per payment, refund, reversal, settlement or bank line that a run has
-- seen: the journals that stand for it and, while it is open or crossed days,
-- its lines. A run compares what should stand with what stands here.
CREATE TABLE recon_legs (
  hospital     TEXT NOT NULL,
  day          INT4 NOT NULL, -- the business day that the leg counts on
  order_no     TEXT NOT NULL,
  kind         TEXT NOT NULL CHECK (kind IN ('PAY', 'REFUND', 'REVERSE', 'SETTLE', 'BANK')),
  refund_no    TEXT NOT NULL,
  channel      TEXT NOT NULL,
  merchant_no  TEXT NOT NULL,
  code         TEXT NOT NULL,
  case_id      TEXT NOT NULL,
  d_fen        INT8 NOT NULL,
  first_day    INT4 NOT NULL, -- of the days of its lines: runs of each of them look at it
  last_day     INT4 NOT NULL,
  open         BOOL NOT NULL,
  decided      BOOL NOT NULL, -- a person has decided it; HIS's own correction is still to come
  settled      BOOL NOT NULL, -- released, and its money is in the hospital's account
  effects      TEXT NOT NULL,
  proved_fen   INT8 NOT NULL,
  lines        TEXT NOT NULL, -- JSON; '' for a plain match
  PRIMARY KEY (hospital, day, order_no, kind, refund_no),
  CHECK (NOT open OR lines <> '')
);

CREATE INDEX recon_legs_open ON recon_legs (hospital) WHERE open;

CREATE INDEX recon_legs_crossed ON recon_legs (hospital, last_day) WHERE first_day <> last_day;

CREATE INDEX recon_legs_case ON recon_legs (case_id) WHERE case_id <> '';

-- A run of one hospital's day, published as a whole and never changed.
CREATE TABLE recon_runs (
  hospital     TEXT NOT NULL,
  day          INT4 NOT NULL,
  run          INT4 NOT NULL CHECK (run >= 1),
  published_at TIMESTAMPTZ NOT NULL,
  scope_lines  INT8 NOT NULL, -- bank lines out of scope
  scope_fen    INT8 NOT NULL,
  netzero      INT8 NOT NULL, -- 一正一负 payments
  netzero_fen  INT8 NOT NULL,
  PRIMARY KEY (hospital, day, run)
);

-- The version of one pair that a run published: same inputs, same version.
CREATE TABLE recon_versions (
  hospital    TEXT NOT NULL,
  day         INT4 NOT NULL,
  pair        TEXT NOT NULL CHECK (pair IN ('INFO', 'FUNDS', 'BANK')),
  channel     TEXT NOT NULL,
  merchant_no TEXT NOT NULL,
  version     INT4 NOT NULL CHECK (version >= 1),
  run         INT4 NOT NULL,
  inputs      BYTEA NOT NULL,
  stats       TEXT NOT NULL, -- JSON: counts, sums and the proof
  PRIMARY KEY (hospital, day, pair, channel, merchant_no, version),
  FOREIGN KEY (hospital, day, run) REFERENCES recon_runs (hospital, day, run)
);

-- The rows of the list of a run.
CREATE TABLE recon_items (
  hospital     TEXT NOT NULL,
  day          INT4 NOT NULL,
  run          INT4 NOT NULL,
  n            INT4 NOT NULL, -- from 1,000,000 on: items of the bank pair
  code         TEXT NOT NULL,
  channel      TEXT NOT NULL,
  merchant_no  TEXT NOT NULL,
  order_no     TEXT NOT NULL,
  refund_no    TEXT NOT NULL,
  bank_ref     TEXT NOT NULL,
  his_fen      INT8,
  platform_fen INT8,
  channel_fen  INT8,
  amount_fen   INT8 NOT NULL,
  fee_diff_fen INT8 NOT NULL,
  case_id      TEXT NOT NULL,
  note         TEXT NOT NULL,
  PRIMARY KEY (hospital, day, run, n),
  FOREIGN KEY (hospital, day, run) REFERENCES recon_runs (hospital, day, run)
);

-- What of a merchant number's money has been proved, released, settled and made
-- the hospital's own, as running sums: J25 and J28c post the differences.
CREATE TABLE recon_merchants (
  channel      TEXT NOT NULL,
  merchant_no     TEXT NOT NULL,
  hospital        TEXT NOT NULL,
  proved_fen      INT8 NOT NULL,
  released_fen    INT8 NOT NULL CHECK (released_fen >= 0),
  arrived_fen     INT8 NOT NULL CHECK (arrived_fen >= 0),
  settled_fee_fen INT8 NOT NULL, -- billed less returned of the settlements that left the channel
  owned_fen       INT8 NOT NULL CHECK (owned_fen <= released_fen), -- gross made the hospital's own
  owned_fee_fen   INT8 NOT NULL,
  PRIMARY KEY (channel, merchant_no),
  CHECK (owned_fen - owned_fee_fen <= arrived_fen)
);

CREATE TABLE recon_cases (
  id           TEXT NOT NULL PRIMARY KEY, -- case_20260915_…
  hospital     TEXT NOT NULL,
  day          INT4 NOT NULL,
  kind         TEXT NOT NULL,
  order_no     TEXT NOT NULL,
  refund_no    TEXT NOT NULL,
  channel      TEXT NOT NULL,
  merchant_no  TEXT NOT NULL,
  bank_ref     TEXT NOT NULL,
  code         TEXT NOT NULL,
  amount_fen   INT8 NOT NULL,
  his_fen      INT8,
  platform_fen INT8,
  channel_fen  INT8,
  fee_diff_fen INT8 NOT NULL, -- F7: billed less the rule
  note         TEXT NOT NULL,
  state        TEXT NOT NULL CHECK (state IN ('OPEN', 'PROPOSED', 'APPROVED', 'CLOSED', 'AUTO_CLOSED')),
  resolution   TEXT NOT NULL,
  reason       TEXT NOT NULL,
  maker        TEXT NOT NULL,
  checker      TEXT NOT NULL,
  opened_at    TIMESTAMPTZ NOT NULL,
  changed_at   TIMESTAMPTZ NOT NULL,
  CHECK (checker = '' OR checker <> maker),
  CHECK (state <> 'CLOSED' OR (maker <> '' AND checker <> '' AND resolution <> ''))
);

CREATE INDEX recon_cases_day ON recon_cases (hospital, day);

-- Who did what to a case, in order. Nothing here is changed.
CREATE TABLE recon_case_log (
  case_id TEXT NOT NULL REFERENCES recon_cases (id),
  n       INT4 NOT NULL,
  at      TIMESTAMPTZ NOT NULL,
  who     TEXT NOT NULL,
  act     TEXT NOT NULL,
  detail  TEXT NOT NULL,
  PRIMARY KEY (case_id, n)
);

GRANT SELECT, INSERT, UPDATE ON recon_legs, recon_merchants, recon_cases TO clearward_app;

GRANT SELECT, INSERT ON recon_runs, recon_versions, recon_items, recon_case_log TO clearward_app;
