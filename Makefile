# Everything there is to run, by name. `make` alone lists it.

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes
TESTS ?= tests
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help run test simulate bench-router usage-proof lint format lock clean

help:
	@echo 'make run      start everything, deploy a small model on the mock provider, ask it something; Ctrl-C stops it'
	@echo 'make test     all tests, on real Postgres and Redis (TESTS=tests/fleet for a part)'
	@echo 'make simulate SEEDS=20000   random schedules of the orchestrator under faults, on all cores; SEED=4711 tells one'
	@echo 'make bench-router PEERS=venv   the router beside nginx, and beside others if that virtual environment has them'
	@echo 'make usage-proof REQUESTS=100000   usage counted once, while all that counts it is killed again and again'
	@echo 'make lint     ruff, mypy, the floors, migrations, the OpenAPI document, the deployment check'
	@echo 'make format   let ruff format and mend the code'
	@echo 'make lock     lock the requirements anew (requirements/*.in to *.txt)'
	@echo 'make clean    end what runs and delete its data (.inventiv) and the tools'"'"' caches'

run: $(VENV)/.base
	@$(PYTHON) manage.py run

test: $(VENV)/.dev
	$(PYTHON) -m pytest -n $(WORKERS) --dist loadgroup $(TESTS)

simulate: $(VENV)/.dev
ifdef SEED
	SIMULATION_SEED=$(SEED) $(PYTHON) -m pytest -q -s --disable-warnings tests/simulation/test_random_schedules.py -k one_seed
else
	SIMULATION_FIRST=$(FIRST) SIMULATION_SEEDS=$(or $(SEEDS),2000) $(PYTHON) -m pytest -q -n $$(nproc) tests/simulation/test_random_schedules.py
endif

bench-router: $(VENV)/.base
	$(PYTHON) -m benchmarks.router $(if $(PEERS),--peers $(PEERS)) $(OPTIONS)

usage-proof: $(VENV)/.dev
	USAGE_REQUESTS=$(or $(REQUESTS),100000) $(PYTHON) -m pytest -q -s --disable-warnings tests/acceptance/test_usage_counted_once.py

lint: $(VENV)/.dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy .
	$(VENV)/bin/lint-imports
	$(PYTHON) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(PYTHON) manage.py spectacular --validate --fail-on-warn --file /dev/null
	HTTPS=true $(PYTHON) manage.py check --deploy --fail-level WARNING

format: $(VENV)/.dev
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

lock: $(VENV)/.dev
	@for name in server tracing base dev; do \
		$(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
			--no-header --no-emit-index-url --no-emit-find-links requirements/$$name.in -o requirements/$$name.txt || exit; \
	done

clean:
	@if [ -x $(PYTHON) ]; then $(PYTHON) manage.py wipe; fi
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/.base: requirements/base.txt | $(VENV)/bin/python
	@echo 'Installing what it takes (requirements/base.txt) ...'
	@$(PIP) -r requirements/base.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt | $(VENV)/bin/python
	@echo 'Installing what it takes (requirements/dev.txt) ...'
	@$(PIP) -r requirements/dev.txt
	@touch $@

# The first Python that is new enough and can make a virtual environment.
$(VENV)/bin/python:
	@for python in python3.13 python3.12 python3.11 python3; do \
		if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			exec $$python -m venv $(VENV); \
		fi; \
	done; \
	echo 'Python 3.11 or later with its venv module is needed (on Debian and Ubuntu: apt install python3-venv).' >&2; \
	exit 2
