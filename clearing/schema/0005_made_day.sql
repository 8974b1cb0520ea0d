-- The day on which a refund was made here, 0 where it was imported: until the channel
-- accepts it, on that day or a later one, the bill of that day may have it already.

-- +goose NO TRANSACTION
-- +goose Up

ALTER TABLE refunds ADD COLUMN made_day INT4 NOT NULL DEFAULT 0;

CREATE INDEX refunds_made ON refunds (hospital, made_day) WHERE made_day > 0 AND made_day < fund_day;
