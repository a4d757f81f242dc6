# Every target builds its own environment first: a fresh clone needs Python >= 3.11, git and make.

PYTHON ?= python3
BIN := .venv/bin
SEED ?= 0
SECONDS ?= 60

.PHONY: venv demo test lint types layers tests ci mutants conformance bench soak clean

venv: .venv.stamp

.venv.stamp: requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tinker-actors needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch .venv.stamp

demo: venv
	$(BIN)/tinker-actors demo --seed $(SEED)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/basedpyright

layers: venv
	$(BIN)/lint-imports

tests: venv
	$(BIN)/python -m pytest -m "not ci"

test: lint types layers tests

ci: test
	$(BIN)/python -m pytest -m ci

conformance: venv
	$(BIN)/python -m pytest tests/conformance

mutants: venv
	$(BIN)/python -m tests.mutants

bench: venv
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .venv.stamp runs
