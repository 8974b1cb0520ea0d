-- What people had the program do of which nothing else keeps who it was: jobs that
-- were paused, resumed or run, and setups. Rows are only ever added.

-- +goose NO TRANSACTION
-- +goose Up

CREATE TABLE acts (
	day     INT4 NOT NULL,
	id      TEXT NOT NULL, -- drawn
	at      TIMESTAMPTZ NOT NULL,
	who     TEXT NOT NULL,
	act     TEXT NOT NULL,
	subject TEXT NOT NULL,
	detail  TEXT NOT NULL,
	CONSTRAINT acts_key PRIMARY KEY (day, id),
	CONSTRAINT acts_who CHECK (who <> '' AND act <> '')
);

GRANT SELECT, INSERT ON acts TO clearward_app;
