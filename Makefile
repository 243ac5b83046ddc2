# make run    set up a virtual environment and do the default run: offline, on the CPU, in a minute or two
# make test   set up and run the tests
PYTHON ?= python3
BIN := .venv/bin
export TOKENIZERS_PARALLELISM := false

.PHONY: run test lint bench setup clean

run: setup
	$(BIN)/unlearn run

test: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python scripts/benchmark.py

# reproductions: repro-NAME runs scripts/NAME.sh
repro-%: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/$*.sh

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist
