#!/usr/bin/env bash
# Installs what building and testing Clearward need on a Debian machine and says
# what. It is safe to run again: what is there is left alone.
#
#   deploy/setup.sh [go] [database] [java] [node]      (nothing named: go database)
#
# As root it installs with apt-get; otherwise it prints exactly what to run and
# fails, so that the commands after it do not fail less clearly.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*"; }
has() { command -v "$1" >/dev/null 2>&1; }

updated=
install() {
  if ! has apt-get; then
    say "this is no Debian machine; install the equivalent of: $*"
    return 1
  fi
  if [ "$(id -u)" != 0 ]; then
    say "not root, so nothing is installed; run this and come back:"
    echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
    return 1
  fi
  say "installing $*"
  local log
  log=$(mktemp)
  if ! { [ -n "$updated" ] || apt-get update -qq; } >"$log" 2>&1 </dev/null ||
    ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >>"$log" 2>&1 </dev/null; then
    tail -n 20 "$log"
    rm -f "$log"
    say "apt-get could not install $* (see above)"
    return 1
  fi
  updated=yes
  rm -f "$log"
}

need_go() {
  local wanted have
  wanted=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
  if ! has go; then
    say "Go $wanted or newer is needed and not in PATH: https://go.dev/doc/install"
    return 1
  fi
  have=$(go env GOVERSION)
  say "go: ${have#go} ($(command -v go))"
}

# The newest PostgreSQL server that is here, in PATH or where Debian puts it.
find_postgres() {
  command -v postgres && return
  ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -n 1 | grep .
}

# Debian's package makes and starts a cluster of its own on port 5432. Ours are
# children of our process on other ports, so that one is switched off, but only
# where no PostgreSQL of Debian's has been set up before us.
no_debian_cluster() {
  if [ "$(id -u)" = 0 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p /etc/postgresql-common/createcluster.d
    printf '%s\n' '# Clearward starts its own PostgreSQL; no cluster on port 5432 is wanted.' \
      'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/clearward.conf
  fi
}

need_database() {
  if [ -n "${CLEARWARD_DATABASE_URL:-}" ]; then
    say "database: the one that CLEARWARD_DATABASE_URL names"
  elif [ -n "${COCKROACH_BINARY:-}" ] || has cockroach; then
    say "database: CockroachDB (${COCKROACH_BINARY:-$(command -v cockroach)})"
  else
    if ! find_postgres >/dev/null; then
      no_debian_cluster
      install postgresql || return 1
    fi
    say "database: PostgreSQL ($(find_postgres))"
  fi
}

java_major() { java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1; }

need_java() {
  local missing=()
  if ! has java || [ "$(java_major)" -lt 17 ]; then missing+=(default-jre-headless); fi
  if ! has mvn; then missing+=(maven); fi
  if [ ${#missing[@]} -gt 0 ]; then install "${missing[@]}" || return 1; fi
  if [ "$(java_major)" -lt 17 ]; then
    say "java: version $(java_major) is too old, 17 is needed"
    return 1
  fi
  say "java: $(java_major) ($(command -v java)), maven ($(command -v mvn))"
}

node_major() { node --version 2>/dev/null | sed -n 's/^v\([0-9]*\).*/\1/p'; }

need_node() {
  local missing=()
  if ! has node; then missing+=(nodejs); fi
  if ! has npm; then missing+=(npm); fi
  if [ ${#missing[@]} -gt 0 ]; then install "${missing[@]}" || return 1; fi
  if [ "$(node_major)" -lt 18 ]; then
    say "node: version $(node_major) is too old, 18 is needed"
    return 1
  fi
  say "node: $(node_major) ($(command -v node)), npm ($(command -v npm))"
}

[ $# -gt 0 ] || set -- go database
for what in "$@"; do
  case $what in
    go) need_go ;;
    database) need_database ;;
    java) need_java ;;
    node) need_node ;;
    *)
      say "unknown: $what (go, database, java, node)"
      exit 2
      ;;
  esac
done
