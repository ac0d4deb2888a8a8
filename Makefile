# `make demo` and `make test` are all a newcomer needs; both build .venv once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test check bench train-smoke clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## answer a question about the documents in examples/papers
	$(BIN)/mm1 analyze examples/papers --ask "When did the crossing open to the public?"

test: $(STAMP) check  ## lint, types, import rule and every test
	$(BIN)/python -m pytest -n 2 -m "not slow"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(STAMP)  ## the measurements of benchmarks/LOG.md on this machine
	$(BIN)/python -m benchmarks.prefill
	$(BIN)/python -m benchmarks.lightning
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.answers

train-smoke: $(STAMP)  ## every training stage on a tiny model: the loss falls, a killed run resumes
	$(BIN)/python -m pytest tests/training

clean:  ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
