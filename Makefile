# `make demo` and `make test` are all a newcomer needs; both build .venv once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: help demo test test-rest test-properties test-all test-avx2 check bench train-smoke clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## answer a question about the documents in examples/papers
	$(BIN)/mm1 analyze examples/papers --ask "Who built the crossing, and when did it open?"

test: $(STAMP) check  ## lint, types, import rules and the product's tests, ten examples a property
	$(PYTEST) -m "not slow and not rest"

test-rest: $(STAMP)  ## what `make test` leaves out: training, benchmarks, README's examples
	$(PYTEST) -m "not slow and rest"

test-properties: $(STAMP)  ## all examples of each property; minutes
	$(PYTEST) --hypothesis-profile=full -m "not slow and hypothesis"

test-all: test test-rest  ## both; what CI runs

test-avx2: $(STAMP)  ## kernels and engine as torch runs them on a processor without AVX-512
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 \
	$(PYTEST) -m "not slow and not rest and not server" \
	--ignore-glob="tests/kernels/test_*jit.py" --ignore-glob="tests/kernels/test_ggml*" \
	--ignore-glob="tests/kernels/test_*triton*" --ignore=tests/kernels/test_compilation.py \
	tests/kernels tests/parity tests/engine/layers tests/engine/test_context.py \
	tests/engine/test_model.py tests/engine/test_options.py tests/engine/test_selection.py

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(STAMP)  ## the measurements of benchmarks/LOG.md on this machine
	$(BIN)/python -m benchmarks.prefill
	$(BIN)/python -m benchmarks.lightning
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.answers --sample 24

train-smoke: $(STAMP)  ## every training stage on a tiny model: the loss falls, a killed run resumes
	$(BIN)/python -m pytest tests/training

clean:  ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
