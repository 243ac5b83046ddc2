# make run    set up a virtual environment and do the default run: offline, on the CPU, in a minute or two
# make test   set up and run the tests: at most 10 minutes on two idle cores
#   test-fast   a short way through every step, in 90 seconds
#   test-slow   every attack on models of which all is known, and long simulations: at most half an hour
PYTHON ?= python3
BIN := .venv/bin
export TOKENIZERS_PARALLELISM := false

.PHONY: run test test-fast test-slow lint bench setup clean

run: setup
	$(BIN)/unlearn run

test: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

FAST := tests/runtime tests/methods tests/metrics tests/leak tests/localize/places tests/attacks/optimized \
    tests/test_imports.py tests/test_recipe.py tests/report/test_folder.py \
    tests/test_attacked_run.py::test_a_run_is_attacked \
    tests/test_localized_run.py::test_a_run_under_a_mask

test-fast: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" $(FAST)

test-slow: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow

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
