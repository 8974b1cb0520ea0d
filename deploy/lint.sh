#!/usr/bin/env bash
# Form, vet, staticcheck, unchecked errors and dead code, in this order; every
# one runs even where an earlier one complains. The linters' versions stand in
# lint.mod, apart from the program's own.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=0

run() {
  local name=$1
  shift
  local out
  if out=$("$@" 2>&1) && [ -z "$out" ]; then
    echo "lint: $name: clean"
  else
    echo "$out"
    echo "lint: $name: see above"
    failed=1
  fi
}
tool() { go tool -modfile=lint.mod "$@"; }

# What is committed or would be: not the build folder, not what others generate.
formatted() { git ls-files -z --cached --others --exclude-standard -- '*.go' | xargs -0 -r gofmt -l; }
tidy_modules() { go mod verify >/dev/null && go mod tidy -diff; }

# Everything that the program's main cannot reach is dead. The helper package
# that only tests may import is not the program's.
dead() {
  tool deadcode -filter='^github.com/clearward/clearward' ./... | grep -v -e '^ledger/db/dbtest/' -e '^channels/filetest/' || true
}

run gofmt formatted
run modules tidy_modules
run vet go vet ./...
run staticcheck tool staticcheck ./...
run errcheck tool errcheck -ignoregenerated -exclude .errcheck ./...
run deadcode dead
exit "$failed"
