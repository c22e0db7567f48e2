# Two commands: `make run` builds the default system and serves it; `make test` runs the tests.
# Needs Python 3.11 or newer and make; everything else goes into .venv. A C++ compiler makes it faster.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# The first time, pip shows what it downloads and how large that is.
QUIET = $(if $(wildcard $@),--quiet)
PIP = $(BIN)/python -m pip install $(QUIET) --disable-pip-version-check
MINUTES = $(if $(QUIET),its kernels are compiled anew in a minute or two,some minutes the first time (PyTorch is large))
# Two processes, each of which takes some gigabytes where it tests real weights. Neighbours in a file stay together.
TEST = $(BIN)/python -m pytest -n 2 --dist worksteal
# The C++ parts are compiled while the package is installed, so a change of theirs installs it again.
COMPILED := pyproject.toml CMakeLists.txt $(wildcard src/lmworks/*/cpp/*)

.PHONY: run test test-all lint clean

run: .venv/installed
	$(BIN)/lmworks up assistant

test: .venv/installed-test lint
	$(TEST) -m "not slow"

test-all: .venv/installed-test lint
	$(TEST) --hypothesis-profile full

lint: .venv/installed-test
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/pyright
	$(BIN)/lint-imports

clean:
	rm -rf .venv build .lmworks .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.venv/python:
	@test -n "$(PYTHON)" || { echo "lmworks needs Python 3.11 or newer: install it, or run make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed: .venv/python $(COMPILED)
	@echo "Installing lmworks into .venv: $(MINUTES)"
	$(PIP) --editable .
	touch $@

# It is not made on top of the above, which would compile the kernels twice.
.venv/installed-test: .venv/python $(COMPILED)
	@echo "Installing lmworks and what its tests need into .venv: $(MINUTES)"
	$(PIP) --editable '.[test]'
	touch .venv/installed $@
