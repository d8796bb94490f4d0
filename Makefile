# The same commands for people and for CI. Everything is installed into .venv from locked, hashed requirements.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup up test lint types bench lock
setup: .venv/ready

.venv/ready: requirements/runtime.txt requirements/dev.txt sdk/python/pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e sdk/python
	@touch $@

up: setup
	@exec $(BIN)/python manage.py up $(ARGS)

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	@.ci/chromium
	$(BIN)/python -m pytest

bench: setup
	@set -e; for script in bench/bench_*.py; do echo "== $$script"; $(BIN)/python "$$script"; done
