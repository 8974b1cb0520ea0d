-- A refund above the finance head's limit is approved by two people beside the one
-- who asked (M02). How many it needs is fixed when it is asked for.

-- +goose NO TRANSACTION
-- +goose Up

ALTER TABLE refunds ADD COLUMN needs INT2 NOT NULL DEFAULT 1;

ALTER TABLE refunds ADD COLUMN first_checker TEXT NOT NULL DEFAULT '';

ALTER TABLE refunds ADD CONSTRAINT refunds_three_people CHECK (needs IN (1, 2) AND (first_checker = '' OR (first_checker <> maker AND first_checker <> checker)));
