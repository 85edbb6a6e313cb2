# Two commands on a fresh machine: `make demo` and `make test`. Each makes the
# environment that it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# With the lowest versions that pyproject.toml names.
OLDEST := $(VENV)-oldest
# With the tools that make and check the distributions, and without the package.
BUILD := $(VENV)-build
NOTEBOOKS ?= examples
# The scripts that are notebooks, too.
SCRIPTS ?= plot_shop.py plot_tune.py plot_compare.py plot_next_item.py
# Processes that run the tests, and what else pytest is told:
# make test PYTEST_ARGS="-m 'not slow' tests/metrics"
PYTEST_WORKERS ?= 2
PYTEST_ARGS ?=
PIP := -m pip install --quiet --disable-pip-version-check --constraint

.PHONY: demo test test-oldest lint notebooks docs build clean

demo: $(VENV)/.test
	$(BIN)/python examples/plot_quickstart.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

test-oldest: $(OLDEST)/.test
	$(OLDEST)/bin/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

# The notebooks beside their scripts, executed anew; NOTEBOOKS=dir puts them elsewhere.
notebooks: $(VENV)/.notebook
	$(BIN)/python examples/make_notebooks.py --output-dir $(NOTEBOOKS) \
		$(SCRIPTS)

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -j auto -W --keep-going -b html docs docs/_build/html

# An sdist, and the wheel that is made of it, as an index takes them. With VERSION they must
# be of this version.
build: $(BUILD)/.build
	rm -rf dist
	$(BUILD)/bin/python -m build --outdir dist
	$(BUILD)/bin/python -m twine check --strict dist/*
	test -z "$(VERSION)" || test -f "dist/sktwotower-$(VERSION).tar.gz"

EXTRAS = $*
$(VENV)/.test: EXTRAS = test,fuzz

# torch goes first and alone, so that its pinned version is taken whatever else asks for it.
$(VENV)/.test $(VENV)/.lint $(VENV)/.notebook $(VENV)/.docs: $(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(PIP) constraints.txt torch
	$(BIN)/python $(PIP) constraints.txt --editable ".[$(EXTRAS)]"
	touch $@

$(OLDEST)/.test: pyproject.toml constraints-oldest.txt | $(OLDEST)/bin/python
	$(OLDEST)/bin/python $(PIP) constraints-oldest.txt torch
	$(OLDEST)/bin/python $(PIP) constraints-oldest.txt --editable ".[test]"
	touch $@

$(BUILD)/.build: constraints.txt | $(BUILD)/bin/python
	$(BUILD)/bin/python $(PIP) constraints.txt build twine
	touch $@

$(BIN)/python $(OLDEST)/bin/python $(BUILD)/bin/python: %/bin/python:
	$(PYTHON) -m venv $*

clean:
	rm -rf $(VENV) $(OLDEST) $(BUILD) build dist docs/_build docs/_drawings docs/auto_examples \
		docs/generated
