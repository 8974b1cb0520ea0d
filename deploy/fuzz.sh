#!/usr/bin/env bash
# Runs every fuzz target of the project for a while, one after the other.
#
#   deploy/fuzz.sh 20s
#
# The targets are found in the source, so that none can be forgotten; finding
# none is a failure. An input that breaks a target is kept by Go under that
# package's testdata/fuzz and belongs into the repository with the repair.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:?how long each target runs, such as 20s or 10m}

targets=$(grep -rnoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' . |
  sed -E 's#^(.*)/[^/]+:[0-9]+:func (Fuzz[A-Za-z0-9_]*)\($#\1 \2#' | sort)
if [ -z "$targets" ]; then
  echo "fuzz: no target found" >&2
  exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# When the time is up, Go 1.26 now and then reports its own stop as the failure
# "context deadline exceeded" (golang/go#75804, repaired in 1.27). That is no
# finding: no input is written, and every input known so far passes.
# Minimizing is kept short: Go also minimizes every input that merely reaches new
# code, and would spend nearly all of the time on it (8 tries in 10 s, not 80,000).
fuzz() { go test -vet=off -run='^$' -fuzz="^$2\$" -fuzztime="$time" -fuzzminimizetime=10x "$1" >"$log" 2>&1; }
only_stopped() {
  grep -q '^ *context deadline exceeded$' "$log" && ! grep -q 'Failing input written' "$log" &&
    go test -vet=off -count=1 -run="^$2\$" "$1" >/dev/null 2>&1
}

failed=0 count=0
while read -r package target; do
  count=$((count + 1))
  if fuzz "$package" "$target" || only_stopped "$package" "$target"; then
    echo "$package $target $(grep -E '^fuzz: elapsed' "$log" | tail -n 1)"
  else
    cat "$log"
    echo "$package $target: a finding, see above"
    failed=$((failed + 1))
  fi
done <<<"$targets"
echo "fuzz: $count targets, $failed with a finding"
[ "$failed" = 0 ]
