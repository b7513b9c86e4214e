# The two main commands are `make demo` and `make test`. They need make and Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
COMPILE = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
    --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(LOCK_ARGS)
# `uv sync` makes a virtual environment without pip.
PIP_INSTALL = { $(BIN)/python -m pip --version || $(BIN)/python -m ensurepip; } >/dev/null 2>&1; \
    $(BIN)/python deploy/local/install.py
# Silence the messages of the gRPC library about closed connections.
export GRPC_VERBOSITY := NONE
# Let uv trust the certificates that this machine trusts, as pip does. Some networks have a proxy with its own CA.
export UV_SYSTEM_CERTS := true

.DEFAULT_GOAL := help
.PHONY: help demo run check test soak bench lint ruff mypy imports hooks unit lock openapi schema tables picture clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*##/ #/' | awk -F' # ' '{ printf "make %-7s %s\n", $$1, $$2 }'

demo: .venv/run  ## update a dataset on Apify and one on data.world, all on this machine
	@$(BIN)/python -m deploy.local.demo

run: .venv/run  ## start the function, both providers, and Secret Manager, and print curl commands to paste
	@$(BIN)/python -m deploy.local.run

check: .venv/dev  ## run the linters, the tests of the hooks, and the unit tests (in half a minute)
	@$(MAKE) --no-print-directory --jobs=2 unit lint

test: .venv/dev .venv/airflow/done .venv/terraform/done lint  ## run all checks and tests
	@echo "== all tests"
	@# All tests of a file run in one worker, which makes the fixtures of the module (a deployment, a plan) only once.
	@$(BIN)/pytest -n 2 --dist loadfile --cov --cov-report= $(PYTEST_ARGS)
	@echo "== branch coverage of the code without I/O"
	@$(BIN)/coverage report --fail-under=100
	@echo "== a minute of soak"
	@$(MAKE) --no-print-directory soak MINUTES=1
	@echo "== everything passed"

soak: .venv/dev  ## send events for MINUTES=n while faults happen at random, and then look for lost updates
	@$(BIN)/python -m tests.soak $(or $(MINUTES),1) $(if $(SEED),--seed $(SEED))

bench: .venv/bench/done  ## measure the cost of an event and of a start
	@$(BIN)/python -m tests.benchmarks.bench --python $(CURDIR)/.venv/bench/bin/python \
	    $(or $(BENCH_ARGS),--page tests/benchmarks/README.md)

lint: ruff mypy imports hooks  ## run ruff, mypy, and import-linter, and check deploy/relay.yaml with its tests

ruff: .venv/dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

mypy: .venv/dev
	@$(BIN)/mypy

imports: .venv/dev
	@$(BIN)/lint-imports --no-logo

hooks: .venv/run
	@$(BIN)/python main.py check

unit: .venv/dev  ## run the unit tests
	@$(BIN)/pytest -n 2 --dist worksteal tests/unit $(PYTEST_ARGS)

lock: .venv/dev  ## compile the requirements files from pyproject.toml
	$(COMPILE) pyproject.toml -o requirements.txt
	$(COMPILE) --no-strip-extras --group dev -c requirements.txt -o tests/requirements.txt

openapi: .venv/dev  ## generate deploy/openapi.json from the schemas
	@$(BIN)/python -m deploy.local.openapi

schema: .venv/dev  ## generate deploy/relay.schema.json from the schemas
	@$(BIN)/python -m deploy.local.relay_schema

tables: .venv/dev  ## generate the tables of fields in deploy/recipes/README.md from the schemas
	@$(BIN)/python -m deploy.local.field_tables

picture: .venv/run  ## generate the picture of the demo in README.md
	@$(BIN)/python -m deploy.local.picture

clean:  ## remove the virtual environments and the caches
	find . -name __pycache__ -not -path './.venv/*' -exec rm -rf {} +
	rm -rf .venv .coverage .coverage.* .import_linter_cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .soak

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "$(PYTHON) isn't Python 3.11 or newer. Name a newer one: make PYTHON=python3.13 ..." >&2; exit 1; }
	@# On a terminal, the next line of progress replaces this line.
	@if [ -t 1 ]; then printf 'Making a virtual environment in .venv'; fi
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# The file that each of the following rules makes records the time of the installation. Thus, make installs again only
# after a change of the requirements.
.venv/run: requirements.txt | .venv/bin/python
	@$(PIP_INSTALL) "the function needs (a minute on a slow connection)" -r requirements.txt
	@touch $@

.venv/dev: tests/requirements.txt .venv/run
	@$(PIP_INSTALL) "the tests need (two minutes on a slow connection)" -r tests/requirements.txt
	@touch $@

# The benchmarks measure the function with the packages that are deployed. Some of the function's packages import an
# optional package if it is installed, so the benchmarks need an environment without the packages of the tests.
.venv/bench/done: requirements.txt | .venv/dev
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .venv/bench
	@$(BIN)/uv pip install -q --compile-bytecode --require-hashes --python .venv/bench -r requirements.txt
	@touch $@

# Airflow and the tests of the Terraform code have virtual environments of their own, because their packages must not
# influence the versions of all other packages.
.venv/airflow/done .venv/terraform/done: .venv/%/done: tests/requirements-%.txt | .venv/dev
	@echo "== installing the packages of tests/requirements-$*.txt (airflow: a minute on a slow connection)"
	@$(BIN)/uv venv -q --allow-existing --python $(BIN)/python .venv/$*
	@$(BIN)/uv pip install -q --python .venv/$* -r $<
	@touch $@
