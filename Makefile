# Every target builds its own environment first: a fresh clone needs Python >= 3.11, git and make.

PYTHON ?= python3
BIN := .venv/bin
DEMO_OPTIONS ?=
PARALLEL ?= --numprocesses=auto --dist=worksteal
SDKS := 0.25.0 0.24.1

.PHONY: venv sdks demo lint types layers tests test conformance ci soak soak-codecs soak-supervision cycles mutants parity bench clean

venv: .venv.stamp

.venv.stamp: requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tinker-actors needs Python 3.11 or newer")'
	@echo 'Building .venv: a minute or two, once'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch .venv.stamp

# Older official SDKs, for the conformance tests: each in an environment of its own, half a minute, once.
sdks: $(SDKS:%=.conformance/%.stamp)

.conformance/%.stamp: requirements/conformance-%.txt
	rm -rf .conformance/$*
	$(PYTHON) -m venv .conformance/$*
	.conformance/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

demo: venv
	$(BIN)/tinker-actors demo $(DEMO_OPTIONS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/basedpyright

layers: venv
	$(BIN)/lint-imports

# What counts the blocks of a process has processes of its own, where nothing else comes and goes.
MEMORY := tests/supervision/test_memory.py
tests: venv
	$(BIN)/python -m pytest $(PARALLEL) -m "not ci and not conformance" --ignore=$(MEMORY)
	$(BIN)/python -m pytest $(PARALLEL) $(MEMORY)

test: lint types layers tests

conformance: venv sdks
	$(BIN)/python -m pytest -m conformance

# Ten times the examples for what is promised of supervision and of whole runs; the codecs' thousands are `make soak-codecs`'.
ci: test sdks
	HYPOTHESIS_PROFILE=ci $(BIN)/python -m pytest $(PARALLEL) -m "ci or hypothesis" tests/property tests/supervision
	$(BIN)/python -m pytest $(PARALLEL) -m "ci or conformance" --ignore=tests/property --ignore=tests/supervision

# Simulated runs for so many seconds, each with programs, faults and a schedule of its own.
SECONDS ?= 60
soak: venv
	$(BIN)/python -m tinker_actors.testing.campaign soak --seconds $(SECONDS) --first $(shell date +%s)

# 20,000 examples of each property of the values, the codecs and the wire: hours.
soak-codecs: venv
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest $(PARALLEL) -m hypothesis tests/types tests/codec tests/wire

soak-supervision: venv
	$(BIN)/python -m tests.supervision.soak $(PARALLEL)

# Client and server of a job killed, frozen and asked to end at random moments: a quarter of an hour for 50 runs.
CYCLES ?= 50
cycles: venv
	$(BIN)/python -m tests.processes.cycles $(CYCLES)

mutants: venv sdks
	$(BIN)/python -m tests.mutants.run
	$(BIN)/python -m tests.parity.run --stubs

parity: venv
	$(BIN)/python -m tests.parity.run

bench: venv
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .venv.stamp .conformance runs
