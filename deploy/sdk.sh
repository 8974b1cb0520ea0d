#!/usr/bin/env bash
# Runs the SDKs of Alipay and WeChat Pay, as they come from the npm registry, against
# `clearward sandbox`: only the address is another. The versions are those of the
# lock file in channels/sandbox/live/testdata/sdk. Where Node.js or the SDKs cannot
# be had it prints why and succeeds; once they are here, a call that comes to
# something else fails the script.
set -euo pipefail
cd "$(dirname "$0")/.."

nothing() {
  echo "test-sdk: nothing was tested: $1"
  exit 0
}

deploy/setup.sh node || nothing "Node.js 18 or newer and npm are not here (see above)"

work=$(mktemp -d "${TMPDIR:-/tmp}/clearward-sdk.XXXXXX")
sandbox=
finish() {
  if [ -n "$sandbox" ] && kill "$sandbox" 2>/dev/null; then
    wait "$sandbox" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

cp -r channels/sandbox/live/testdata/sdk "$work/sdk"
echo "test-sdk: fetching the SDKs from the npm registry"
if ! (cd "$work/sdk" && timeout 300 npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier) >"$work/npm.log" 2>&1; then
  sed 's/^/  /' "$work/npm.log" | tail -n 15
  nothing "npm could not fetch alipay-sdk and wechatpay-axios-plugin (see above)"
fi

go build -o "$work/clearward" .
cat >"$work/sandbox.yaml" <<'Y'
merchants:
  - {no: "1900000109", channel: WECHAT, apps: [wxd678efh567hg6787], fee_rate: "0.0060", bank_account: "755947919810515", opening_fen: 500000, retained_fen: 100000}
  - {no: "20880000000000020156", channel: ALIPAY, apps: ["2021000000000001"], fee_rate: "0.0060", bank_account: "755947919810515", opening_fen: 800000, retained_fen: 800000}
Y
CLEARWARD_CLOCK="$work/clock" "$work/clearward" sandbox --dir "$work/data" --config "$work/sandbox.yaml" >"$work/out" 2>"$work/err" &
sandbox=$!
for _ in $(seq 1 240); do
  if grep -qs '^{' "$work/out"; then break; fi
  if ! kill -0 "$sandbox" 2>/dev/null; then break; fi
  sleep 0.25
done
addresses=$(grep '^{' "$work/out" || true)
if [ -z "$addresses" ]; then
  cat "$work/out" "$work/err"
  echo "test-sdk: the sandbox did not start within 60 s (see above)" >&2
  exit 1
fi
if ! timeout 300 node "$work/sdk/run.js" "$work/data/keys" "$addresses"; then
  echo "test-sdk: a call came to something else, or to nothing within 300 s (see above)" >&2
  exit 1
fi
