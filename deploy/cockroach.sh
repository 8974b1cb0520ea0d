#!/usr/bin/env bash
# Runs every test that has a database against a CockroachDB: the cluster that
# CLEARWARD_TEST_DATABASE_URL names, else the binary COCKROACH_BINARY or
# `cockroach` in PATH, which the tests start as a single node. Without one of
# them it prints why it did nothing and succeeds.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "${CLEARWARD_TEST_DATABASE_URL:-}" ]; then
  echo "test-cockroach: the cluster that CLEARWARD_TEST_DATABASE_URL names"
elif COCKROACH_BINARY=${COCKROACH_BINARY:-$(command -v cockroach)}; then
  if [ ! -x "$COCKROACH_BINARY" ]; then
    echo "test-cockroach: COCKROACH_BINARY=$COCKROACH_BINARY cannot be run" >&2
    exit 1
  fi
  export COCKROACH_BINARY CLEARWARD_TEST_DB=cockroach
  echo "test-cockroach: $COCKROACH_BINARY as a single node"
else
  echo "test-cockroach: nothing was tested: CLEARWARD_TEST_DATABASE_URL and COCKROACH_BINARY are not set"
  echo "test-cockroach: and there is no cockroach in PATH"
  exit 0
fi

# The packages whose tests open a database, found in the source.
packages=$(grep -rlE --include='*_test.go' 'ledger/db/dbtest"' . | xargs -r -n 1 dirname | sort -u)
if [ -z "$packages" ]; then
  echo "test-cockroach: no test opens a database" >&2
  exit 1
fi
# shellcheck disable=SC2086 # one word per package is what is meant
go test -vet=off -count=1 -p 1 -timeout 60m $packages
