-- What is done by the clock: one row per job, claimed by one process at a time,
-- and what its runs came to.

-- +goose NO TRANSACTION
-- +goose Up

CREATE TABLE jobs (
	name        TEXT NOT NULL,
	cron        TEXT NOT NULL,
	paused      BOOL NOT NULL DEFAULT FALSE,
	paused_by   TEXT NOT NULL DEFAULT '',
	next_at     TIMESTAMPTZ NOT NULL, -- when it is due
	owner       TEXT NOT NULL DEFAULT '',
	lease_until TIMESTAMPTZ,
	runs        INT8 NOT NULL DEFAULT 0,
	CONSTRAINT jobs_key PRIMARY KEY (name),
	CONSTRAINT jobs_lease CHECK ((owner = '') = (lease_until IS NULL)),
	CONSTRAINT jobs_pause CHECK (paused = (paused_by <> ''))
);

CREATE TABLE job_runs (
	name       TEXT NOT NULL,
	n          INT8 NOT NULL,
	due_at     TIMESTAMPTZ NOT NULL,
	started_at TIMESTAMPTZ NOT NULL,
	ended_at   TIMESTAMPTZ,
	state      TEXT NOT NULL,
	done       INT8 NOT NULL DEFAULT 0, -- how many things it did
	error      TEXT NOT NULL DEFAULT '',
	owner      TEXT NOT NULL,
	CONSTRAINT job_runs_key PRIMARY KEY (name, n),
	CONSTRAINT job_runs_job FOREIGN KEY (name) REFERENCES jobs (name),
	CONSTRAINT job_runs_state CHECK (state IN ('RUNNING', 'OK', 'FAILED', 'LOST')),
	CONSTRAINT job_runs_ended CHECK ((state = 'RUNNING') = (ended_at IS NULL)),
	CONSTRAINT job_runs_error CHECK ((state IN ('FAILED', 'LOST')) = (error <> ''))
);

GRANT SELECT, INSERT, UPDATE ON jobs TO clearward_app;

GRANT SELECT, INSERT, UPDATE, DELETE ON job_runs TO clearward_app;
