-- Refunds that became a debt on one day and were accepted by the channel on a later
-- one: the first day reads them too.

-- +goose NO TRANSACTION
-- +goose Up

CREATE INDEX refunds_owed ON refunds (hospital, owed_day) WHERE owed_day < fund_day;
