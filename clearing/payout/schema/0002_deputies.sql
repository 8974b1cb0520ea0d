-- Whose right an approval used: the person's own, or that of whom a deputy stood in
-- for. One right approves a payout once. '' on rows of before.

-- +goose NO TRANSACTION
-- +goose Up

ALTER TABLE payout_approvals ADD COLUMN holder TEXT NOT NULL DEFAULT '';

ALTER TABLE payout_approvals ADD CONSTRAINT payout_approvals_holder_is_not_maker CHECK (holder <> maker);

CREATE UNIQUE INDEX payout_approvals_holder ON payout_approvals (number, holder) WHERE holder <> '';

CREATE INDEX payout_approvals_holder_day ON payout_approvals (holder, day) WHERE holder <> '';
