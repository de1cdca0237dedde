# Everything a person or CI runs, by name. Needs Python 3.11 to 3.13, make, and a package registry the first time.

.DEFAULT_GOAL := help
.NOTPARALLEL:

BIN := .venv/bin
# Options for the command that a target ends in, as in: make demo ARGS="--from 2013-02-07 --to 2013-02-08"
ARGS ?=
# Processes that run tests.
WORKERS ?= 2
# The benchmark to run, a module of benchmarks/.
BENCH ?= throughput
# What the chaos campaign plays, and for how long.
SEED ?= 1
MINUTES ?= 30

.PHONY: help setup demo test test-fast chaos lint format bench lock clean dev

help: ## list these commands
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv from requirements/demo.lock, unless it is there
	@sh requirements/install.sh demo

demo: setup ## play four days of real flights through a real Kafka (ARGS="--help" for options)
	@$(BIN)/midstream demo $(ARGS)

test: lint ## run everything: lint, then all tests
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup --junitxml=build/junit.xml $(ARGS)

test-fast: dev ## run the tests that need no broker and end in seconds
	$(BIN)/pytest -m "not broker and not chaos and not slow and not peers and not year" $(ARGS)

chaos: dev ## strike real workers and brokers with faults for MINUTES, and check what is left (SEED=1 MINUTES=30)
	@$(BIN)/python -m tests.chaos.campaign --seed $(SEED) --minutes $(MINUTES) --report chaos-report.json $(ARGS)

lint: dev ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: dev ## put style right where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: dev ## measure (BENCH=throughput, ARGS=--json)
	$(BIN)/python -m benchmarks.$(BENCH) $(ARGS)

lock: ## write the lock files anew from pyproject.toml (ARGS=--upgrade for newer versions)
	sh requirements/lock.sh $(ARGS)

clean: ## remove what was made here; Kafka's jars and the broker's data stay (midstream broker --help)
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

dev:
	@sh requirements/install.sh dev
