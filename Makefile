# Each target makes its own virtual environment from constraints.txt; nothing is installed outside it.
#   make demo    the main job on the embedded model          make test    every test
#   make lint    format, lint, types, import contracts       make bench   the speed tables of the README
# TORCH_INDEX=<url> picks another build of torch, such as a CPU or CUDA index.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MODEL := smollm2-135m-instruct
EMBEDDINGS := all-minilm-l6-v2
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt
TORCH := $(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) torch,true)

.PHONY: demo test lint bench clean

demo: $(VENV)/.demo
	$(BIN)/orchestra models pull $(MODEL) $(EMBEDDINGS)
	$(BIN)/orchestra compose examples/office/tasks.jsonl --inventory examples/office/inventory.yaml --budget 30 \
		--out demo/team.yaml --report demo/certificate.html --store demo/orchestra.sqlite
	$(BIN)/orchestra run demo/team.yaml "What is 61 * 65?" --store demo/orchestra.sqlite

test: $(VENV)/.dev
	$(BIN)/orchestra models pull $(MODEL) $(EMBEDDINGS)
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/orchestra models pull $(MODEL) $(EMBEDDINGS)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(TORCH)
	$(PIP) -e '.[local,embeddings,draw]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(TORCH)
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.demo
