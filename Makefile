# Everything that a developer or a newcomer types. Needs Python 3.11 to 3.13 and make, nothing else.

# The first of these that is there and fits; PYTHON=... names another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Tests that neither load TensorFlow nor start commands or other processes.
UNIT := -m "not tf and not process" $(patsubst %,--ignore tests/test_%,cli faults serve jit.py windows.py)
READY := $(VENV)/.ready-dev
USER_READY := $(VENV)/.ready

.PHONY: help install install-dev format style check coverage test test-unit test-all demo docs bench bench-all clean

help:  ## show this
	@grep -E '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(USER_READY)  ## make .venv with the command deeplabctl in it
install-dev: $(READY)  ## also what checks and tests need

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(USER_READY): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[serve]"
	@touch $@

$(READY): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@ $(USER_READY)

format: install-dev  ## format the code
	$(BIN)/ruff format deeplabctl tests benchmarks
	$(BIN)/ruff check --fix deeplabctl tests benchmarks

style: install-dev  ## format, style and types
	$(BIN)/ruff format --check deeplabctl tests benchmarks
	$(BIN)/ruff check deeplabctl tests benchmarks
	$(BIN)/mypy

check: style  ## style, and the coverage of the unit tests
	$(BIN)/python -m pytest $(UNIT) $(PARALLEL) --cov --cov-report=
	$(BIN)/coverage report --format=total

coverage: install-dev  ## lines that the unit tests run, room by room
	$(BIN)/python -m pytest $(UNIT) $(PARALLEL) --cov --cov-report=term:skip-covered

test: install-dev  ## unit and TensorFlow tests (minutes), on up to 4 CPUs
	$(BIN)/python -m pytest $(PARALLEL)

test-unit: install-dev  ## only tests without TensorFlow and without commands (a minute)
	$(BIN)/python -m pytest $(UNIT) $(PARALLEL)

test-%: install-dev  ## only a room: test-data, test-serve, ...
	@test -n "$(wildcard tests/test_$* tests/test_$*.py)" || { echo "tests/test_$* does not exist"; exit 1; }
	$(BIN)/python -m pytest $(PARALLEL) $(wildcard tests/test_$* tests/test_$*.py)

test-all: install-dev  ## also the slow tests
	$(BIN)/python -m pytest --slow $(PARALLEL)

demo: install  ## train, evaluate and segment on the built-in data set (minutes)
	@DEEPLABCTL="$(CURDIR)/$(BIN)/deeplabctl" sh demo.sh

docs: $(VENV)/.ready-docs  ## the pages as a site, in build/site; fails where a link leads nowhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open build/site/index.html; with the search: $(BIN)/mkdocs serve"

$(VENV)/.ready-docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@touch $@

bench: install-dev  ## compare speed with PyTorch, ONNX Runtime and pydensecrf, where they are installed (.[bench])
	$(BIN)/python benchmarks/rivals/compare.py
	$(BIN)/python benchmarks/dense_crf.py

bench-all: bench  ## also measure everything else
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

clean:  ## remove what the targets made
	rm -rf $(VENV) demo build .mypy_cache .ruff_cache .pytest_cache .coverage
