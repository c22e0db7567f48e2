# Two commands: `make run` builds the default system and serves it; `make test` runs the tests.
# Needs Python 3.11 or newer and make; everything else goes into .venv. A C++ compiler makes it faster.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# PyTorch comes by pip, which knows the index that its user has set up for it; the rest by uv, which takes seconds.
TORCH := $(shell sed -n 's/^ *"\(torch[>=][^"]*\)".*/\1/p' pyproject.toml)
INSTALL = $(BIN)/uv pip install --python $(BIN)/python --reinstall-package lmworks
# Two processes, each of which takes some gigabytes where it tests real weights. Neighbours in a file stay together.
TEST = $(BIN)/python -m pytest -n 2 --dist worksteal
# The C++ parts are compiled while the package is installed, so a change of theirs installs it again.
COMPILED := pyproject.toml CMakeLists.txt $(wildcard src/lmworks/*/cpp/*)

# Also where the environment forbids it, Python keeps what it compiles: tests start many processes that import the same.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-all lint style docs clean

run: .venv/installed
	$(BIN)/lmworks up assistant

# The types are checked while the tests run, and behind them, whose threads would wait. A failure of either fails; the
# types' errors stand last.
test: .venv/installed-test style
	nice $(BIN)/pyright > .venv/types.log 2>&1 & \
	$(TEST) -m "not slow"; tests=$$?; wait $$!; types=$$?; cat .venv/types.log; exit $$((tests | types))

test-all: .venv/installed-test lint
	$(TEST) --hypothesis-profile full

lint: .venv/installed-test style
	$(BIN)/pyright

style: .venv/installed-test
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/lint-imports

docs: .venv/installed-docs
	$(BIN)/python docs/reference.py
	$(BIN)/zensical build --clean

clean:
	rm -rf .venv build .lmworks .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.venv/torch:
	@test -n "$(PYTHON)" || { echo "lmworks needs Python 3.11 or newer: install it, or run make PYTHON=/path/to/python"; exit 1; }
	@echo "Installing into .venv: some minutes the first time, most of them for PyTorch, which is large"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check uv '$(TORCH)'
	touch $@

.venv/installed: .venv/torch $(COMPILED)
	$(INSTALL) --editable '.[all]'
	touch $@

.venv/installed-docs: .venv/installed pyproject.toml
	$(BIN)/uv pip install --python $(BIN)/python $(shell sed -n 's/^docs = \[\(.*\)\].*/\1/p' pyproject.toml | tr -d ',')
	touch $@

# Not made on top of the above: the kernels are compiled once, for all sets of instructions that are tested.
.venv/installed-test: .venv/torch $(COMPILED)
	$(INSTALL) --config-setting cmake.define.LMWORKS_ALL_KERNELS=ON --editable '.[test]'
	touch .venv/installed $@
