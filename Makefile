# Every target builds its own environment first: a fresh clone needs Python >= 3.11, git and make.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: venv test lint types layers tests ci clean

venv: .venv.stamp

.venv.stamp: requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tinker-actors needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch .venv.stamp

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
	HYPOTHESIS_PROFILE=ci $(BIN)/python -m pytest

clean:
	rm -rf .venv .venv.stamp runs
