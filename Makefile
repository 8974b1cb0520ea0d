# Everything that building, testing and running Clearward takes. A bare Debian
# machine with Go and make is enough: what else is needed is installed and named
# by deploy/setup.sh.

SHELL := /bin/bash
.DEFAULT_GOAL := build
.PHONY: build demo test conformance cycles lint bench readme-bench proto fuzz fuzz-short test-kafka test-sdk test-cockroach setup clean

build: ## the program: build/clearward
	go build -o build/clearward .

demo: setup build ## the sample day from its files, and a day of three hospitals lived, reconciled and paid out
	build/clearward demo

# go vet is a part of `make lint`. Tests start a PostgreSQL of their own, so the
# order of packages and a database on this machine do not matter.
test: setup ## every test but the long fuzzing
	go test -vet=off -timeout 15m ./...

conformance: setup ## every fault at every step of every channel: the table of final states
	go test -vet=off -count=1 -v -run '^TestEvery(FaultAtEveryStep|AdapterPasses)' ./features
	go test -vet=off -count=1 -v -run '^TestEveryFaultAtEveryStepOfTheBank' ./api

cycles: setup ## 10,000 payments over the API, followed and given back while anything goes wrong
	go test -vet=off -count=1 -v -timeout 30m -run '^TestCyclesUnderFaults' ./features -args -cycles.n 10000

lint: ## gofmt, modules, vet, staticcheck, unchecked errors, dead code
	@deploy/lint.sh

bench: setup build ## print the figures and write bench.json
	build/clearward bench --out bench.json

readme-bench: ## put the figures of bench.json into the README
	go run ./deploy/benchtable bench.json README.md

# The Go made from .proto files stands beside them and is committed; the hash
# written last is what tidy_test.go compares, since buf itself takes too long.
proto: ## lint the .proto files and generate their Go
	go tool -modfile=tools.mod buf lint
	go tool -modfile=tools.mod buf generate
	go test -vet=off -count=1 -run '^TestGeneratedCodeIsFresh$$' . -args -record
	go test -vet=off -count=1 -run '^TestTheDescriptionOfTheCallsIsFresh$$' ./api -args -record

fuzz: ## every fuzz target for 10 minutes
	@deploy/fuzz.sh 10m

fuzz-short: ## every fuzz target for 20 seconds
	@deploy/fuzz.sh 20s

test-kafka: setup ## the feed tests against a real Apache Kafka
	@deploy/kafka/test.sh

test-sdk: ## the SDKs of Alipay and WeChat Pay, unchanged, against the sandbox
	@deploy/sdk.sh

test-cockroach: ## every test with a database against a CockroachDB
	@deploy/cockroach.sh

setup:
	@deploy/setup.sh

clean:
	rm -rf build
