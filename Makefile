# `make demo` and `make test` need python3 (3.11+), python3-venv, make and git; nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Extra words for the demo (make demo ARGS=--help), for pytest (make test ARGS='-k in_answer') or for the benchmark
# (make bench ARGS='--only latency').
ARGS ?=

.PHONY: demo test bench check-code format deb docs reliability lock clean

demo: $(VENV)/.run
	PYTHONPATH=src $(BIN)/python -m ami2zammad demo $(ARGS)

test: check-code
	$(BIN)/python -m pytest $(ARGS)

# Speed and memory beside those of others, in the same run: a table, and bench/results.json (docs/performance.md).
bench: $(VENV)/.ready
	$(BIN)/python -m bench $(ARGS)

check-code: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy packaging/debian/build.py

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The Debian packages for Debian 12 and 13, in dist/ (make deb ARGS='--release 13': only one).
deb: $(VENV)/.ready
	$(BIN)/python packaging/debian/build.py $(ARGS)

# Writes docs/configuration.md from the settings' own definitions.
docs: $(VENV)/.ready
	$(BIN)/python docs/configuration.py

# What the bridge needs to run: locked versions with hashes.
$(VENV)/.run: requirements/run.txt
	$(PYTHON) -c 'import sys; sys.exit("ami2zammad needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements/run.txt
	touch $@

# What its development needs on top; the package itself is installed as it stands in src/.
$(VENV)/.ready: $(VENV)/.run requirements/dev.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# Tries everything that can fail (some minutes), and writes what came of it into docs/reliability.md.
reliability: $(VENV)/.ready
	$(BIN)/python -m pytest tests/faults
	$(BIN)/python -m tests.faults.report

# Renews the locked versions (needs uv).
lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --upgrade --quiet -o requirements/run.txt
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --upgrade --quiet -o requirements/dev.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis test-report
