#!/usr/bin/env bash
# Runs the feed tests against a real Apache Kafka: fetched by Maven, started as
# one KRaft node on free loopback ports in a folder of its own, stopped and
# removed at the end. Where Kafka cannot be had it prints why and succeeds; once
# the broker runs, a failing test fails the script. What stands behind the command
# goes to go test: -run, -count.
set -euo pipefail
cd "$(dirname "$0")/../.."

nothing() {
  echo "test-kafka: nothing was tested: $1"
  exit 0
}

if ! grep -rqs --include='*_test.go' CLEARWARD_TEST_KAFKA_BROKERS recon/feed; then
  echo "test-kafka: no test in recon/feed asks for CLEARWARD_TEST_KAFKA_BROKERS" >&2
  exit 1
fi
deploy/setup.sh java || nothing "Java 17 or newer and Maven are not here (see above)"

work=$(mktemp -d "${TMPDIR:-/tmp}/clearward-kafka.XXXXXX")
broker=
finish() {
  if [ -n "$broker" ] && kill "$broker" 2>/dev/null; then
    wait "$broker" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

echo "test-kafka: fetching Apache Kafka as a Maven artifact"
if ! timeout 300 mvn -q -B -f deploy/kafka/pom.xml dependency:build-classpath \
  -DincludeScope=runtime -Dmdep.outputFile="$work/classpath" >"$work/maven.log" 2>&1; then
  sed 's/^/  /' "$work/maven.log" | tail -n 15
  nothing "Maven could not fetch org.apache.kafka:kafka_2.13 (see above)"
fi
classpath=$(cat "$work/classpath")

# A port counts as free when nobody answers on it. Another process may take it
# in between; the broker then fails to start and says so.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
}
port=$(free_port)
controller=$(free_port)
while [ "$controller" = "$port" ]; do controller=$(free_port); done

cat >"$work/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
log.dirs=$work/data
# Time passes quickly: what the broker may delete is looked for every second.
log.initial.task.delay.ms=500
log.retention.check.interval.ms=1000
num.partitions=1
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
P
cat >"$work/log4j2.yaml" <<'P'
Configuration:
  Appenders:
    Console:
      name: out
      PatternLayout:
        pattern: "%d %p %c: %m%n"
  Loggers:
    Root:
      level: INFO
      AppenderRef:
        - ref: out
P
kafka_java() { java -Xms128m -Xmx384m -Dlog4j2.configurationFile="$work/log4j2.yaml" -cp "$classpath" "$@"; }

cluster=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')
if ! kafka_java kafka.tools.StorageTool format --cluster-id "$cluster" \
  --config "$work/server.properties" >"$work/format.log" 2>&1; then
  tail -n 20 "$work/format.log"
  echo "test-kafka: the broker's storage could not be formatted (see above)" >&2
  exit 1
fi

java -Xms128m -Xmx384m -Dlog4j2.configurationFile="$work/log4j2.yaml" -cp "$classpath" \
  kafka.Kafka "$work/server.properties" >"$work/broker.log" 2>&1 &
broker=$!
for _ in $(seq 1 240); do
  if grep -q 'Kafka Server started' "$work/broker.log"; then break; fi
  if ! kill -0 "$broker" 2>/dev/null; then break; fi
  sleep 0.25
done
if ! grep -q 'Kafka Server started' "$work/broker.log"; then
  tail -n 30 "$work/broker.log"
  echo "test-kafka: the broker did not start within 60 s (see above)" >&2
  exit 1
fi
version=$(sed -n 's/.*Kafka version: \([0-9.]*\).*/\1/p' "$work/broker.log" | head -n 1)
echo "test-kafka: Apache Kafka ${version:-?} listens on 127.0.0.1:$port"

CLEARWARD_TEST_KAFKA_BROKERS="127.0.0.1:$port" \
  go test -vet=off -count=1 -timeout 10m "$@" ./recon/feed/...
