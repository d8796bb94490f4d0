# The same commands for people and for CI. Everything is installed into .venv from locked, hashed requirements.
PYTHON ?= python3
BIN := .venv/bin
# Tests in parallel have engines of their own; where the environment names engines, there is one of each.
JOBS ?= $(if $(DATABASE_URL)$(VALKEY_URL),0,2)

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
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# The guard and its memory are measured in an environment of its own, beside what people use today.
.venv-bench/ready: requirements/bench.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --require-hashes -r requirements/bench.txt
	@touch $@

bench: setup .venv-bench/ready
	@set -e; for script in $(filter-out bench/bench_queries.py,$(wildcard bench/bench_*.py)); do echo "== $$script"; \
	  case $$script in *guard.py|*memory.py) python=.venv-bench/bin/python;; *) python=$(BIN)/python;; esac; $$python "$$script"; done

# Needs uv. Pins stay as they are unless they have to change; add ARGS=--upgrade to move them.
lock:
	uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --no-header -q $(ARGS) -o requirements/runtime.txt
	uv pip compile pyproject.toml --universal --all-extras -c requirements/runtime.txt --generate-hashes --no-emit-index-url --no-header -q $(ARGS) -o requirements/dev.txt
	uv pip compile --group bench --universal -c requirements/dev.txt --generate-hashes --no-emit-index-url --no-header -q $(ARGS) -o requirements/bench.txt
