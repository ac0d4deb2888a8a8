# `make demo` and `make test` are all a newcomer needs; both build .venv once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal
# How many examples of each property; see tests/README.md.
EXAMPLES := quick

.PHONY: help demo test test-rest test-all test-avx2 check bench train-smoke clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## answer a question about the documents in examples/papers
	$(BIN)/mm1 analyze examples/papers --ask "When did the crossing open to the public?"

test: $(STAMP) check  ## lint, types, import rule and the tests that are no matter of minutes
	$(PYTEST) --hypothesis-profile=$(EXAMPLES) -m "not slow"

test-rest: $(STAMP)  ## the tests that `make test` leaves out: slow ones, training, benchmarks
	$(PYTEST) --hypothesis-profile=full -m slow

test-all: EXAMPLES := full
test-all: test test-rest  ## every test, with every example of each property

test-avx2: $(STAMP)  ## kernels and engine as torch runs them on a processor without AVX-512
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 \
	$(PYTEST) -m "not slow" tests/kernels tests/engine tests/parity

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(STAMP)  ## the measurements of docs/log.md on this machine
	$(BIN)/python -m benchmarks.prefill
	$(BIN)/python -m benchmarks.lightning
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.answers

train-smoke: $(STAMP)  ## every training stage on a tiny model: the loss falls, a killed run resumes
	$(BIN)/python -m pytest tests/training

clean:  ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
