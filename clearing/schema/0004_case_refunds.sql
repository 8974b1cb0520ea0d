-- Refunds that pay the debt of a reconciliation case, by case.

-- +goose NO TRANSACTION
-- +goose Up

CREATE INDEX refunds_case ON refunds (hospital, case_id) WHERE case_id <> '';
