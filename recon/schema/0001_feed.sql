-- +goose NO TRANSACTION
-- +goose Up

-- One row per file. It is made by the first record of the file that arrives,
-- line or manifest; what only the manifest knows is empty until it comes.
CREATE TABLE feed_files (
  file          INT8 NOT NULL PRIMARY KEY, -- made of the slice and the bytes, so equal whenever it is fed
  source        TEXT NOT NULL CHECK (source IN ('BILL', 'FUND', 'HIS', 'STATEMENT')),
  hospital      TEXT NOT NULL,
  channel       TEXT NOT NULL,             -- '' for HIS and bank
  account       TEXT NOT NULL,             -- merchant number or bank account, '' for HIS
  day           INT4 NOT NULL,
  state         TEXT NOT NULL CHECK (state IN ('RECEIVED', 'VERIFIED', 'DUPLICATE', 'SUPERSEDED', 'REJECTED')),
  reason        TEXT NOT NULL,             -- why it was rejected
  stored        INT8 NOT NULL CHECK (stored >= 0), -- lines of it that stand in the line table
  part          TEXT NOT NULL CHECK (part IN ('', 'ALL', 'PAY', 'REFUND')), -- '' until the manifest came
  sha256        BYTEA NOT NULL,
  row_count     INT8 NOT NULL,
  line_count    INT8 NOT NULL,
  totals        JSONB NOT NULL,
  digest_pay    BYTEA NOT NULL,
  digest_refund BYTEA NOT NULL,
  fed_at        INT8 NOT NULL,             -- of the manifest that is held, Unix microseconds; 0 until it came
  received_at   TIMESTAMPTZ NOT NULL,
  verified_at   TIMESTAMPTZ,
  CHECK (state IN ('RECEIVED', 'REJECTED') OR (part <> '' AND verified_at IS NOT NULL))
);

-- The files of one slice and day, when it is decided which of them counts.
CREATE INDEX feed_files_slice ON feed_files (day, source, hospital, channel, account);

-- One row per time that a person or agent fed the file: of two contents of one
-- day the one fed later counts, whatever order they arrive in.
CREATE TABLE feed_deliveries (
  file   INT8 NOT NULL REFERENCES feed_files (file),
  fed_at INT8 NOT NULL, -- Unix microseconds
  name   TEXT NOT NULL, -- what the file was called
  PRIMARY KEY (file, fed_at)
);

-- Which file counts for a part of a day, and which content of that part it is.
-- A new content raises the version; the same rows in another file do not.
CREATE TABLE feed_parts (
  day         INT4 NOT NULL,
  source      TEXT NOT NULL,
  hospital    TEXT NOT NULL,
  channel     TEXT NOT NULL,
  account     TEXT NOT NULL,
  part        TEXT NOT NULL CHECK (part IN ('ALL', 'PAY', 'REFUND')),
  file        INT8 NOT NULL REFERENCES feed_files (file),
  digest      BYTEA NOT NULL,
  version     INT8 NOT NULL CHECK (version >= 1),
  verified_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (day, source, hospital, channel, account, part)
);

-- The lines. A line is keyed by its file and its place in it, so that it is
-- stored once however often it arrives; who it belongs to stands in feed_files.
-- There is no foreign key: a day has hundreds of thousands of lines, and each
-- is written in the transaction that writes or reads its file's row.
CREATE TABLE bill_lines (
  file              INT8 NOT NULL,
  row_no            INT4 NOT NULL,
  kind              TEXT NOT NULL CHECK (kind IN ('PAY', 'REFUND', 'REVERSE')),
  status            TEXT NOT NULL CHECK (status IN ('SUCCESS', 'PROCESSING', 'ABNORMAL', 'FAILED')),
  order_no          TEXT NOT NULL,
  refund_no         TEXT NOT NULL,
  trade_no          TEXT NOT NULL,
  channel_refund_no TEXT NOT NULL,
  at                TIMESTAMPTZ NOT NULL,
  amount            INT8 NOT NULL CHECK (amount >= 0), -- fen
  settle            INT8 NOT NULL CHECK (settle >= 0),
  fee               INT8 NOT NULL CHECK (fee >= 0),
  PRIMARY KEY (file, row_no)
);

CREATE TABLE fund_lines (
  file        INT8 NOT NULL,
  row_no      INT4 NOT NULL,
  kind        TEXT NOT NULL CHECK (kind IN ('WITHDRAWAL', 'WITHDRAWAL_RETURN', 'RECHARGE', 'OTHER')),
  at          TIMESTAMPTZ NOT NULL,
  flow_no     TEXT NOT NULL,
  business_no TEXT NOT NULL,
  order_no    TEXT NOT NULL,
  amount      INT8 NOT NULL, -- fen, above zero came in
  balance     INT8 NOT NULL,
  PRIMARY KEY (file, row_no)
);

CREATE TABLE his_lines (
  file             INT8 NOT NULL,
  row_no           INT4 NOT NULL,
  kind             TEXT NOT NULL CHECK (kind IN ('PAY', 'REFUND')),
  channel          TEXT NOT NULL,
  bill_no          TEXT NOT NULL,
  original_bill_no TEXT NOT NULL,
  order_no         TEXT NOT NULL,
  refund_no        TEXT NOT NULL,
  amount           INT8 NOT NULL CHECK (amount >= 0),
  at               TIMESTAMPTZ NOT NULL,
  operator         TEXT NOT NULL,
  biz_type         TEXT NOT NULL,
  tender           TEXT NOT NULL,
  receipt_no       TEXT NOT NULL,
  close_no         TEXT NOT NULL,
  patient          TEXT NOT NULL,
  PRIMARY KEY (file, row_no)
);

CREATE TABLE bank_lines (
  file                 INT8 NOT NULL,
  row_no               INT4 NOT NULL,
  ref                  TEXT NOT NULL,
  end_to_end_id        TEXT NOT NULL,
  book_day             INT4 NOT NULL,
  value_day            INT4 NOT NULL,
  amount               INT8 NOT NULL, -- fen, above zero is a credit
  counterparty         TEXT NOT NULL,
  counterparty_account TEXT NOT NULL,
  remittance           TEXT NOT NULL,
  code                 TEXT NOT NULL,
  return_of            TEXT NOT NULL,
  return_reason        TEXT NOT NULL,
  PRIMARY KEY (file, row_no)
);

-- Dead letters that were sent back to their topic, so that none is sent twice
-- unless a person asks for it.
CREATE TABLE feed_replays (
  letter      TEXT NOT NULL PRIMARY KEY,
  replayed_at TIMESTAMPTZ NOT NULL,
  times       INT8 NOT NULL CHECK (times >= 1)
);

GRANT SELECT, INSERT, UPDATE ON feed_files, feed_parts, feed_replays TO clearward_app;

GRANT SELECT, INSERT ON feed_deliveries, bill_lines, fund_lines, his_lines, bank_lines TO clearward_app;
