-- What only CockroachDB knows. Rows that change at every commit leave versions
-- behind, which every read of a balance would step over for a day; and each lane
-- begins as a range of its own, so that writers do not meet on one node.
-- Written from the documentation of v26.2; not run.

-- +goose NO TRANSACTION
-- +goose Up

ALTER TABLE turnover CONFIGURE ZONE USING gc.ttlseconds = 600;

ALTER TABLE floors CONFIGURE ZONE USING gc.ttlseconds = 600;

ALTER TABLE batches SPLIT AT VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15);

ALTER TABLE entries SPLIT AT VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15);

ALTER TABLE postings SPLIT AT VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15);
