-- How far each lane was proven without a finding: the hourly proof begins there,
-- and a journal that ends before it has lost batches.

-- +goose NO TRANSACTION
-- +goose Up

CREATE TABLE proofs (
	lane INT2 NOT NULL,
	seq  INT8 NOT NULL,
	CONSTRAINT proofs_key PRIMARY KEY (lane),
	CONSTRAINT proofs_batch FOREIGN KEY (lane, seq) REFERENCES batches (lane, seq)
);

GRANT SELECT, INSERT, UPDATE ON proofs TO clearward_app;
