# Two commands matter: `make demo` and `make test`. All that they need beside make is Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
COMPILE = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
    --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(LOCK_ARGS)
# The library's own notes of closed connections are no part of what is to be read.
export GRPC_VERBOSITY := NONE

.DEFAULT_GOAL := help
.PHONY: help demo run test soak bench lint lock openapi clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*##/ #/' | awk -F' # ' '{ printf "make %-7s %s\n", $$1, $$2 }'

demo: .venv/run  ## see both updates happen, on this machine alone
	@$(BIN)/python -m deploy.local.demo

run: .venv/run  ## leave it all running, with curl lines to paste
	@$(BIN)/python -m deploy.local.run

test: .venv/dev .venv/airflow/done .venv/terraform/done lint  ## everything that must pass
	@echo "== tests: the real server, real sockets"
	@# A file's tests on one worker: what they share (a deployment, a plan) is made once.
	@$(BIN)/pytest -n 2 --dist loadfile --cov --cov-report= $(PYTEST_ARGS)
	@echo "== branch coverage of what is pure"
	@$(BIN)/coverage report --fail-under=100 --include='schemas/*,handlers/hooks.py,handlers/senders.py,handlers/signatures.py,handlers/proofs.py,handlers/results.py,handlers/retries.py,handlers/providers/*,handlers/logs.py'
	@echo "== a minute of chaos"
	@$(MAKE) --no-print-directory soak MINUTES=1
	@echo "== all passed"

soak: .venv/dev  ## MINUTES=n of mixed senders and faults at random; nothing may be missing at the end
	@$(BIN)/python -m tests.soak $(or $(MINUTES),1) $(if $(SEED),--seed $(SEED)) $(if $(PLOT),--plot $(PLOT))

bench: .venv/bench/done  ## what an event, a start and a megabyte cost, beside what can't be avoided
	@$(BIN)/python -m tests.benchmarks --python $(CURDIR)/.venv/bench/bin/python $(or $(BENCH_ARGS),--write tests/benchmarks)
	@$(if $(BENCH_ARGS),,$(BIN)/python -m tests.benchmarks.report)

lint: .venv/dev  ## ruff and mypy
	@echo "== ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "== mypy --strict"
	@$(BIN)/mypy

lock: .venv/dev  ## compile the requirements from pyproject.toml
	$(COMPILE) pyproject.toml -o requirements.txt
	$(COMPILE) --no-strip-extras --group dev -c requirements.txt -o tests/requirements.txt
	$(COMPILE) --group airflow -o tests/airflow.txt
	$(COMPILE) --group terraform -o tests/terraform.txt

openapi: .venv/dev  ## make deploy/openapi.json from the schemas
	@$(BIN)/python -m deploy.local.openapi

clean:  ## remove what the others built
	find . -name __pycache__ -not -path './.venv/*' -exec rm -rf {} +
	rm -rf .venv .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .soak

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and "Python 3.11 or newer is needed, this is %s.%s: try make PYTHON=python3.12 ..." % v or 0)'
	@echo "== a virtual environment in .venv"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# A stamp each: installed again only when what is to be installed has changed.
.venv/run: requirements.txt | .venv/bin/python
	@echo "== installing what the function needs (a minute on a slow line)"
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

# What is deployed, and not more: what the tests need would be imported, too, by libraries that look for it.
.venv/bench/done: requirements.txt | .venv/dev
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .venv/bench
	@$(BIN)/uv pip install -q --compile-bytecode --require-hashes --python .venv/bench -r requirements.txt
	@touch $@

.venv/dev: tests/requirements.txt .venv/run
	@echo "== installing what the tests need (two minutes on a slow line)"
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r tests/requirements.txt
	@touch $@

# Apart from all else, so that these have no say in the versions that the function and its tests run with: Airflow, for
# the test of its recipe, and what stands in for terraform's Google provider.
.venv/airflow/done .venv/terraform/done: .venv/%/done: tests/%.txt | .venv/dev
	@echo "== installing what the tests of $* need (airflow: a minute on a slow line)"
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .venv/$*
	@$(BIN)/uv pip install -q --require-hashes --python .venv/$* -r tests/$*.txt
	@touch $@
